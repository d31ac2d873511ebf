"""`mobot up`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where databases, token and logs are kept. Default: $MOBOT_DATA_DIR, else ~/.mobot."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The gateway's port, 0 for any free one. Default: $MOBOT_PORT, else 18789."
        ),
    ] = None,
    isolated: Annotated[bool, typer.Option("--isolated", help="Run one process for each service.")] = False,
    demo: Annotated[bool, typer.Option(help="Make the two demo bots on the very first start.")] = True,
) -> None:
    """Start everything, keep it running, and say what to open. Ctrl-C stops it."""
    from mobot_cli.up import UpOptions
    from mobot_cli.up import up as run

    raise typer.Exit(run(UpOptions(data_dir=data_dir, port=port, isolated=isolated, demo=demo)))
