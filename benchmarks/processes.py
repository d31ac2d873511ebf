"""Processes a benchmark starts: told ready by a line or a probe, measured by the kernel's accounting, ended by id."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.guard import guard

# The kernel counts in hundredths of a second.
_REST_WINDOW_S = 0.25
_REST_SHARE = 0.085


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """Progress for people; standard output belongs to the rows."""
    print(text, file=sys.stderr, flush=True)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it that still live."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def rss_mb(pid: int) -> float:
    """Resident memory of the whole tree in MB (shared pages counted in each process)."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 1e6


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of the whole tree."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def at_rest(pid: int, *, patience_s: float = 30.0) -> None:
    """Returns when the tree has next to nothing to do, or after `patience_s`, which is told.

    What one side still tidies up after its round (compiling, collecting, folding a log) would be paid for by the other.
    """
    deadline = time.monotonic() + patience_s
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        await asyncio.sleep(_REST_WINDOW_S)  # a share of time needs some time
        now = cpu_seconds(pid)
        if now - before <= _REST_SHARE * _REST_WINDOW_S:
            return
        before = now
    say(f"{pid} is still busy after {patience_s:g} s: measuring beside it")


async def launch(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """A process in a group of its own, which does not outlive this process, however that ends."""
    process = await asyncio.create_subprocess_exec(*arguments, start_new_session=True, **options)
    guard().watch(process.pid)
    return process


@contextlib.asynccontextmanager
async def running(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    log: Path,
    ready_line: bytes | None = None,
    timeout_s: float = 60,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a process in a group of its own and ends the group afterwards.

    With `ready_line`, waits until the process prints a line that holds it; the rest of its output goes to `log`.
    """
    with log.open("ab") as sink:
        process = await launch(
            *arguments,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if ready_line else sink,
            stderr=sink,
        )
        try:
            if ready_line:
                async with asyncio.timeout(timeout_s):
                    await _wait_for(process, ready_line, log)
            yield process
        finally:
            await end(process)


async def _wait_for(process: asyncio.subprocess.Process, ready_line: bytes, log: Path) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if ready_line in line:
            return
    raise RuntimeError(f"{process.pid} ended before it was ready; see {log}: {log.read_text()[-2000:]}")


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to the group, SIGKILL after ten seconds."""
    if process.returncode is not None:
        guard().forget(process.pid)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    guard().forget(process.pid)
