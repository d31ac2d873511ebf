"""The end of the change log in memory, so that a change is read once however many wait for it.

It is a doorbell with a view: losing a ring costs one poll interval, never a change, because the log is the truth.
"""

import asyncio
import logging
from collections.abc import Sequence

from chassis.errors import AppError, Draining
from chassis.waiting import within
from registry_service.domain.change import Change
from registry_service.store.registry import RegistryStore

_KEPT = 4_096
_PAGE = 1_024

_log = logging.getLogger(__name__)


class Tail:
    """Follows the log from `start` to `close`; `ring` says that it may have grown."""

    def __init__(self, *, poll_interval_s: float) -> None:
        self._poll_interval_s = poll_interval_s
        self._kept: list[Change] = []
        self._rung = asyncio.Event()
        self._grown = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self.position = 0

    def start(self, store: RegistryStore, position: int) -> None:
        """Follows `store`'s log after `position`."""
        self._store = store
        self.position = position
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="registry-tail")

    def ring(self) -> None:
        self._rung.set()

    async def close(self) -> None:
        """Ends every wait with DRAINING."""
        self._closed = True
        self._grown.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def wait(self, position: int, timeout_s: float) -> None:
        """Returns when the log is past `position`, or after `timeout_s`.

        Raises:
            Unavailable: DRAINING; the service is stopping.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.position <= position and not self._closed:
                    await self._grown.wait()
        except TimeoutError:
            return
        self.check_open()

    def check_open(self) -> None:
        if self._closed:
            raise Draining

    def changes(self, after: int, limit: int) -> Sequence[Change] | None:
        """At most `limit` changes after position `after`; None when memory does not reach back so far."""
        if after >= self.position:
            return ()
        if not self._kept or self._kept[0].position > after + 1:
            return None
        start = after + 1 - self._kept[0].position
        return self._kept[start : start + limit]

    async def _follow(self) -> None:
        while True:
            await within(self._poll_interval_s, self._rung.wait())
            self._rung.clear()
            try:
                await self._read_on()
            except AppError as error:
                # The database is away; what happened meanwhile will be read when it is back.
                _log.warning("the log cannot be read", extra={"reason": error.reason, "failure": error.message})
                await asyncio.sleep(self._poll_interval_s)

    async def _read_on(self) -> None:
        while True:
            changes = await self._store.changes(self.position, _PAGE)
            if not changes:
                return
            if self._kept and changes[0].position != self.position + 1:
                self._kept.clear()
            self._kept.extend(changes)
            if len(self._kept) > 2 * _KEPT:
                del self._kept[:-_KEPT]
            self.position = changes[-1].position
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
