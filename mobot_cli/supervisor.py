"""Keeps a set of processes alive: starts them together, restarts what dies, gives up loudly, stops all in order.

Exit codes of `run`: 0 after a stop that was asked for; 1 when a process died too often; 2 when a process said, by its
own exit code 2, that its settings cannot work (it is not restarted, since nothing would change).

Imports neither grpc nor sqlalchemy, so that it costs about 25 MB beside the processes that do the work.
"""

import asyncio
import contextlib
import itertools
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence

from mobot_cli.child import Child, ChildSpec, exit_text
from mobot_cli.restart_policy import Deaths, RestartPolicy
from mobot_cli.screen import Screen

EXIT_SETTINGS = 2
EXIT_STOPPED_AT_ONCE = 130
_TAIL_LINES = 12


class _StopAsked(Exception):
    """A signal, or the caller, wants everything to stop."""


class _CannotGoOn(Exception):
    """One process cannot be kept alive."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Supervisor:
    """Owns the children from `run` on. `inherited` descriptors are handed down to each of them."""

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        policy: RestartPolicy,
        screen: Screen,
        chance: random.Random,
        inherited: Sequence[int] = (),
    ) -> None:
        self._specs = children
        self._policy = policy
        self._screen = screen
        self._chance = chance
        self._inherited = inherited
        self._running: dict[str, Child] = {}
        self._were_ready = {spec.name: asyncio.Event() for spec in children}
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    def stop(self) -> None:
        """Asks for an orderly stop; the second time, for an immediate one."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def run(self, when_ready: Callable[[], Awaitable[None]]) -> int:
        """Keeps the children until a stop is asked for; returns the exit code.

        `when_ready` is called once, when all children have become ready.
        """
        exit_code = 0
        with self._signals():
            try:
                async with asyncio.TaskGroup() as tasks:
                    for spec in self._specs:
                        tasks.create_task(self._keep(spec))
                    tasks.create_task(self._tell_ready(when_ready))
                    await self._stop.wait()
                    raise _StopAsked  # noqa: TRY301 - this is how a task group is ended from inside
            except* _StopAsked:
                self._screen.progress("stopping …")
            except* _CannotGoOn as failures:
                exit_code = max(_exit_codes(failures))
            finally:
                at_once = await self._stop_all()
        if at_once:
            return exit_code or EXIT_STOPPED_AT_ONCE
        if exit_code == 0:
            self._screen.progress("stopped")
        return exit_code

    async def _tell_ready(self, when_ready: Callable[[], Awaitable[None]]) -> None:
        for were_ready in self._were_ready.values():
            await were_ready.wait()
        await when_ready()

    async def _keep(self, spec: ChildSpec) -> None:
        """Starts `spec` again and again, until there is no point in it."""
        loop = asyncio.get_running_loop()
        deaths = Deaths(self._policy, self._chance)
        for name in spec.after:
            await self._were_ready[name].wait()
        while True:
            started = loop.time()
            child = await Child.start(spec, inherited=self._inherited)
            self._running[spec.name] = child
            ready_at = await self._wait_until_ready(child, started)
            code = await child.ended()
            child.close()
            if code == EXIT_SETTINGS:
                self._screen.failure(f"{spec.name} cannot start with these settings:", child.last_lines(_TAIL_LINES))
                raise _CannotGoOn(EXIT_SETTINGS)
            delay = deaths.record(loop.time(), loop.time() - ready_at if ready_at is not None else 0.0)
            if delay is None:
                self._screen.failure(
                    f"{spec.name} {exit_text(code)}, {self._policy.give_up_deaths} times within "
                    f"{self._policy.give_up_window_s:g} s: giving up. Its whole log: {spec.log_file}",
                    child.last_lines(_TAIL_LINES),
                )
                raise _CannotGoOn(1)
            why = "" if ready_at is not None else " before it was ready"
            self._screen.warning(
                f"{spec.name} {exit_text(code)}{why}; starting it again in {delay:.1f} s", child.last_lines(1)
            )
            await asyncio.sleep(delay)

    async def _wait_until_ready(self, child: Child, started: float) -> float | None:
        """The time at which the child became ready, or None if it died first or took too long and was killed."""
        loop = asyncio.get_running_loop()
        ready, ended = asyncio.ensure_future(child.ready()), asyncio.ensure_future(child.ended())
        try:
            await asyncio.wait(
                {ready, ended}, timeout=self._policy.start_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if ready.done():
                ready.result()
                were_ready = self._were_ready[child.spec.name]
                again = " again" if were_ready.is_set() else ""
                self._screen.progress(f"{child.spec.name} ready{again} in {loop.time() - started:.1f} s")
                were_ready.set()
                return loop.time()
            if not ended.done():
                self._screen.warning(
                    f"{child.spec.name} was not ready within {self._policy.start_timeout_s:g} s; killing it", []
                )
                await child.kill()
            return None
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    async def _stop_all(self) -> bool:
        """Stops all children, stage by stage. Returns whether that had to be done at once."""
        draining = asyncio.ensure_future(self._drain())
        hurry = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        at_once = not draining.done()
        if at_once:
            self._screen.progress("stopping at once")
            await asyncio.gather(*(child.kill() for child in self._running.values()))
        hurry.cancel()
        await draining
        for child in self._running.values():
            child.close()
        return at_once

    async def _drain(self) -> None:
        by_stage = sorted(self._running.values(), key=lambda child: child.spec.stop_stage)
        for _, stage in itertools.groupby(by_stage, key=lambda child: child.spec.stop_stage):
            await asyncio.gather(*(self._drain_child(child) for child in stage))

    async def _drain_child(self, child: Child) -> None:
        if not await child.stop(self._policy.stop_grace_s):
            self._screen.warning(f"{child.spec.name} did not stop within {self._policy.stop_grace_s:g} s: killed", [])

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _exit_codes(failures: BaseExceptionGroup[_CannotGoOn]) -> Iterator[int]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _exit_codes(failure)
        else:
            yield failure.exit_code
