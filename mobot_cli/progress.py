"""A bar on a terminal for works that count; silence in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

At = Callable[[int, int], None]
"""Takes how much is done, and of how much (0: not known)."""


@contextmanager
def progress(what: str) -> Iterator[At]:
    """Shows a bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total or None)
