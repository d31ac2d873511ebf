"""One child process: how it is started, told to stop, and seen to end."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chassis import lifeline
from mobot_cli import logfile
from mobot_cli.ready import HttpProbe, wait_until_ready


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. Children of a lower `stop_stage` are stopped, and have ended, before a higher one is touched."""

    name: str
    command: Sequence[str]
    log_file: Path
    stop_stage: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own."""
    hidden: frozenset[str] = frozenset()
    """Variables of the supervisor's own that the child is not given."""
    probe: HttpProbe | None = None
    after: frozenset[str] = frozenset()
    """Children that must have been ready before this one is started for the first time."""


class Child:
    """A started process."""

    def __init__(
        self, spec: ChildSpec, process: asyncio.subprocess.Process, line: socket.socket, log_start: int
    ) -> None:
        self.spec = spec
        self._process = process
        self._line = line
        self._log_start = log_start

    @classmethod
    async def start(cls, spec: ChildSpec, *, inherited: Sequence[int] = ()) -> "Child":
        """Starts `spec` in a session of its own, so that a Ctrl-C in the terminal reaches the supervisor alone.

        `inherited` descriptors are handed down as they are.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        log = logfile.open_for_append(spec.log_file)
        log_start = os.fstat(log).st_size  # now: a process that ends at once has said why before its start is seen
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(spec, theirs.fileno()),
                pass_fds=(theirs.fileno(), *inherited),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(log)
            theirs.close()
        return cls(spec, process, ours, log_start)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Returns once it is ready; never returns for a child that dies first."""
        await wait_until_ready(self._line, self.spec.probe)

    async def ended(self) -> int:
        """The exit code, negative for a signal."""
        return await self._process.wait()

    def close(self) -> None:
        """Lets go of a process that has ended; doing it earlier would stop the process."""
        self._line.close()

    async def stop(self, grace_s: float) -> bool:
        """Asks it to drain and waits; kills it after `grace_s`. Returns whether it drained."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self.ended()
        except TimeoutError:
            await self.kill()
            return False
        return True

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self.ended()

    def last_lines(self, count: int) -> list[str]:
        """What it logged last since this start."""
        return logfile.last_lines(self.spec.log_file, since=self._log_start, count=count)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _environment(spec: ChildSpec, line: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in spec.hidden}
    return {**kept, **spec.environment, lifeline.ENVIRONMENT_VARIABLE: str(line)}


def exit_text(code: int) -> str:
    """An exit code in words, as in "was killed by SIGSEGV"."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
