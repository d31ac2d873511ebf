"""`mobot migrate`: bring the databases to this version's schema."""

import typer

app = typer.Typer(add_completion=False)


@app.command()
def migrate() -> None:
    """Bring every service's database to the newest schema. Stop mobot first; `mobot up` does this by itself."""
    import sys

    from chassis.errors import AppError
    from chassis.settings import SettingsError
    from mobot_cli import migrating, printing

    try:
        for service, revision in migrating.upgrade_all():
            printing.print_line(f"{service}: at {revision}")
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"mobot: {problem}\n")
        raise typer.Exit(2) from None
    except AppError as error:
        sys.stderr.write(f"mobot: {error.message}\n")
        raise typer.Exit(1) from None
