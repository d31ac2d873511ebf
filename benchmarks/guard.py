"""A process that outlives the one that starts it by a moment, to end what that one leaves behind when it is killed.

`python -m benchmarks.guard` reads "+PID" and "-PID" (of processes that lead a group of their own) from its standard
input. At its end, which the kernel brings about however the other process died, it kills every group that still lives:
also one that is stopped, that is a program of others, or that has children.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


class Guard:
    """The line to such a process; it is there as long as this process is."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.guard"],
            stdin=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,  # what ends our group must not end it first
        )

    def watch(self, pid: int) -> None:
        """`pid` leads a process group that shall not outlive this process."""
        self._write(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """It has ended; what is left of its group is still watched."""
        self._write(f"-{pid}\n")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed the guard: then nobody watches
            self._process.stdin.write(line.encode())


@functools.cache
def guard() -> Guard:
    """The guard of this process, started when it is first asked for."""
    return Guard()


_ROOT = str(Path(__file__).resolve().parent.parent)


def keep_watch(lines: Iterable[str]) -> None:
    groups: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        if line.startswith("+"):
            groups.add(pid)
        elif not _signal(pid, 0):
            groups.discard(pid)
    for pid in groups:
        _signal(pid, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether the group still had a member."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    keep_watch(sys.stdin)
