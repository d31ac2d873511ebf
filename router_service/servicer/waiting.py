"""Waiting for runs to end, and reading single messages."""

import asyncio
from functools import partial

from chassis.errors import Draining
from mobot.router.v1 import message_pb2
from router_service.convert.messages import to_proto_message
from router_service.delivery.waiters import RunWaiters
from router_service.domain.errors import MessageNotFound
from router_service.domain.state import TERMINAL
from router_service.store import messages
from router_service.store.items import Item
from router_service.store.messages import StoredMessage
from router_service.store.router_store import RouterStore


class Waiting:
    """Looks at runs, now or when they have ended."""

    def __init__(self, store: RouterStore, waiters: RunWaiters) -> None:
        self._store = store
        self._waiters = waiters
        self._drained = False

    def drain(self) -> None:
        """Ends all waiting with DRAINING."""
        self._drained = True
        self._waiters.notify_all()

    def now_us(self) -> int:
        return self._store.now_us()

    def post(self, item: Item) -> None:
        self._store.mail.post(item)

    def watch(self, run: str) -> asyncio.Event:
        return self._waiters.add(run)

    def unwatch(self, run: str, event: asyncio.Event) -> None:
        self._waiters.remove(run, event)

    async def find(self, *, message_id: str = "", run: str = "") -> StoredMessage:
        """Raises MESSAGE_NOT_FOUND."""
        stored = await self._store.read(partial(messages.find_message, message_id=message_id, run=run))
        if stored is None:
            raise MessageNotFound(f"messages/{message_id}" if message_id else run)
        return stored

    async def until_ended(self, run: str, event: asyncio.Event, timeout_s: float) -> message_pb2.Message | None:
        """The message when its run has ended; None when it has not after `timeout_s`.

        Raises:
            Unavailable: DRAINING.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            event.clear()  # before the look: an end that comes during it rings again
            stored = await self.find(run=run)
            if stored.row["state"] in TERMINAL:
                return to_proto_message(stored, with_reply=True)
            if self._drained:
                raise Draining
            try:
                async with asyncio.timeout_at(deadline):
                    await event.wait()
            except TimeoutError:
                return None
