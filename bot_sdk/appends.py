"""One queue for all events this process writes, so that many turns share one BatchAppendEvents call.

While a call is on its way the next batch gathers, as in a group commit: one turn alone waits for one round trip, a
thousand turns cost hardly more calls than one. Order within a session is the order of `append`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from bot_sdk import convert
from bot_sdk.backoff import Backoff
from bot_sdk.errors import LeaseLost
from bot_sdk.model import Lease
from bot_sdk.stubs import TRANSIENT, Stubs, answer
from chassis import errors
from mobot.session.v1 import event_pb2, session_service_pb2

MAX_QUEUED = 20_000
MAX_BATCH = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024
GIVE_UP_S = 60.0
FENCED = "FENCED"

_log = logging.getLogger("mobot.sdk.appends")


class _Pending:
    __slots__ = ("append", "committed", "size")

    def __init__(self, append: session_service_pb2.SessionAppend, committed: asyncio.Future[int]) -> None:
        self.append = append
        self.size = append.ByteSize()
        self.committed = committed


class AppendQueue:
    """`run` must be running for anything to be written; its owner is the worker."""

    def __init__(self, stubs: Stubs, *, max_queued: int = MAX_QUEUED, give_up_s: float = GIVE_UP_S) -> None:
        """`give_up_s`: how long an unreachable session service is tried before the turns are told."""
        self._stubs = stubs
        self._max_queued = max_queued
        self._give_up_s = give_up_s
        self._queue: deque[_Pending] = deque()
        self._wake = asyncio.Event()

    def append(self, lease: Lease, events: Sequence[event_pb2.Event]) -> asyncio.Future[int]:
        """Queues events of one session; the future gives the sequence of the last one after the commit.

        A future that is cancelled before its batch leaves takes its events back.

        Raises (by the future):
            LeaseLost: a newer lease writes to the session.
            chassis.errors.AppError: the append was refused, or the service could not be reached for `give_up_s`.

        Raises (at once):
            ResourceExhausted: too many appends wait.
        """
        if len(self._queue) >= self._max_queued:
            raise errors.ResourceExhausted(
                "too many events wait to be written", reason=errors.QUEUE_FULL, retry_after_s=1.0
            )
        committed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        append = session_service_pb2.SessionAppend(session=lease.session, epoch=lease.epoch, events=events)
        self._queue.append(_Pending(append, committed))
        self._wake.set()
        return committed

    async def run(self) -> None:
        """Writes what is queued until it is cancelled."""
        while True:
            await self._wake.wait()
            # Whoever else is ready in this round of the loop joins the batch.
            await asyncio.sleep(0)
            batch = self._take()
            if batch:
                await self._write(batch)

    def _take(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            pending = self._queue.popleft()
            if not pending.committed.done():
                batch.append(pending)
                size += pending.size
        if not self._queue:
            self._wake.clear()
        return batch

    async def _write(self, batch: list[_Pending]) -> None:
        backoff = Backoff()
        give_up_at = time.monotonic() + self._give_up_s
        while batch:
            request = session_service_pb2.BatchAppendEventsRequest(appends=[pending.append for pending in batch])
            try:
                response = await answer(self._stubs.session.BatchAppendEvents(request))
            except TRANSIENT as error:
                if time.monotonic() >= give_up_at:
                    _fail(batch, error)
                    return
                _log.warning("append delayed", extra={"reason": error.reason or error.code, "appends": len(batch)})
                await asyncio.sleep(backoff.next_s(error.retry_after_s))
                # The ids are deterministic, so writing again is safe; who was cancelled meanwhile wants it no more.
                batch = [pending for pending in batch if not pending.committed.done()]
            except errors.AppError as error:
                _fail(batch, error)
                return
            else:
                for pending, outcome in zip(batch, response.outcomes, strict=True):
                    _settle(pending, outcome)
                return


def _settle(pending: _Pending, outcome: session_service_pb2.AppendOutcome) -> None:
    committed = pending.committed
    if committed.done():
        return
    if not outcome.HasField("refusal") or not outcome.refusal.code:
        committed.set_result(outcome.sequences[-1] if outcome.sequences else 0)
    elif outcome.refusal.reason == FENCED:
        committed.set_exception(LeaseLost(outcome.refusal.message))
    else:
        committed.set_exception(convert.to_error(outcome.refusal, dict(outcome.refusal.metadata)))


def _fail(batch: list[_Pending], error: errors.AppError) -> None:
    for pending in batch:
        if not pending.committed.done():
            pending.committed.set_exception(error)
