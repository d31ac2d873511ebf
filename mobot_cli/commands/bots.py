"""`mobot bots`: who is there, and how they are."""

from datetime import timedelta
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, help="List, create and delete bots.", invoke_without_command=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BotArgument = Annotated[str, typer.Argument(help="The bot, e.g. main.")]


@app.callback()
def bots(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        _list(as_json=as_json)


@app.command("list")
def list_bots(as_json: AsJson = False) -> None:
    """All bots with their state."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    from mobot.registry.v1 import bot_pb2, registry_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        found: list[bot_pb2.Bot] = []
        token = ""
        while True:
            page = await mobot.registry.ListBots(registry_service_pb2.ListBotsRequest(page_size=1000, page_token=token))
            found.extend(page.bots)
            token = page.next_page_token
            if not token:
                break
        if as_json:
            printing.print_json([printing.as_json(bot) for bot in found])
            return
        printing.print_table(
            ["BOT", "NAME", "STATE", "BRAIN", "IN FLIGHT", "WORKERS", "DESCRIPTION"],
            [
                [
                    bot.name.removeprefix("bots/"),
                    f"{bot.emoji} {bot.display_name}".strip(),
                    _state(bot),
                    bot.brain.WhichOneof("settings") or "-",
                    str(bot.status.in_flight_count),
                    str(bot.status.worker_count),
                    printing.clean(bot.description, limit=60),
                ]
                for bot in found
            ],
            empty='No bots yet. Create one: mobot bots create helper --name "Helper"',
        )

    services.run(command)


def _state(bot: object) -> str:
    from mobot.registry.v1 import bot_pb2

    assert isinstance(bot, bot_pb2.Bot)
    if bot.HasField("enabled") and not bot.enabled:
        return "disabled"
    if bot.suspended:
        return "suspended"
    return bot_pb2.BotState.Name(bot.status.state).removeprefix("BOT_STATE_").lower()


@app.command()
def create(
    bot: Annotated[str, typer.Argument(help="Its id: a-z, 0-9, _ and -, beginning with a letter or digit.")],
    name: Annotated[str, typer.Option(help="Name for people. Default: the id.")] = "",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    brain: Annotated[
        str, typer.Option(help="echo (no model), openai, or worker (a program of yours attaches).")
    ] = "echo",
    base_url: Annotated[str, typer.Option(help="openai: endpoint, e.g. http://127.0.0.1:11434/v1.")] = "",
    model: Annotated[str, typer.Option(help="openai: the model's name.")] = "",
    api_key_env: Annotated[str, typer.Option(help="openai: NAME of the runner's variable that holds the key.")] = "",
    instructions: Annotated[str, typer.Option(help="Standing instructions put before every turn.")] = "",
    word_delay_ms: Annotated[int, typer.Option(help="echo: pause between words.", min=0, max=60_000)] = 30,
    recall_budget: Annotated[
        int | None, typer.Option(help="Tokens that recalled memories may take in a turn; 0 recalls none.", min=0)
    ] = None,
    reflect: Annotated[bool, typer.Option(help="Distil what its runs teach into memories.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a bot."""
    from google.protobuf import duration_pb2

    from chassis.errors import field_invalid
    from mobot.registry.v1 import bot_pb2, registry_service_pb2
    from mobot_cli import printing, services

    async def command(mobot: services.Services) -> None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(timedelta(milliseconds=word_delay_ms))
        match brain:
            case "echo":
                chosen = bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay=delay))
            case "openai":
                chosen = bot_pb2.Brain(
                    openai=bot_pb2.OpenaiBrain(base_url=base_url, model=model, api_key_env=api_key_env)
                )
            case "worker":
                chosen = bot_pb2.Brain(worker=bot_pb2.WorkerBrain())
            case _:
                raise field_invalid("--brain", f"{brain!r} is none of echo, openai, worker")
        answer = await mobot.registry.CreateBot(
            registry_service_pb2.CreateBotRequest(
                bot_id=bot,
                bot=bot_pb2.Bot(
                    display_name=name,
                    description=description,
                    brain=chosen,
                    instructions=instructions,
                    memory=bot_pb2.MemorySettings(reflection=reflect, recall_budget_tokens=recall_budget),
                ),
            )
        )
        if as_json:
            printing.print_json(printing.as_json(answer.bot))
        else:
            printing.print_line(f'Created {bot}. Talk to it: mobot send {bot} "hello"')

    services.run(command)


@app.command()
def show(bot: BotArgument) -> None:
    """Everything about one bot, as JSON."""
    from mobot.registry.v1 import registry_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        answer = await mobot.registry.GetBot(registry_service_pb2.GetBotRequest(name=addresses.bot_name(bot)))
        printing.print_json(printing.as_json(answer.bot))

    services.run(command)


@app.command()
def delete(
    bot: BotArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a bot: it finishes what it does, then rests as a tombstone that can be restored."""
    from mobot.registry.v1 import registry_service_pb2
    from mobot_cli import addresses, printing, services

    if not yes:
        typer.confirm(f"Delete the bot {bot}?", abort=True)

    async def command(mobot: services.Services) -> None:
        await mobot.registry.DeleteBot(registry_service_pb2.DeleteBotRequest(name=addresses.bot_name(bot)))
        printing.print_line(f"Deleted {bot}. Bring it back: mobot bots restore {bot}")

    services.run(command)


@app.command()
def restore(bot: BotArgument) -> None:
    """Bring a deleted bot back."""
    from mobot.registry.v1 import registry_service_pb2
    from mobot_cli import addresses, printing, services

    async def command(mobot: services.Services) -> None:
        await mobot.registry.UndeleteBot(registry_service_pb2.UndeleteBotRequest(name=addresses.bot_name(bot)))
        printing.print_line(f"{bot} is back.")

    services.run(command)
