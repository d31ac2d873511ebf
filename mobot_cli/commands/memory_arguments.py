"""Arguments that the commands of `mobot memory` share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BotArgument = Annotated[str, typer.Argument(help="The bot, e.g. main.")]
