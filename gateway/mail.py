"""Sends messages to the router over one stream of batches, and loses none when the stream breaks.

Every draft carries an idempotency key, so what was sent and not answered is simply sent again: the router answers
the second time with the receipt of the first.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import grpc.aio

from chassis import errors, status
from gateway.metrics import GatewayMetrics
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc

logger = logging.getLogger(__name__)

RouterStub: TypeAlias = "router_service_pb2_grpc.RouterServiceAsyncStub"

_MAX_FRAME_MESSAGES = 500
_MAX_FRAME_BYTES = 8 * 1024 * 1024
_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 2.0

_REFUSALS: Mapping[int, type[errors.AppError]] = {
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: errors.InvalidArgument,
    grpc.StatusCode.NOT_FOUND.value[0]: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS.value[0]: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED.value[0]: errors.PermissionDenied,
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED.value[0]: errors.Aborted,
    grpc.StatusCode.OUT_OF_RANGE.value[0]: errors.OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE.value[0]: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: errors.Unimplemented,
}


@dataclass(slots=True, eq=False)
class _Letter:
    draft: message_pb2.MessageDraft
    receipt: "asyncio.Future[message_pb2.Receipt]"


class Mail:
    """The gateway's one stream to the router. `run` must be running for anything to be sent."""

    def __init__(
        self, router: RouterStub, *, metrics: GatewayMetrics, max_waiting: int = 10_000, timeout_s: float = 30.0
    ) -> None:
        self._router = router
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._unsent: deque[_Letter] = deque()
        self._unanswered: dict[int, _Letter] = {}
        self._wake = asyncio.Event()
        self._credit = 0
        self._next_number = 1

    async def send(self, draft: message_pb2.MessageDraft) -> message_pb2.Receipt:
        """Returns once the message is durable. Messages of one caller are accepted in the order of the calls.

        `draft.idempotency_key` must be set.

        Raises:
            AppError: the router's refusal; ResourceExhausted when too many messages wait; Unavailable when the router
                gave no answer in time (it may have accepted the message: send again with the same key).
        """
        if len(self._unsent) + len(self._unanswered) >= self._max_waiting:
            raise errors.ResourceExhausted(
                f"{self._max_waiting} messages wait for the router", reason=errors.QUEUE_FULL, retry_after_s=1.0
            )
        letter = _Letter(draft, asyncio.get_running_loop().create_future())
        self._unsent.append(letter)
        self._wake.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await letter.receipt
        except TimeoutError:
            raise errors.Unavailable(
                "the router did not answer in time; send again with the same idempotencyKey", retry_after_s=1.0
            ) from None

    async def run(self) -> None:
        """Keeps the stream open until cancelled."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            # A stream is opened for the first letter and then kept.
            await self._letters_waiting()
            call = self._router.Send()
            try:
                await self._serve(call)
                backoff_s = _FIRST_BACKOFF_S
            except grpc.aio.AioRpcError as error:
                if self._credit:
                    backoff_s = _FIRST_BACKOFF_S
                self._stream_broke(error)
            finally:
                call.cancel()
                self._take_back()
            self._metrics.mail_reconnects.inc()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    async def _serve(
        self, call: "grpc.aio.StreamStreamCall[router_service_pb2.SendRequest, router_service_pb2.SendResponse]"
    ) -> None:
        # An empty first frame asks for credit.
        await call.write(router_service_pb2.SendRequest(first_number=1))
        writer = asyncio.create_task(self._write(call))
        try:
            async for response in call:
                self._answered(response)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(
        self, call: "grpc.aio.StreamStreamCall[router_service_pb2.SendRequest, router_service_pb2.SendResponse]"
    ) -> None:
        while True:
            while not (self._unsent and self._credit > 0):
                self._wake.clear()
                await self._wake.wait()
            frame = router_service_pb2.SendRequest(first_number=self._next_number)
            size = 0
            while self._unsent and self._credit > 0 and len(frame.messages) < _MAX_FRAME_MESSAGES:
                letter = self._unsent[0]
                size += letter.draft.ByteSize()
                if frame.messages and size > _MAX_FRAME_BYTES:
                    break
                self._unsent.popleft()
                if letter.receipt.done():  # its caller has gone
                    continue
                frame.messages.append(letter.draft)
                self._unanswered[self._next_number] = letter
                self._next_number += 1
                self._credit -= 1
            if frame.messages:
                try:
                    await call.write(frame)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the reader hears why

    def _answered(self, response: router_service_pb2.SendResponse) -> None:
        self._credit += response.credit
        self._wake.set()
        for outcome in response.outcomes:
            letter = self._unanswered.pop(outcome.number, None)
            if letter is None or letter.receipt.done():
                continue
            if outcome.WhichOneof("outcome") == "refusal":
                letter.receipt.set_exception(_error_of(outcome.refusal))
            else:
                letter.receipt.set_result(outcome.receipt)

    def _take_back(self) -> None:
        """What was sent and not answered goes to the front again, in its order. Numbers begin anew."""
        for _, letter in sorted(self._unanswered.items(), reverse=True):
            if not letter.receipt.done():
                self._unsent.appendleft(letter)
        self._unanswered.clear()
        self._credit = 0
        self._next_number = 1

    def _stream_broke(self, error: grpc.aio.AioRpcError) -> None:
        refusal = status.from_rpc_error(error)
        logger.info("mail stream ended", extra={"code": refusal.code, "reason": refusal.reason})
        if refusal.code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"):
            # Trying again cannot help those who wait.
            for letter in (*self._unanswered.values(), *self._unsent):
                if not letter.receipt.done():
                    letter.receipt.set_exception(refusal)
            self._unanswered.clear()
            self._unsent.clear()

    async def _letters_waiting(self) -> None:
        while not self._unsent:
            self._wake.clear()
            await self._wake.wait()


def _error_of(refusal: message_pb2.Refusal) -> errors.AppError:
    cls = _REFUSALS.get(refusal.code, errors.Internal)
    retry_after_s = refusal.retry_delay.ToNanoseconds() / 1e9 if refusal.HasField("retry_delay") else None
    return cls(refusal.message, reason=refusal.reason, metadata=dict(refusal.metadata), retry_after_s=retry_after_s)
