"""`mobot token`: the root token, or one that is good for a single bot only."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def token(
    bot: Annotated[str | None, typer.Argument(help="Make a token that may act for this bot only.")] = None,
) -> None:
    """Print the root token, or make one for a bot: a worker in another place needs no more than that."""
    import sys

    from chassis.errors import AppError
    from chassis.identity import mint_token
    from chassis.settings import SettingsError, load, root_token
    from mobot_cli import addresses, printing
    from mobot_cli.settings import CliSettings

    try:
        secret = root_token(load(CliSettings))
        printing.print_line(secret if bot is None else mint_token(secret, addresses.bot_name(bot)))
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"mobot: {problem}\n")
        raise typer.Exit(2) from None
    except AppError as error:
        sys.stderr.write(f"mobot: {error.message}\n")
        raise typer.Exit(1) from None
