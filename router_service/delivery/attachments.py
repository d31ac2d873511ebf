"""A worker's stream: the room it has, and what waits to be told to it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from chassis.errors import AppError, ResourceExhausted
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.messages import fill_delivery, fill_joined
from router_service.delivery.live import LiveLease
from router_service.domain.limits import MAX_CREDIT
from router_service.domain.mail import JoinedMessage

# A frame ends when it has so many deliveries, or so many bytes of them: a worker shall begin with the first before
# it has read the last, and a frame must fit a gRPC message.
_FRAME_DELIVERIES = 256
_FRAME_BYTES = 1024 * 1024
# Settlements and cancellations that a worker may leave unread before it is taken for dead.
_MAX_UNREAD = 50_000
# Settlements wait so long for a delivery to share its frame: the room that they give back is in use already.
_PATIENCE_S = 0.002


class Attachment:
    """One stream, or one pull. `number` tells streams of this process apart; `id` those of all times.

    `window` is how many runs the worker takes at once; `in_flight` counts those it has and those set aside for it.
    """

    def __init__(
        self,
        number: int,
        identity: str,
        worker: str,
        bots: frozenset[str],
        window: int,
        *,
        lease_expire_us: Callable[[], int],
        pull_lease_us: int = 0,
    ) -> None:
        self.number = number
        self.id = identity
        self.worker = worker
        self.bots = bots
        self.window = window
        self.in_flight = 0
        self.draining = False
        # Its row is written: before, no row does not mean that a newer stream took its place.
        self.recorded = False
        self.pull_lease_us = pull_lease_us
        self.live: dict[str, LiveLease] = {}
        self._lease_expire_us = lease_expire_us
        self._deliveries: deque[LiveLease] = deque()
        self._settlements: list[message_pb2.Settlement] = []
        self._cancellations: list[message_pb2.Cancellation] = []
        self._steerings: deque[tuple[LiveLease, JoinedMessage, message_pb2.MessageDraft, int]] = deque()
        self._receipts: list[message_pb2.StepReceipt] = []
        self._bell = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._closed = False
        self._error: AppError | None = None

    @property
    def free(self) -> int:
        """Runs it could take now."""
        if self._closed or self.draining:
            return 0
        return self.window - self.in_flight

    @property
    def closed(self) -> bool:
        return self._closed

    def grow(self, credit: int) -> None:
        self.window = min(self.window + max(0, credit), MAX_CREDIT)

    def deliver(self, live: LiveLease) -> None:
        self._deliveries.append(live)
        self._bell.set()

    def settled(self, settlement: message_pb2.Settlement) -> None:
        self._settlements.append(settlement)
        if self._patience is None and not self._bell.is_set():
            self._patience = asyncio.get_running_loop().call_later(_PATIENCE_S, self._ring)
        if len(self._settlements) > _MAX_UNREAD:
            self.close(ResourceExhausted("the worker does not read what is sent to it", reason="SLOW_CONSUMER"))

    def remembered(self, receipt: message_pb2.StepReceipt) -> None:
        self._receipts.append(receipt)
        self._bell.set()
        if len(self._receipts) > _MAX_UNREAD:
            self.close(ResourceExhausted("the worker does not read what is sent to it", reason="SLOW_CONSUMER"))

    def steer(self, live: LiveLease, joined: JoinedMessage, draft: message_pb2.MessageDraft, sequence: int) -> None:
        """Hands a further message to the turn of `live`, after its delivery."""
        live.steered[joined.run] = (joined, draft)
        self._steerings.append((live, joined, draft, sequence))
        self._bell.set()

    def stop(self, live: LiveLease, reason: str, *, lost: bool) -> None:
        """Tells the worker to stop a run; at its delivery, if that is still ahead."""
        live.stop_reason = reason
        if live.delivered:
            self._cancel(live, reason, lost=lost)

    def close(self, error: AppError | None = None) -> None:
        """Ends the stream, with what waits still sent before a clean end."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._bell.set()

    def end_if_idle(self) -> None:
        """Ends the stream of a worker that drains and has nothing left."""
        if self.draining and not self.live and self.in_flight == 0:
            self.close()

    async def frames(self) -> AsyncIterator[router_service_pb2.AttachResponse]:
        """What to send, until the stream is closed.

        Raises:
            AppError: what it was closed with.
        """
        while True:
            await self._bell.wait()
            self._bell.clear()
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            while frame := self._next_frame():
                yield frame
            if self._closed:
                if self._error is not None:
                    raise self._error
                return

    async def pull(self, most: int, wait_s: float, linger_s: float) -> list[message_pb2.Delivery]:
        """Up to `most` deliveries: as soon as there is one, else none after `wait_s`.

        What was set aside when the wait was over is waited for, at most `linger_s`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        found: list[message_pb2.Delivery] = []
        while True:
            frame = self._next_frame()
            if frame is not None:
                found.extend(frame.deliveries)
            on_the_way = self.in_flight - len(found)
            if len(found) >= most or (found and on_the_way <= 0):
                return found
            until = deadline if not found else loop.time() + linger_s
            try:
                async with asyncio.timeout_at(until):
                    await self._bell.wait()
                    self._bell.clear()
            except TimeoutError:
                if self.draining or found or on_the_way <= 0:
                    return found
                self.draining = True
                deadline = loop.time() + linger_s

    def _ring(self) -> None:
        self._patience = None
        self._bell.set()

    def _next_frame(self) -> router_service_pb2.AttachResponse | None:
        if not (self._deliveries or self._settlements or self._cancellations or self._receipts or self._steerable()):
            return None
        frame = router_service_pb2.AttachResponse()
        if self._settlements:
            frame.settlements.extend(self._settlements)
            self._settlements.clear()
        expire_us, size, count = self._lease_expire_us(), 0, 0
        while self._deliveries and count < _FRAME_DELIVERIES and size < _FRAME_BYTES:
            live = self._deliveries.popleft()
            draft = live.draft
            if live.ended or draft is None or live.attachment != self.number:
                continue
            delivery = frame.deliveries.add()
            fill_delivery(
                delivery,
                live.lease,
                draft,
                sequence=live.sequence,
                lease_expire_us=expire_us,
                joined=live.collected,
                memory=live.memory,
            )
            size += draft.ByteSize() if not (live.collected or live.memory) else delivery.ByteSize()
            count += 1
            live.hand_over()
            if live.stop_reason is not None:
                self._cancel(live, live.stop_reason, lost=False)
        if self._receipts:
            frame.step_receipts.extend(self._receipts)
            self._receipts.clear()
        if self._steerings:
            self._add_steerings(frame)
        if self._cancellations:
            frame.cancellations.extend(self._cancellations)
            self._cancellations.clear()
        return frame

    def _steerable(self) -> bool:
        return any(live.delivered or live.ended for live, _, _, _ in self._steerings)

    def _add_steerings(self, frame: router_service_pb2.AttachResponse) -> None:
        for _ in range(len(self._steerings)):
            entry = self._steerings.popleft()
            live, joined, draft, sequence = entry
            if live.ended or live.attachment != self.number:
                continue
            if not live.delivered:  # its delivery comes first
                self._steerings.append(entry)
                continue
            steering = frame.steerings.add(run=live.lease.run, epoch=live.lease.epoch, sequence=sequence)
            fill_joined(steering.message, joined, draft, live.lease.run, epoch=0)

    def _cancel(self, live: LiveLease, reason: str, *, lost: bool) -> None:
        self._cancellations.append(
            message_pb2.Cancellation(run=live.lease.run, epoch=live.lease.epoch, reason=reason, lease_lost=lost)
        )
        self._bell.set()
