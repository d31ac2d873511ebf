"""`mobot memory`: what a bot remembers."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="Add, search, list and forget a bot's memories.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BotArgument = Annotated[str, typer.Argument(help="The bot, e.g. main.")]


@app.command()
def add(
    bot: BotArgument,
    text: Annotated[str, typer.Argument(help="What to remember.")],
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Remember something. The same text again only refreshes the memory."""
    from mobot.memory.v1 import memory_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        draft = memory_pb2.MemoryDraft(memory=memory_pb2.Memory(text=text, tags=tag or []))
        answer = await mobot.memory.PutMemory(
            memory_service_pb2.PutMemoryRequest(parent=addresses.bot_name(bot), draft=draft)
        )
        if as_json:
            printing.print_json(printing.as_json(answer.result))
        else:
            known = answer.result.outcome == memory_pb2.PUT_OUTCOME_TOUCHED
            printing.print_line(f"{'Known already' if known else 'Remembered'}: {answer.result.memory.name}")

    services.run(command)


@app.command()
def search(
    bot: BotArgument,
    query: Annotated[str, typer.Argument(help="Words to look for.")],
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100)] = 10,
    as_json: AsJson = False,
) -> None:
    """Find memories, best first."""
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.memory.SearchMemories(
            memory_service_pb2.SearchMemoriesRequest(parent=addresses.bot_name(bot), query=query, page_size=limit)
        )
        if as_json:
            printing.print_json(printing.as_json(answer))
            return
        printing.print_table(
            ["SCORE", "MEMORY", "TEXT"],
            [
                [f"{hit.score:.3f}", hit.memory.name.rsplit("/", 1)[1], printing.clean(hit.memory.text, limit=200)]
                for hit in answer.hits
            ],
            empty="Nothing found.",
        )

    services.run(command)


@app.command("list")
def list_memories(
    bot: BotArgument,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """List memories."""
    from mobot.memory.v1 import memory_pb2, memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        request = memory_service_pb2.ListMemoriesRequest(parent=addresses.bot_name(bot))
        found: list[memory_pb2.Memory] = []
        while len(found) < limit:
            request.page_size = min(1000, limit - len(found))
            page = await mobot.memory.ListMemories(request)
            found.extend(page.memories)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        if as_json:
            printing.print_json([printing.as_json(memory) for memory in found])
            return
        printing.print_table(
            ["MEMORY", "AGE", "TAGS", "TEXT"],
            [
                [
                    memory.name.rsplit("/", 1)[1],
                    printing.age(memory.create_time),
                    ", ".join(memory.tags),
                    printing.clean(memory.text, limit=200),
                ]
                for memory in found
            ],
            empty=f'Nothing remembered yet: mobot memory add {bot} "..."',
        )

    services.run(command)


@app.command()
def forget(
    bot: BotArgument,
    memory: Annotated[str, typer.Argument(help="The memory's id, as `list` shows it.")],
) -> None:
    """Delete a memory."""
    from chassis import resource_names
    from mobot.memory.v1 import memory_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        owner = resource_names.parse_bot(addresses.bot_name(bot))
        name = resource_names.memory_name(owner, resource_names.check_memory_id(memory, field="memory"))
        await mobot.memory.DeleteMemory(memory_service_pb2.DeleteMemoryRequest(name=name))
        printing.print_line(f"Forgotten: {name}")

    services.run(command)
