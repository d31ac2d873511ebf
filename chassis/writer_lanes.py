"""How the group writer's transactions reach each engine: a thread that owns a connection, or a task that owns one."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis import direct_sql
from chassis.handover import Handover
from chassis.write_transaction import (
    PENDING,
    CommitHook,
    Entry,
    Failure,
    Outage,
    handle_entries,
    outage_error,
    write_entries,
)

logger = logging.getLogger(__name__)

_MAX_BRIEF_ITEMS = 512
# Where many write and the loop has no time, transactions begin no faster than this: each costs the loop the same half
# millisecond for few items as for many, and grpc.aio lets one call in at every second turn of the loop.
_COMPANY = 3
_BUSY_SHARE = 0.4
_PACE_S = 0.008

# The loop stands still for flushes that take longer than _QUICK_S a hundredth of its time at most: a bucket of so many
# seconds, which fills at that rate. While it is empty the thread commits. One slow flush among many quick ones thus
# changes nothing; every disk has them.
_QUICK_S = 0.002
_SLOW_SHARE = 0.01
_SLOW_BUCKET_S = 0.02
# SQLite would fold its log into the file within a commit. The thread does it, after so many items or transactions and
# when nothing waits; when always something waits, after twice as many.
_FOLD_ITEMS = 4_000
_FOLD_TRANSACTIONS = 400

_Order = tuple[list[Entry], list[list[Any]] | None]


class Source(Protocol):
    """The queue that a lane empties."""

    @property
    def queued(self) -> int:
        """Items not yet settled. On the loop only."""

    def take(self) -> list[Entry]:
        """The entries of the next transaction; empty when none wait. Anywhere, but only one taker."""

    def settle(self, entries: list[Entry]) -> None:
        """Answers the submitters of `entries`. On the loop only."""

    def abandon(self) -> None:
        """Refuses whatever waits or comes, because the lane has ended. On the loop only."""


class Lane(Protocol):
    """Carries entries to the database, one transaction after another."""

    def start(self, source: Source) -> None:
        """Begins to write what can be taken from `source`; needs a running loop."""

    def ring(self, *, at_once: bool = False) -> None:
        """Says that something was queued. Called at every submit, so it must cost next to nothing. On the loop only.

        `at_once`: no company is expected in this turn of the loop.
        """

    async def stop(self) -> None:
        """Returns when everything queued has been written and settled."""


class ThreadLane:
    """Writes through a synchronous connection, one transaction after another. For SQLite.

    A transaction of brief writes is put together on the loop, and committed there too while the disk is quick; any
    other runs in the thread as a whole. SQLite's interface gives the interpreter's lock away at each statement, and
    getting it back from a busy loop takes longer than the statement: a transaction of ten statements in a thread waited
    ten times. Handing a commit to the thread and back cost 300 us of CPU, the flush itself 130 us of waiting.
    """

    def __init__(
        self, engine: Engine, handover: Handover, *, hook: CommitHook | None = None, quick_s: float = _QUICK_S
    ) -> None:
        """`quick_s`: the longest commit that is no standstill of the loop. With a `hook` the thread commits."""
        self._engine = engine
        self._handover = handover
        self._hook = hook
        self._quick_s = quick_s
        self._bell: SimpleQueue[_Order | None] = SimpleQueue()
        # A transaction is in the thread's hands, or about to be looked for.
        self._busy = True
        self._stopping = False
        self._conn: Connection | None = None
        self._begun_s = self._begun_cpu_s = 0.0
        # How long the loop may yet stand still for slow flushes, and when that was reckoned.
        self._patience_s, self._reckoned_s = _SLOW_BUCKET_S, 0.0
        # Since the log was folded into the file.
        self._items = self._transactions = 0

    def start(self, source: Source) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        # A daemon, for a loop that ends without close() must not keep the process; what was acknowledged is on disk.
        self._thread = threading.Thread(target=self._main, name="group-writer", daemon=True)
        self._thread.start()

    def ring(self, *, at_once: bool = False) -> None:
        if self._busy:
            return
        self._busy = True
        if at_once:
            self._begin()
        else:
            # Whatever is ready to run in this turn of the loop shall queue first and share the commit.
            self._loop.call_soon(self._begin)

    async def stop(self) -> None:
        self._stopping = True
        self.ring()
        await self._ended.wait()
        self._thread.join()

    def _begin(self) -> None:
        """Begins the next transaction; the connection is not in use."""
        if self._should_fold():
            self._items = self._transactions = 0
            self._handover.begin()
            self._bell.put(([], None))
            return
        entries = self._source.take()
        if entries:
            self._transactions += 1
            self._items += sum([len(entry.items) for entry in entries])
            self._begun_s, self._begun_cpu_s = self._loop.time(), time.thread_time()
            handled = None
            if self._conn is not None and _all_brief(entries):
                handled = handle_entries(self._conn, entries)
                if handled is not None and self._may_flush():
                    self._flush(self._conn, entries, handled)
                    return
            self._handover.begin()
            self._bell.put((entries, handled))
        elif self._stopping:
            self._bell.put(None)
        else:
            self._busy = False

    def _should_fold(self) -> bool:
        share = max(self._items / _FOLD_ITEMS, self._transactions / _FOLD_TRANSACTIONS)
        return share >= 2 or (share >= 1 and not self._source.queued)

    def _may_flush(self) -> bool:
        if self._hook is not None:
            return False
        if self._patience_s <= 0:
            now_s = self._loop.time()
            self._patience_s += _SLOW_SHARE * (now_s - self._reckoned_s)
            self._reckoned_s = now_s
        return self._patience_s > 0

    def _flush(self, conn: Connection, entries: list[Entry], handled: list[list[Any]]) -> None:
        """Commits on the loop: where the disk is quick, that takes less time than a thread and back."""
        began_s = self._loop.time()
        _write(conn, entries, None, handled)
        ended_s = self._loop.time()
        if ended_s - began_s > self._quick_s:
            gained_s = _SLOW_SHARE * (began_s - self._reckoned_s)
            self._patience_s = min(self._patience_s + gained_s, _SLOW_BUCKET_S) - (ended_s - began_s)
            self._reckoned_s = ended_s
        self._settled(entries)

    def _main(self) -> None:
        try:
            with self._engine.connect() as conn:
                self._conn = conn
                if not self._post(self._begin):
                    return
                while order := self._bell.get():
                    entries, handled = order
                    if entries:
                        _write(conn, entries, self._hook, handled)
                    else:
                        _fold_log(conn)
                    if not self._post(self._settle, entries):
                        return
        finally:
            self._post(self._end)

    def _post(self, function: Callable[..., None], *arguments: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody is left to answer
            return False
        return True

    def _settle(self, entries: list[Entry]) -> None:
        self._handover.end()
        if entries:
            self._settled(entries)
        else:
            self._begin()

    def _settled(self, entries: list[Entry]) -> None:
        self._source.settle(entries)
        passed_s, busy_s = self._loop.time() - self._begun_s, time.thread_time() - self._begun_cpu_s
        if len(entries) >= _COMPANY and busy_s > _BUSY_SHARE * passed_s:
            self._loop.call_at(self._begun_s + _PACE_S, self._begin)
        else:
            # Some turns of the loop, so that those just answered can queue into the coming transaction.
            self._loop.call_soon(self._loop.call_soon, self._begin)

    def _end(self) -> None:
        self._source.abandon()
        self._ended.set()


def _write(conn: Connection, entries: list[Entry], hook: CommitHook | None, handled: list[list[Any]] | None) -> None:
    try:
        write_entries(conn, entries, hook, handled)
    except Outage as outage:
        logger.exception("database cannot be written")
        direct_sql.roll_back(conn)
        _fail_pending(entries, outage)


def _fold_log(conn: Connection) -> None:
    try:
        direct_sql.fold_log(conn)
    except sqlite3.Error:  # the log stays longer for a while; a disk that is full says so to the next commit
        logger.warning("the write-ahead log could not be folded into the file", exc_info=True)


def _all_brief(entries: list[Entry]) -> bool:
    count = 0
    for entry in entries:
        kind = entry.kind
        if not kind.brief:
            return False
        count += len(entry.items) if kind.weigh is None else sum(map(kind.weigh, entry.items))
    return count <= _MAX_BRIEF_ITEMS


class TaskLane:
    """Writes through one asynchronous connection that a task owns and makes anew when it breaks. For PostgreSQL."""

    def __init__(self, engine: AsyncEngine, *, hook: CommitHook | None = None) -> None:
        self._engine = engine
        self._hook = hook
        self._conn: AsyncConnection | None = None
        self._stopping = False

    def start(self, source: Source) -> None:
        self._source = source
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._main(), name="group-writer")

    def ring(self, *, at_once: bool = False) -> None:  # noqa: ARG002 - the task begins when it runs
        self._wake.set()

    async def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        await self._task

    async def _main(self) -> None:
        try:
            while True:
                if entries := self._source.take():
                    await self._write(entries)
                    self._source.settle(entries)
                    # One turn of the loop, so that those just answered can queue into the coming transaction.
                    await asyncio.sleep(0)
                elif self._stopping:
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._source.abandon()
            if self._conn is not None:
                await self._conn.close()

    async def _write(self, entries: list[Entry]) -> None:
        # A connection that died between two transactions has written nothing, so its failure is worth one more try.
        for _ in range(2):
            try:
                if self._conn is None:
                    self._conn = await connect(self._engine)
                waiting = [entry for entry in entries if entry.outcome is PENDING]
                await self._conn.run_sync(write_entries, waiting, self._hook)
                return
            except Outage as error:
                outage = error
            await self._disconnect()
            if outage.unknown:
                break
        logger.error("database cannot be written", exc_info=outage.__cause__)
        _fail_pending(entries, outage)

    async def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.invalidate()
            await conn.close()


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """A connection from the engine's pool.

    Raises:
        Outage: the server cannot be reached or takes no connections.
    """
    try:
        return await engine.connect()
    except (OSError, DBAPIError) as error:
        raise Outage(unknown=False) from error


def _fail_pending(entries: list[Entry], outage: Outage) -> None:
    for entry in entries:
        if entry.outcome is PENDING:
            entry.outcome = Failure(outage_error(unknown=outage.unknown))
