"""Makes true what time alone changes: leases that run out, suspensions that end, tombstones whose time has come."""

import asyncio
import logging

from chassis.clock import Clock
from chassis.errors import AppError
from registry_service.store.registry import RegistryStore

_CLEAN_INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


class Upkeep:
    """A task from `start` to `close` that looks at the clock at least each `poll_interval_s`."""

    def __init__(self, store: RegistryStore, clock: Clock, *, poll_interval_s: float) -> None:
        self._store = store
        self._clock = clock
        self._poll_interval_s = poll_interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="registry-upkeep")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        cleaned = time()
        while True:
            pause_s = self._poll_interval_s
            try:
                due = await self._store.next_due()
                if due is not None:
                    ahead_s = (due - self._clock.now()).total_seconds()
                    if ahead_s <= 0:
                        await self._store.sweep()
                    else:
                        pause_s = min(pause_s, ahead_s)
                if time() >= cleaned + _CLEAN_INTERVAL_S:
                    cleaned = time()
                    await self._store.clean()
            except AppError as error:
                # The database is away or busy; what is due stays due.
                _log.warning("upkeep failed", extra={"reason": error.reason, "failure": error.message})
            await asyncio.sleep(pause_s)
