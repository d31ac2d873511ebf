"""`mobot down`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def down(
    data_dir: Annotated[
        Path | None, typer.Option(help="Which mobot to stop. Default: $MOBOT_DATA_DIR, else ~/.mobot.")
    ] = None,
) -> None:
    """Stop a running mobot and wait until it has drained."""
    from mobot_cli import detached
    from mobot_cli.layout import layout_of
    from mobot_cli.screen import Screen

    raise typer.Exit(detached.stop(layout_of(data_dir, os.environ), Screen(sys.stderr, sys.stdout)))
