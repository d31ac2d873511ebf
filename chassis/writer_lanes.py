"""How the group writer's transactions reach each engine: a thread that owns a connection, or a task that owns one."""

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.handover import Handover
from chassis.write_transaction import PENDING, CommitHook, Entry, Failure, Outage, outage_error, write_entries

logger = logging.getLogger(__name__)


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

    def ring(self) -> None:
        """Says that something was queued. Called at every submit, so it must cost next to nothing. On the loop only."""

    async def stop(self) -> None:
        """Returns when everything queued has been written and settled."""


class ThreadLane:
    """Writes through a synchronous connection that one thread owns. For SQLite."""

    def __init__(self, engine: Engine, handover: Handover, *, hook: CommitHook | None = None) -> None:
        self._engine = engine
        self._handover = handover
        self._hook = hook
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._handed_over = False
        self._stopping = False

    def start(self, source: Source) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        # A daemon, for a loop that ends without close() must not keep the process; what was acknowledged is on disk.
        self._thread = threading.Thread(target=self._main, name="group-writer", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        if self._asleep:
            self._asleep = False
            # Not at once: whatever is ready to run in this turn of the loop shall queue first and share the commit.
            self._loop.call_soon(self._bell.put, None)
        if not self._handed_over:
            self._handed_over = True
            self._handover.begin()

    async def stop(self) -> None:
        self._stopping = True
        self._bell.put(None)
        await self._ended.wait()
        self._thread.join()

    def _main(self) -> None:
        try:
            with self._engine.connect() as conn:
                while entries := self._next():
                    try:
                        write_entries(conn, entries, self._hook)
                    except Outage as outage:
                        logger.exception("database cannot be written")
                        conn.rollback()
                        _fail_pending(entries, outage)
                    if not self._post(entries):
                        return
        finally:
            self._post(None)

    def _next(self) -> list[Entry]:
        """Waits for entries; empty when there is nothing more to come."""
        while True:
            stopping = self._stopping  # before the look into the queue: nothing is queued after it is set
            if entries := self._source.take():
                return entries
            if stopping:
                return []
            self._asleep = True
            # What was queued before `_asleep` was set has rung no bell, hence a second look before waiting for one.
            if entries := self._source.take():
                self._asleep = False
                return entries
            self._bell.get()
            self._asleep = False

    def _post(self, entries: list[Entry] | None) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._settle, entries)
        except RuntimeError:  # the loop is closed: nobody is left to answer
            return False
        return True

    def _settle(self, entries: list[Entry] | None) -> None:
        if self._handed_over:
            self._handed_over = False
            self._handover.end()
        if entries is None:
            self._source.abandon()
            self._ended.set()
            return
        self._source.settle(entries)
        if self._source.queued and not self._handed_over:
            self._handed_over = True
            self._handover.begin()


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

    def ring(self) -> None:
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
