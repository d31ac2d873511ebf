"""Follows the log and makes from it what is not needed at once: the index of words and the usage by day.

It is not part of an append. It waits for a pause, works in small slices, and rests between them, so that appends hardly
notice it. How far it has got is in the database: it goes on after a restart, and replicas take turns.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import Connection

from chassis.errors import AppError
from chassis.waiting import within
from session_service.domain.derived import Derived, Progress
from session_service.domain.event import StoredEvent
from session_service.store import deriving, log
from session_service.store.store import Store

_log = logging.getLogger(__name__)

_SLICE_EVENTS = 256
_BUSY_WRITES = 200  # writes waiting for a commit: then the follower waits as well
_MAX_WAIT_S = 5.0  # but not for ever
_REST_FACTOR = 3.0  # at most a quarter of the writer's time, as long as others write
_POLL_S = 5.0
_RETRY_S = 1.0

Derive = Callable[[StoredEvent], Derived]


class Follower:
    """Owns its task, which `start` begins and `close` ends."""

    def __init__(self, store: Store, derive: Derive, *, delay_s: float) -> None:
        """`delay_s`: how long it waits after a commit for others to follow."""
        self._store = store
        self._derive = derive
        self._delay_s = delay_s
        self._bell = asyncio.Event()
        self._purged: int | None = None
        self._head = 0
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> int:
        """Events committed here that it has not looked at yet."""
        return max(0, self._head - self._position)

    async def start(self) -> None:
        await self._store.derive(deriving.begin)
        at = await self._store.read(deriving.progress)
        self._head, self._position = at.head, at.position
        self._store.follow(self._ring)
        self._bell.set()
        self._task = asyncio.create_task(self._run(), name="session follower")
        self._task.add_done_callback(_tell_end)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _ring(self, head: int) -> None:
        """On the loop, after each commit."""
        self._head = max(self._head, head)
        self._bell.set()

    async def _run(self) -> None:
        while True:
            await within(_POLL_S, self._bell.wait())  # in the end for what another replica left undone
            self._bell.clear()
            try:
                await self._wait_for_a_pause()
                await self._catch_up()
                await self._compact()
            except AppError:
                _log.warning("the index of words does not get on", exc_info=True)
                await asyncio.sleep(_RETRY_S)  # the database is away: not synchronisation, but patience
                self._bell.set()

    async def _wait_for_a_pause(self) -> None:
        waited = 0.0
        while waited < _MAX_WAIT_S:
            await asyncio.sleep(self._delay_s)  # so that a turn's appends are taken together
            waited += max(self._delay_s, 0.01)
            if self._store.queued < _BUSY_WRITES:
                return

    async def _catch_up(self) -> None:
        while True:
            new = await self._store.read(partial(_look, derive=self._derive))
            if isinstance(new, Progress):
                self._position, self._head = new.position, max(new.head, self._head)
                return
            began = time.perf_counter()
            await self._store.derive(partial(deriving.write_slice, new=new))
            self._position = max(self._position, new.through)
            if self._store.queued:
                await asyncio.sleep((time.perf_counter() - began) * _REST_FACTOR)

    async def _compact(self) -> None:
        """Has the words of sessions that were purged leave the file too."""
        purged = (await self._store.log_range()).purged
        known, self._purged = self._purged, purged
        if known is None or purged == known:
            return
        more = await self._store.derive(partial(deriving.compact, first=True))
        while more:
            await asyncio.sleep(0)
            more = await self._store.derive(partial(deriving.compact, first=False))


def _tell_end(task: "asyncio.Task[None]") -> None:
    """It ends when it is cancelled, and by a defect, of which somebody must hear: the index stands still."""
    if not task.cancelled() and (cause := task.exception()) is not None:
        _log.error("the index of words has stopped", exc_info=cause)


def add_meters(registry: CollectorRegistry, follower: Follower) -> None:
    backlog = Gauge("session_index_backlog", "Events that are not indexed for search yet.", registry=registry)
    backlog.set_function(lambda: follower.backlog)


def _look(conn: Connection, derive: Derive) -> deriving.Slice | Progress:
    """What the next events come to; the progress when there are none."""
    at = deriving.progress(conn)
    if not at.backlog:
        return at
    found = log.read_log(conn, at.position, limit=_SLICE_EVENTS)
    return deriving.Slice(at.position, found.through, [derive(event) for event in found.events])
