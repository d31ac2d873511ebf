"""`mobot token`: the root token, or one that is good for a single bot or worker only."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def token(
    bot: Annotated[str | None, typer.Argument(help="Make a token that may act for this bot only.")] = None,
    worker: Annotated[
        str | None, typer.Option(help="Make a token for this worker: it may act for the bots that it serves.")
    ] = None,
) -> None:
    """Print the root token, or make one for a bot or a worker.

    A program in another place needs no more than such a token.
    """
    import sys

    from chassis import resource_names
    from chassis.errors import AppError
    from chassis.identity import mint_token
    from chassis.settings import SettingsError, load, root_token
    from mobot_cli import addresses, printing
    from mobot_cli.settings import CliSettings

    if bot is not None and worker is not None:
        raise typer.BadParameter("a token is for a bot or for a worker, not for both")
    try:
        secret = root_token(load(CliSettings))
        principal = resource_names.worker_name(worker) if worker is not None else bot and addresses.bot_name(bot)
        printing.print_line(secret if principal is None else mint_token(secret, principal))
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"mobot: {problem}\n")
        raise typer.Exit(2) from None
    except AppError as error:
        sys.stderr.write(f"mobot: {error.message}\n")
        raise typer.Exit(1) from None
