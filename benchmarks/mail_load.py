"""Mail load at the level of the contract: a sender and a worker in this process, for any router-shaped server."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import grpc

from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import part_pb2

BODY = "x" * 150
WORKER = "workers/bench"
_key_numbers = itertools.count()
_KEY_PREFIX = f"bench-{time.time_ns():x}"


@dataclass(slots=True)
class Load:
    """What a run of load saw: seconds from send to delivery of each message, and rates over the wall time."""

    sent: int = 0
    delivered: int = 0
    seconds: float = 0.0
    send_latency_s: list[float] = field(default_factory=list)
    delivery_latency_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return min(self.sent, self.delivered or self.sent) / self.seconds


def draft(session: str) -> message_pb2.MessageDraft:
    return message_pb2.MessageDraft(
        session=session,
        parts=[part_pb2.Part(text=BODY)],
        idempotency_key=f"{_KEY_PREFIX}-{next(_key_numbers)}",
    )


def completions(deliveries: Iterable[message_pb2.Delivery]) -> list[message_pb2.Completion]:
    """The end of each of these, without a word said."""
    return [
        message_pb2.Completion(run=delivery.message.run, epoch=delivery.epoch, stop_reason="stop")
        for delivery in deliveries
    ]


def channel(target: str) -> grpc.aio.Channel:
    """A connection of its own: benchmarks must not share one behind their backs."""
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])


class Consumer:
    """A worker that completes every delivery at once, a frame of completions for a frame of deliveries."""

    def __init__(self, target: str, metadata: Sequence[tuple[str, str]], bots: Sequence[str], credit: int) -> None:
        self._channel = channel(target)
        self._stub = router_service_pb2_grpc.RouterServiceStub(self._channel)
        self._metadata = tuple(metadata)
        self._hello = router_service_pb2.AttachHello(worker=WORKER, bots=bots, credit=credit, contract_version="v1")
        self._task: asyncio.Task[None] | None = None
        self.sent_at: dict[str, float] = {}
        self.latencies: list[float] = []
        self.delivered = 0
        self.arrived = asyncio.Event()

    async def __aenter__(self) -> "Consumer":
        self._call = self._stub.Attach(metadata=self._metadata)
        await self._call.write(router_service_pb2.AttachRequest(hello=self._hello))
        await self._call.read()
        self._task = asyncio.create_task(self._consume())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def until(self, count: int, timeout_s: float) -> None:
        """Waits until `count` messages were delivered in all."""
        async with asyncio.timeout(timeout_s):
            while self.delivered < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def _consume(self) -> None:
        while True:
            frame = await self._call.read()
            if not isinstance(frame, router_service_pb2.AttachResponse):
                return
            if not frame.deliveries:
                continue
            now = time.perf_counter()
            for delivery in frame.deliveries:
                sent = self.sent_at.pop(delivery.message.run, None)
                if sent is not None:
                    self.latencies.append(now - sent)
            self.delivered += len(frame.deliveries)
            self.arrived.set()
            await self._call.write(router_service_pb2.AttachRequest(completions=completions(frame.deliveries)))


async def unary(
    target: str,
    metadata: Sequence[tuple[str, str]],
    sessions: Sequence[str],
    *,
    in_flight: int,
    seconds: float,
    consumer: Consumer | None,
) -> Load:
    """SendMessage with `in_flight` callers; with a consumer the clock stops when the last message was delivered."""
    load = Load()
    connection = channel(target)
    stub = router_service_pb2_grpc.RouterServiceStub(connection)
    before = consumer.delivered if consumer else 0
    seen = len(consumer.latencies) if consumer else 0
    start = time.perf_counter()
    end = start + seconds
    targets = itertools.cycle(sessions)

    async def caller() -> None:
        while (now := time.perf_counter()) < end:
            message = draft(next(targets))
            if consumer:
                consumer.sent_at[message.idempotency_key] = now
            await stub.SendMessage(
                router_service_pb2.SendMessageRequest(message=message), metadata=tuple(metadata), timeout=30
            )
            load.sent += 1
            load.send_latency_s.append(time.perf_counter() - now)
            if consumer and in_flight == 1:
                # In flight means until it is delivered: a second message would share this one's way.
                await consumer.until(before + load.sent, timeout_s=30)

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    if consumer:
        await consumer.until(before + load.sent, timeout_s=30)
        load.delivered = consumer.delivered - before
        load.delivery_latency_s = consumer.latencies[seen:]
    load.seconds = time.perf_counter() - start
    await connection.close()
    return load


async def streamed(
    target: str,
    metadata: Sequence[tuple[str, str]],
    sessions: Sequence[str],
    *,
    frame: int,
    window: int,
    seconds: float,
    consumer: Consumer,
    most: float = inf,
) -> Load:
    """Send in frames of `frame` messages with `window` of them unacknowledged, for so long or until `most` were sent.

    Ends when the last was delivered.
    """
    load = Load()
    connection = channel(target)
    call = router_service_pb2_grpc.RouterServiceStub(connection).Send(metadata=tuple(metadata))
    targets = itertools.cycle(sessions)
    acknowledged = 0
    progress = consumer.arrived
    before, seen = consumer.delivered, len(consumer.latencies)

    async def take_outcomes() -> None:
        nonlocal acknowledged
        while isinstance(answer := await call.read(), router_service_pb2.SendResponse):
            for outcome in answer.outcomes:
                if outcome.HasField("refusal"):
                    raise RuntimeError(f"refused: {outcome.refusal.reason} {outcome.refusal.message}")
            acknowledged += len(answer.outcomes)
            progress.set()
        progress.set()

    taking = asyncio.create_task(take_outcomes())
    start = time.perf_counter()
    end = start + seconds
    while (now := time.perf_counter()) < end and load.sent < most:
        # Both windows: a sender that outruns delivery measures the length of the queue, not the mail.
        while load.sent - acknowledged >= window or load.sent - (consumer.delivered - before) >= 4 * window:
            progress.clear()
            await asyncio.wait_for(progress.wait(), timeout=30)
            if taking.done():
                taking.result()
        drafts = [draft(next(targets)) for _ in range(frame)]
        for each in drafts:
            consumer.sent_at[each.idempotency_key] = now
        await call.write(router_service_pb2.SendRequest(first_number=load.sent + 1, messages=drafts))
        load.sent += frame
    await consumer.until(before + load.sent, timeout_s=60)
    load.seconds = time.perf_counter() - start
    load.delivered = consumer.delivered - before
    load.delivery_latency_s = consumer.latencies[seen:]
    await call.done_writing()
    call.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await connection.close()
    return load
