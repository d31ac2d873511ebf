"""Workers that act for bots: with a token of its own a worker may act for the bots that it serves, and for no others.

Which these are the registry says. It is asked when a worker comes with a bot that it is not known to serve, and again
after a few seconds: a bot that is taken from a worker is out of its reach then.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection

import grpc.aio

from chassis import errors
from chassis.identity import Caller, not_allowed
from chassis.status import from_rpc_error

TTL_S = 5.0
_MAX_REMEMBERED = 10_000

_log = logging.getLogger("mobot.delegation")


class Delegation:
    """Remembers what the registry says for `ttl_s`."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Collection[str] | None]],
        *,
        ttl_s: float = TTL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` gives the bots ("bots/main") that a worker ("workers/w1") serves now, None when it holds no lease."""
        self._ask = ask
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._known: dict[str, tuple[Collection[str], float]] = {}
        self._asking: dict[str, asyncio.Task[Collection[str]]] = {}

    async def serves(self, worker: str, bot: str) -> bool:
        """Whether the worker serves the bot. While the registry does not answer, what it said last holds.

        Raises:
            Unavailable: it does not answer, and has not said so before; or the worker holds no lease at the moment.
        """
        bots, until = self._known.get(worker, ((), 0.0))
        if bot in bots and self._monotonic() < until:
            return True
        try:
            return bot in await self._told(worker)
        except errors.Unavailable as error:
            if bot not in bots or worker not in self._known:
                raise
            _log.warning("the registry does not answer", extra={"worker": worker, "reason": error.reason or error.code})
            return True

    async def check(self, caller: Caller) -> None:
        """Refuses a worker that acts for a bot which it does not serve.

        Raises:
            PermissionDenied: CALLER_NOT_ALLOWED.
        """
        if not await self.serves(caller.principal, caller.actor):
            raise not_allowed(caller.principal, caller.actor)

    async def _told(self, worker: str) -> Collection[str]:
        # One question for all who want to know: a worker's turns begin many at a time.
        task = self._asking.get(worker)
        if task is None:
            task = self._asking[worker] = asyncio.create_task(self._learn(worker))
            task.add_done_callback(lambda _: self._asking.pop(worker, None))
        return await asyncio.shield(task)

    async def _learn(self, worker: str) -> Collection[str]:
        try:
            bots = await self._ask(worker)
        except grpc.aio.AioRpcError as error:
            told = from_rpc_error(error)
            if not isinstance(told, errors.NotFound):
                raise told from error
            bots = None
        except errors.NotFound:
            bots = None
        if bots is None:
            # It registers again in a moment: what it does meanwhile need not fail for good.
            self._known.pop(worker, None)
            raise errors.Unavailable(
                f"{worker} holds no lease in the registry", metadata={"worker": worker}, retry_after_s=1.0
            )
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[worker] = (frozenset(bots), self._monotonic() + self._ttl_s)
        return bots
