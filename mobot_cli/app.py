"""The table of `mobot`'s subcommands, each loaded only when it is called or listed.

A command module imports typer and nothing heavy at its top (no grpc, no sqlalchemy, no pydantic): what it needs it
imports inside the function that runs, so that `mobot --help` and every mistyped command answer at once.
"""

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Command  # typer names the type of its own commands nowhere else

# Subcommand -> module with a `typer.Typer(add_completion=False)` called `app`, in the order of `--help`. A Typer with a
# single command becomes that command.
COMMANDS: Mapping[str, str] = {
    "up": "mobot_cli.commands.up",
    "down": "mobot_cli.commands.down",
    "bots": "mobot_cli.commands.bots",
    "sessions": "mobot_cli.commands.sessions",
    "send": "mobot_cli.commands.send",
    "history": "mobot_cli.commands.history",
    "watch": "mobot_cli.commands.watch",
    "mail": "mobot_cli.commands.mail",
    "spawn": "mobot_cli.commands.spawn",
    "topics": "mobot_cli.commands.topics",
    "schedules": "mobot_cli.commands.schedules",
    "policy": "mobot_cli.commands.policy",
    "audit": "mobot_cli.commands.audit",
    "memory": "mobot_cli.commands.memory",
    "doctor": "mobot_cli.commands.doctor",
    "migrate": "mobot_cli.commands.migrate",
    "token": "mobot_cli.commands.token",
}


class _Loading(Mapping[str, "Command"]):
    """COMMANDS as typer wants it: name -> command, imported when it is looked up."""

    def __getitem__(self, name: str) -> "Command":
        command = typer.main.get_command(importlib.import_module(COMMANDS[name]).app)
        command.name = name
        return _plain(command)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def _plain(command: "Command") -> "Command":
    """Has `command` and what is below it show help and errors as plain text: loading rich for them takes 0.3 s."""
    if isinstance(command, TyperCommand | TyperGroup):
        command.rich_markup_mode = None
    if isinstance(command, TyperGroup):
        for below in command.commands.values():
            _plain(below)
    return command


class _LazyCommands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - typer's own, passed through
        super().__init__(**attributes)
        self.commands = _Loading()  # type: ignore[assignment]  # typer only reads it once the group is built

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - the signature is typer's
        return list(COMMANDS)


app = typer.Typer(
    cls=_LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mobot {version('mobot')}")
        raise typer.Exit


@app.callback()
def mobot(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Many bots alive at once: durable sessions, mail that cannot be lost, memory that stays."""
