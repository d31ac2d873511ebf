"""The group writer: every write of a store goes through one queue and shares its commit with all that queued beside it.

A commit costs one disk flush however many rows it carries, so callers that share it pay microseconds instead of
hundreds. Nothing waits to fill a batch: a transaction takes what queued while the one before it was committing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from chassis.errors import QUEUE_FULL, AppError, Draining, ResourceExhausted
from chassis.write_transaction import PENDING, BatchHandler, Entry, Failure, WriteKind, outage_error, run_each
from chassis.writer_lanes import Lane

__all__ = ["BatchHandler", "GroupWriter", "WriteKind"]

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_QUEUE_FULL_RETRY_AFTER_S = 0.25


class GroupWriter:
    """The one writer of a store. Belongs to the event loop on which it was started.

    A submitted write happens even if its submitter stops waiting. Handlers may run again after a rollback, so they keep
    no state of their own except what `on_rollback` resets.
    """

    def __init__(self, lane: Lane, *, max_queued: int = 50_000, max_transaction_items: int = 2_048) -> None:
        self._lane = lane
        self._max_queued = max_queued
        self._max_transaction_items = max_transaction_items
        self._queue: deque[Entry] = deque()
        self._unsettled_items = 0
        self._closing = False
        self._run_kind: WriteKind[Callable[[Connection], Any], Any] = WriteKind("run", run_each)

    def start(self) -> None:
        """Starts writing; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._lane.start(self)

    def kind(
        self,
        name: str,
        handler: BatchHandler[Item, Result],
        *,
        after_commit: Callable[[Sequence[Result]], None] | None = None,
        on_rollback: Callable[[], None] | None = None,
        brief: bool = False,
        weigh: Callable[[Item], int] | None = None,
    ) -> WriteKind[Item, Result]:
        """Declares a kind of write.

        Args:
            handler: Called inside a transaction with all consecutive items of its kind, in queue order; returns a
                result or an AppError for each. An item answered with an AppError must have written nothing.
            after_commit: Called on the loop once per transaction with the kind's results that are not errors, in queue
                order, before any submitter continues.
            on_rollback: Called where the handler runs, after a transaction with its kind was rolled back.
            brief: The handler takes some ten microseconds an item and never waits, so that it may run on the loop.
            weigh: How many such items an item counts for. Heavier transactions run in the writer's thread.
        """
        return WriteKind(name, handler, after_commit, on_rollback, brief, weigh)

    @property
    def queued(self) -> int:
        """Items accepted and not yet answered."""
        return self._unsettled_items

    async def submit(self, kind: WriteKind[Item, Result], item: Item) -> Result:
        """Writes `item`; returns its result once it is committed and flushed to disk.

        Raises:
            AppError: what the handler answered for this item.
            ResourceExhausted: QUEUE_FULL, with a time after which to try again.
            Unavailable: the writer is closing (DRAINING) or the database is not reachable.
        """
        result: Result = await self._enqueue(kind, (item,), alone=True)
        return result

    async def submit_many(
        self, kind: WriteKind[Item, Result], items: Sequence[Item], *, at_once: bool = False
    ) -> list[Result | AppError]:
        """Writes `items` in one transaction, as one place in the queue; returns a result or an AppError for each.

        `at_once` is for lists that were gathered already: they do not wait a turn of the loop for company.

        Raises:
            ResourceExhausted, Unavailable: as `submit`, for the whole list.
        """
        if not items:
            return []
        results: list[Result | AppError] = await self._enqueue(kind, items, alone=False, at_once=at_once)
        return results

    def post_many(
        self, kind: WriteKind[Item, Result], items: Sequence[Item]
    ) -> "asyncio.Future[list[Result | AppError]]":
        """As `submit_many`, at once, for a submitter that goes on meanwhile. The future may be done already."""
        return self._enqueue(kind, items, alone=False, at_once=True)

    async def run(self, function: Callable[[Connection], Result]) -> Result:
        """Runs one admin write in the same queue; returns what it returned, after the commit.

        Whatever `function` raises is raised here, and nothing it wrote remains. It may be called more than once.
        """
        result: Result = await self._enqueue(self._run_kind, (function,), alone=True)
        return result

    async def close(self) -> None:
        """Refuses new writes and returns when all queued ones are finished. Closing again does nothing."""
        self._closing = True
        await self._lane.stop()

    def _enqueue(
        self, kind: WriteKind[Any, Any], items: Sequence[Any], *, alone: bool, at_once: bool = False
    ) -> asyncio.Future[Any]:
        if self._closing:
            raise Draining
        # An over-long list is still let into an empty queue, or it could never be written at all.
        if self._unsettled_items and self._unsettled_items + len(items) > self._max_queued:
            raise ResourceExhausted(
                f"{self._unsettled_items} writes are waiting, which is the most this store takes; try again",
                reason=QUEUE_FULL,
                metadata={"queued": str(self._unsettled_items), "limit": str(self._max_queued)},
                retry_after_s=_QUEUE_FULL_RETRY_AFTER_S,
            )
        future = self._loop.create_future()
        self._unsettled_items += len(items)
        self._queue.append(Entry(kind, items, future, alone))
        self._lane.ring(at_once=at_once)
        return future

    def take(self) -> list[Entry]:
        """For the lane: the entries of the next transaction. Called where the lane runs; deque makes that safe."""
        entries: list[Entry] = []
        queue, room = self._queue, self._max_transaction_items
        while queue and room > 0:
            entry = queue.popleft()
            entries.append(entry)
            room -= len(entry.items)
        return entries

    def abandon(self) -> None:
        """For the lane: it has ended. Normally the queue is empty by then; whatever is not was never written."""
        self._closing = True
        entries = list(self._queue)
        self._queue.clear()
        self.settle(entries)

    def settle(self, entries: list[Entry]) -> None:
        """For the lane: answers the submitters of one transaction, in queue order. Runs on the loop."""
        self._notify(entries)
        for entry in entries:
            self._unsettled_items -= len(entry.items)
            future, outcome = entry.future, entry.outcome
            if future.done():  # its submitter stopped waiting
                continue
            if outcome is PENDING:
                future.set_exception(outage_error())
            elif isinstance(outcome, Failure):
                future.set_exception(outcome.error)
            elif entry.alone:
                result = outcome[0]
                if isinstance(result, AppError):
                    future.set_exception(result)
                elif isinstance(result, Failure):
                    future.set_exception(result.error)
                else:
                    future.set_result(result)
            else:
                future.set_result(outcome)

    def _notify(self, entries: list[Entry]) -> None:
        committed: dict[WriteKind[Any, Any], list[Any]] = {}
        for entry in entries:
            if entry.kind.after_commit is not None and not isinstance(entry.outcome, Failure):
                results = committed.setdefault(entry.kind, [])
                results.extend(result for result in entry.outcome if not isinstance(result, AppError))
        for kind, results in committed.items():
            if kind.after_commit is not None and results:
                try:
                    kind.after_commit(results)
                except Exception:  # what is committed stays committed, and its submitters must hear of it
                    logger.exception("after_commit failed", extra={"kind": kind.name})
