"""Processes that are started again whenever they end, until they are let go."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.guard import guard

_RESTART_S = 0.05
_NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_TINY = 4_096


class Kept:
    """One process that is kept alive. What it says goes into a file through this process, which has no quota."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        user: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.orders = directory / f"{name}.orders"
        self._command = command
        self._user = user
        self._cwd = cwd
        self._environment = {**environment, "LEDGER_ORDERS": str(self.orders)}
        self._log = directory / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    @property
    def pid(self) -> int | None:
        """Of the process that runs at this moment, if there is one."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to the process, if there is one at this moment."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        process.send_signal(number)
        return True

    def order(self, **what: object) -> None:
        """Writes an order of `ledger.mobot.service` and tells the process to read it."""
        scratch = self.orders.with_suffix(".new")
        scratch.write_text(json.dumps(what))
        scratch.replace(self.orders)
        self.signal(signal.SIGUSR1)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """While it lasts, every write beyond the first pages of a file fails."""
        pid = self.pid
        if pid is None:
            yield
            return
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (_TINY, resource.RLIM_INFINITY))
        yield
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, _NO_LIMIT)

    async def stop(self) -> None:
        self._wanted = False
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self._task is not None:
            try:
                async with asyncio.timeout(15):
                    await asyncio.shield(self._task)
            except TimeoutError:
                self.signal(signal.SIGKILL)
                await self._task

    async def _keep(self) -> None:
        with self._log.open("ab", buffering=0) as sink:
            while self._wanted:
                self.starts += 1
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env={**os.environ, **self._environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    user=self._user,
                    cwd=self._cwd,
                )
                self._process = process
                guard().watch(process.pid)
                assert process.stdout is not None
                while chunk := await process.stdout.read(65_536):
                    sink.write(chunk)
                await process.wait()
                guard().forget(process.pid)
                sink.write(f"-- {self.name} ended with {process.returncode}\n".encode())
                if self._wanted:
                    await asyncio.sleep(_RESTART_S)  # as a supervisor's backoff


async def pause(kept: Kept, seconds: float) -> None:
    """Stops a process for so long, as a machine does that swaps or sleeps."""
    kept.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    kept.signal(signal.SIGCONT)


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", *arguments]
