"""Collects the items of one turn of the loop and submits them as one."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from chassis.errors import AppError, Internal, ResourceExhausted, Unavailable
from chassis.group_writer import GroupWriter
from router_service.store.items import Item
from router_service.store.mail_handler import MailHandler

_PATIENCE_S = 0.001
# A transaction costs some hundred microseconds before its first row. Once several writes share one, there is a queue
# already, and a few milliseconds between transactions let more share the next; a lone message never waits.
_BUSY_ITEMS = 4
_PACE_S = 0.004

_log = logging.getLogger(__name__)


class MailWriter:
    """The way into the mail handler: one queue entry and one future for everything that is posted in a turn.

    `on_commit` gets the items of each transaction, in order, before anybody who waits for one of them continues.
    `on_failure` gets items that were not written, or of which nobody knows; their tickets have failed already.
    """

    def __init__(self, writer: GroupWriter, handler: MailHandler) -> None:
        self._writer = writer
        self._handler = handler
        self._kind = writer.kind("mail", handler, after_commit=self._committed, brief=True)
        self._posted: list[Item] = []
        self._hurried = False
        self._timer: asyncio.TimerHandle | None = None
        # Until when further items wait, so that busy transactions keep their distance.
        self._next_s = 0.0
        self._writes: set[asyncio.Future[Any]] = set()
        self._on_commit: Callable[[Sequence[Item]], None] = lambda _items: None
        self._on_failure: Callable[[Sequence[Item], AppError], None] = lambda _items, _error: None
        self._loop = asyncio.get_running_loop()

    def listen(
        self,
        *,
        on_commit: Callable[[Sequence[Item]], None],
        on_failure: Callable[[Sequence[Item], AppError], None],
    ) -> None:
        self._on_commit, self._on_failure = on_commit, on_failure

    @property
    def queued(self) -> int:
        """Items that are posted and not yet answered."""
        return len(self._posted) + self._writer.queued

    def post(self, item: Item, *, patient: bool = False) -> None:
        """Has the item written; what becomes of it is told to the listeners and to its ticket.

        A `patient` one waits a millisecond or two for others to share its commit.
        """
        self._posted.append(item)
        if self._hurried:
            return
        if not patient:
            self._hurried = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._loop.time() < self._next_s:
                self._timer = self._loop.call_at(self._next_s, self._flush)
            else:
                self._loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE_S, self._flush)

    async def close(self) -> None:
        """Returns when everything posted is answered."""
        while self._posted or self._writes:
            self._flush()
            await asyncio.gather(*self._writes, return_exceptions=True)

    def _flush(self) -> None:
        self._hurried = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._posted:
            return
        items, self._posted = self._posted, []
        if len(items) >= _BUSY_ITEMS:
            self._next_s = self._loop.time() + _PACE_S
        try:
            write = self._writer.post_many(self._kind, items)
        except (ResourceExhausted, Unavailable) as error:
            self._fail(items, error)
            return
        if not write.done() or write.exception() is not None:
            self._writes.add(write)
            write.add_done_callback(partial(self._written, items))

    def _written(self, items: list[Item], write: asyncio.Future[Any]) -> None:
        self._writes.discard(write)
        error = None if write.cancelled() else write.exception()
        if isinstance(error, (ResourceExhausted, Unavailable)):
            self._fail(items, error)
        elif isinstance(error, Exception):  # one caller's poison must not fail those who shared its turn
            retry = self._loop.create_task(self._submit_each(items, error))
            self._writes.add(retry)
            retry.add_done_callback(self._writes.discard)

    async def _submit(self, items: list[Item]) -> None:
        try:
            await self._writer.submit_many(self._kind, items)
        except (ResourceExhausted, Unavailable) as error:
            self._fail(items, error)
        except Exception as error:  # noqa: BLE001 - it goes on to the one item that it is about
            await self._submit_each(items, error)

    async def _submit_each(self, items: list[Item], error: Exception) -> None:
        if len(items) > 1:
            for item in items:
                await self._submit([item])
            return
        _log.error("mail could not be written", exc_info=error, extra={"item": type(items[0]).__name__})
        self._fail(items, error if isinstance(error, AppError) else Internal("internal error"))

    def _fail(self, items: list[Item], error: AppError) -> None:
        for item in items:
            if item.ticket is not None:
                item.ticket.fail(error)
        self._on_failure(items, error)

    def _committed(self, items: Sequence[Item]) -> None:
        self._handler.committed()
        self._on_commit(items)
        for item in items:
            if item.ticket is not None:
                item.ticket.done()
