"""What `mobot up` shows: plain lines with the time since the start; colour only on a terminal that takes it.

Progress goes to standard error; what a person or a script may want to keep (the address, the token) to standard output.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

_RESET = "\x1b[0m"
_STYLES = {"progress": "\x1b[2m", "warning": "\x1b[33m", "failure": "\x1b[1;31m", "strong": "\x1b[1m"}


class Screen:
    """`now` is a monotonic clock in seconds."""

    def __init__(self, err: TextIO, out: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        self._err = err
        self._out = out
        self._now = now
        self._start = now()

    def elapsed_s(self) -> float:
        return self._now() - self._start

    def progress(self, text: str) -> None:
        self._tell("progress", text)

    def warning(self, text: str, details: Sequence[str]) -> None:
        """Something that mobot mends by itself."""
        self._tell("warning", text, details)

    def failure(self, text: str, details: Sequence[str]) -> None:
        """Something that a person must mend."""
        self._tell("failure", text, details)

    def error(self, text: str) -> None:
        """Why a command did nothing."""
        self._write(self._err, _painted(self._err, "failure", "mobot: ") + text)

    def say(self, text: str) -> None:
        """An answer; `text` has its line ends."""
        self._write(self._out, text.removesuffix("\n"))

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Rows of (label, text) under a title; an empty label continues the row above."""
        width = max(len(label) for label, _ in rows) + 2
        self._write(self._out, f"\n{_painted(self._out, 'strong', title)}\n")
        for label, text in rows:
            self._write(self._out, f"  {label:<{width}}{text}")
        self._write(self._out, "")

    def _tell(self, style: str, text: str, details: Sequence[str] = ()) -> None:
        self._write(self._err, _painted(self._err, style, f"[{self.elapsed_s():6.2f}s] {text}"))
        for line in details:
            self._write(self._err, f"    | {line}")

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text + "\n")
            stream.flush()
        except (BrokenPipeError, OSError):
            return  # nobody reads any more (a closed terminal): keeping the processes alive matters more


def _painted(stream: TextIO, style: str, text: str) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{_STYLES[style]}{text}{_RESET}"
