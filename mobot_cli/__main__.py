"""The `mobot` command."""

import sys


def main() -> None:
    """The console script `mobot`; mobot_cli/app.py has the table of subcommands."""
    if sys.argv[1:2] == ["up"]:
        # Past typer: with the pydantic that it parses options with, it takes 0.3 s of the start and 15 MB of memory for
        # as long as mobot runs.
        from mobot_cli.up import main as up

        sys.exit(up(sys.argv[2:]))
    from mobot_cli.app import app

    app(prog_name="mobot")


if __name__ == "__main__":
    main()
