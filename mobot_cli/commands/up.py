"""`mobot up`, as it stands in `mobot --help`; mobot_cli/up.py reads its flags itself."""

import typer

app = typer.Typer(add_completion=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def up(context: typer.Context) -> None:
    """Start everything, keep it running, and say what to open. Ctrl-C stops it."""
    from mobot_cli.up import main

    raise typer.Exit(main(context.args))
