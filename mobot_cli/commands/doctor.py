"""`mobot doctor`: what is wrong, and what to do about it."""

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look for what is wrong, and say what to do about it.

    Checks settings, data directory, disk, token, services, bots and gateway; exits with 1 when something is wrong.
    """
    from mobot_cli import diagnosis, printing

    findings = diagnosis.examine()
    if as_json:
        printing.print_json([finding.as_json() for finding in findings])
    else:
        printing.print_table(
            ["", "CHECK", "FINDING"],
            [["ok" if finding.ok else "WRONG", finding.check, finding.detail] for finding in findings],
            empty="",
        )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
