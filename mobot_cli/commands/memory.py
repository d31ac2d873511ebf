"""`mobot memory`: what a bot remembers."""

from typing import TYPE_CHECKING, Annotated

import typer

from mobot_cli.commands import memory_blocks, memory_care, memory_files, memory_grants
from mobot_cli.commands.memory_arguments import AsJson, BotArgument

if TYPE_CHECKING:
    from mobot.memory.v1 import memory_pb2, memory_service_pb2
    from mobot_cli import services

app = typer.Typer(
    add_completion=False,
    help="What bots remember: add, find, forget, move and look after it.",
    no_args_is_help=True,
)
TagOption = Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option(help="note, fact, preference, episode, task, procedure or summary; may be repeated."),
]


@app.command()
def add(
    bot: BotArgument,
    text: Annotated[str, typer.Argument(help="What to remember.")],
    tag: TagOption = None,
    kind: Annotated[str, typer.Option(help="note, fact, preference, episode, task, procedure or summary.")] = "note",
    importance: Annotated[float | None, typer.Option(help="How much it matters, 0 to 1.", min=0, max=1)] = None,
    pin: Annotated[bool, typer.Option(help="Always recall it first, and never let it expire.")] = False,
    author: Annotated[str, typer.Option(help="Who said it.")] = "",
    ttl: Annotated[float, typer.Option(help="Forget it after so many days; 0 for never.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Remember something. The same text again only refreshes the memory."""
    from datetime import timedelta

    from mobot.memory.v1 import memory_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        draft = memory_pb2.MemoryDraft(
            memory=memory_pb2.Memory(
                text=text,
                tags=tag or [],
                kind=kind_of(kind),
                importance=importance,
                pinned=pin,
                author=author,
                provenance=memory_pb2.Provenance(source=memory_pb2.MEMORY_SOURCE_OPERATOR),
            ),
            near_duplicate_limit=3,
        )
        if ttl:
            draft.ttl.FromTimedelta(timedelta(days=ttl))
        answer = await mobot.memory.PutMemory(
            memory_service_pb2.PutMemoryRequest(parent=addresses.bot_name(bot), draft=draft)
        )
        if as_json:
            printing.print_json(printing.as_json(answer.result))
            return
        known = answer.result.outcome == memory_pb2.PUT_OUTCOME_TOUCHED
        printing.print_line(f"{'Known already' if known else 'Remembered'}: {answer.result.memory.name}")
        for near in answer.result.near_duplicates:
            printing.print_line(f"  much like {near.memory}: {printing.clean(near.excerpt, limit=100)}")
        await _note_unknown_bot(mobot, addresses.bot_name(bot))

    services.run(command)


@app.command()
def search(
    bot: BotArgument,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=200)] = 10,
    mode: Annotated[str, typer.Option(help="hybrid (words and meaning), text, or vector.")] = "hybrid",
    tag: TagOption = None,
    kind: KindOption = None,
    explain: Annotated[bool, typer.Option(help="Show the parts of each score.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find memories, best first."""
    from chassis.errors import field_invalid
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        modes = {name: f"SEARCH_MODE_{name.upper()}" for name in ("hybrid", "text", "vector")}
        if mode not in modes:
            raise field_invalid("--mode", f"{mode!r} is none of hybrid, text, vector")
        answer = await mobot.memory.SearchMemories(
            memory_service_pb2.SearchMemoriesRequest(
                parent=addresses.bot_name(bot),
                query=query,
                page_size=limit,
                mode=memory_service_pb2.SearchMode.Value(modes[mode]),
                filter=_filter(tag, kind),
                explain=explain,
            )
        )
        if as_json:
            printing.print_json(printing.as_json(answer))
            return
        printing.print_table(
            ["SCORE", *(["WORDS", "MEANING", "AUTHOR"] if explain else []), "MEMORY", "TEXT"],
            [
                [
                    f"{hit.score:.3f}",
                    *([f"{part:.3f}" for part in _parts(hit)] if explain else []),
                    hit.memory.name.rsplit("/", 1)[1],
                    printing.clean(hit.memory.text, limit=200),
                ]
                for hit in answer.hits
            ],
            empty="Nothing found.",
        )
        for note in answer.report.notes:
            printing.print_line(f"Note: {printing.clean(note)}")

    services.run(command)


@app.command("list")
def list_memories(
    bot: BotArgument,
    limit: Annotated[int, typer.Option(help="At most so many; 0 for all.", min=0)] = 50,
    tag: TagOption = None,
    kind: KindOption = None,
    deleted: Annotated[bool, typer.Option(help="Those that were forgotten and can be brought back, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List memories, the newest first."""
    from mobot.memory.v1 import memory_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ListMemoriesRequest(
            parent=addresses.bot_name(bot), filter=_filter(tag, kind), show_deleted=deleted
        )
        found: list[memory_pb2.Memory] = []
        while not limit or len(found) < limit:
            request.page_size = min(1000, limit - len(found)) if limit else 1000
            page = await mobot.memory.ListMemories(request)
            found.extend(page.memories)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(memory) for memory in found])
            return
        printing.print_table(
            ["MEMORY", "AGE", *(["FORGOTTEN"] if deleted else []), "KIND", "TAGS", "TEXT"],
            [
                [
                    memory.name.rsplit("/", 1)[1],
                    printing.age(memory.create_time),
                    *([printing.age(memory.delete_time)] if deleted else []),
                    _kind_name(memory),
                    ", ".join(memory.tags),
                    printing.clean(memory.text, limit=200),
                ]
                for memory in found
            ],
            empty=f'Nothing remembered yet: mobot memory add {bot} "..."',
        )

    services.run(command)


@app.command()
def show(bot: BotArgument, memory: Annotated[str, typer.Argument(help="The memory's id.")]) -> None:
    """Everything about one memory, as JSON."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.memory_name(bot, memory)
        answer = await mobot.memory.GetMemory(memory_service_pb2.GetMemoryRequest(name=name))
        printing.print_json(printing.as_json(answer.memory))

    services.run(command)


@app.command()
def forget(
    bot: BotArgument,
    memory: Annotated[list[str], typer.Argument(help="The memory's id, as `list` shows it; several are allowed.")],
    purge: Annotated[bool, typer.Option(help="For good: it cannot be brought back.")] = False,
) -> None:
    """Delete memories. They can be brought back for a while: mobot memory restore."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        for name in [addresses.memory_name(bot, each) for each in memory]:
            await mobot.memory.DeleteMemory(memory_service_pb2.DeleteMemoryRequest(name=name, purge=purge))
            printing.print_line(f"Forgotten: {name}")

    services.run(command)


@app.command()
def restore(bot: BotArgument, memory: Annotated[str, typer.Argument(help="The memory's id.")]) -> None:
    """Bring a forgotten memory back."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        name = addresses.memory_name(bot, memory)
        await mobot.memory.UndeleteMemory(memory_service_pb2.UndeleteMemoryRequest(name=name))
        printing.print_line(f"Remembered again: {name}")

    services.run(command)


def kind_of(kind: str) -> "memory_pb2.MemoryKind.ValueType":
    """ "fact" -> MEMORY_KIND_FACT.

    Raises:
        InvalidArgument: there is no such kind.
    """
    from chassis.errors import field_invalid
    from mobot.memory.v1 import memory_pb2

    kinds = {name.removeprefix("MEMORY_KIND_").lower(): number for name, number in memory_pb2.MemoryKind.items()}
    kinds.pop("unspecified")
    if kind not in kinds:
        raise field_invalid("--kind", f"{kind!r} is none of {', '.join(kinds)}")
    return kinds[kind]


def _parts(hit: "memory_service_pb2.SearchHit") -> tuple[float, float, float]:
    """What the score adds up to, before it is divided by the sum of the weights."""
    return hit.parts.text, hit.parts.vector, hit.parts.author


async def _note_unknown_bot(mobot: "services.Services", bot: str) -> None:
    """A slip in a bot's id would be remembered for nobody; but a bot may also be made after its memories."""
    import grpc

    from mobot.registry.v1 import registry_service_pb2

    try:
        await mobot.registry.GetBot(registry_service_pb2.GetBotRequest(name=bot))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            typer.echo(f"Note: there is no {bot} yet; `mobot bots` lists the bots.", err=True)


def _filter(tags: list[str] | None, kinds: list[str] | None) -> "memory_pb2.MemoryFilter":
    from mobot.memory.v1 import memory_pb2

    return memory_pb2.MemoryFilter(all_tags=tags or [], kinds=[kind_of(kind) for kind in kinds or []])


def _kind_name(memory: "memory_pb2.Memory") -> str:
    from mobot.memory.v1 import memory_pb2

    return memory_pb2.MemoryKind.Name(memory.kind).removeprefix("MEMORY_KIND_").lower()


memory_files.add_to(app)
memory_care.add_to(app)
app.add_typer(memory_blocks.app, name="blocks")
app.add_typer(memory_grants.app, name="grants")
