"""Texts that commands take as an argument."""

import sys

import typer


def text_of(argument: str, name: str) -> str:
    """The text, read from standard input for `-`. `name` is the argument's.

    Raises:
        typer.BadParameter: there is nothing in it to say.
    """
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise typer.BadParameter(f"the {name} is empty", param_hint=name)
    return text
