"""Time at work: warns of expiries, archives what is idle, purges what was deleted long ago."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection

from chassis.errors import AppError
from chassis.waiting import within
from session_service.operations.metrics import SweepMetrics
from session_service.store import purging, sweeping
from session_service.store.store import Store
from session_service.store.transaction import Transaction, micros

_log = logging.getLogger(__name__)

_BATCH = 100

_Find = Callable[[Connection, tuple[int, str] | None], sweeping.Due]
_Act = Callable[[Transaction, str], bool]


class Swept(NamedTuple):
    """How many sessions were warned of, archived and purged, and how many steps removed events of purged ones."""

    warned: int
    archived: int
    purged: int
    removed: int


class Sweeper:
    """Sweeps at its start and then now and then. A sweep that fails is logged and counted, and the next one goes on."""

    def __init__(self, store: Store, metrics: SweepMetrics, *, interval_s: float) -> None:
        self._store = store
        self._metrics = metrics
        self._interval_s = interval_s
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="session-sweeper")

    async def close(self) -> None:
        """Ends after the commit that is under way."""
        self._ended.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def sweep(self) -> Swept:
        """One sweep over everything that is due now."""
        rules = self._store.rules
        now = micros(self._store.clock.now())

        def expiring(conn: Connection, after: tuple[int, str] | None) -> sweeping.Due:
            return sweeping.find_expiring(conn, rules, now, after, _BATCH)

        def idle(conn: Connection, after: tuple[int, str] | None) -> sweeping.Due:
            return sweeping.find_idle(conn, rules, now, after, _BATCH)

        def expired(conn: Connection, after: tuple[int, str] | None) -> sweeping.Due:
            return sweeping.find_expired(conn, now, after, _BATCH)

        def purgeable(conn: Connection, after: tuple[int, str] | None) -> sweeping.Due:
            return sweeping.find_purgeable(conn, now, after, _BATCH)

        archived = await self._each("archive", expired, sweeping.archive_expired)
        warned = await self._each("warn", expiring, sweeping.warn)
        if rules.idle_ttl:
            warned += await self._each("warn", idle, sweeping.warn)
        purged = await self._each("purge", purgeable, purging.purge_if_due)
        swept = Swept(warned, archived, purged, await self._remove())
        self._metrics.finished.set(self._store.clock.now().timestamp())
        if any(swept):
            _log.info("sessions swept", extra=swept._asdict())
        return swept

    async def _each(self, sweep: str, find: _Find, act: _Act) -> int:
        done = 0
        after: tuple[int, str] | None = None
        while not self._ended.is_set():
            due = await self._find(find, after)
            if due.names:
                results = await self._store.write_each([_for(act, name) for name in due.names])
                count = sum(result is True for result in results)
                self._metrics.items.labels(sweep).inc(count)
                done += count
                for name, result in zip(due.names, results, strict=True):
                    if isinstance(result, AppError):
                        _log.warning(
                            "sweep passed over a session", extra={"sweep": sweep, "session": name}, exc_info=result
                        )
            if due.following is None:
                break
            after = due.following
        return done

    async def _find(self, find: _Find, after: tuple[int, str] | None) -> sweeping.Due:
        return await self._store.read(lambda conn: find(conn, after))

    async def _remove(self) -> int:
        steps = 0
        while not self._ended.is_set():
            (removed,) = await self._store.write_each([purging.remove_events])
            if isinstance(removed, AppError) or not removed:
                break
            self._metrics.items.labels("remove").inc(removed)
            steps += 1
        return steps

    async def _run(self) -> None:
        while not self._ended.is_set():
            try:
                await self.sweep()
            except AppError:
                self._metrics.failures.inc()
                _log.warning("sweep was broken off; the next one goes on", exc_info=True)
            await within(self._interval_s, self._ended.wait())


def _for(act: _Act, name: str) -> Callable[[Transaction], bool]:
    return lambda tx: act(tx, name)
