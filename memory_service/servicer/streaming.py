"""Puts over a stream: frames are stored as they come, and answered in order as they are committed."""

# ruff: noqa: ARG002 - the signatures are gRPC's

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from chassis.errors import AppError, Draining, ResourceExhausted, field_invalid
from chassis.identity import caller
from chassis.open_streams import FrameQueue
from memory_service.convert.answers import to_proto_put
from memory_service.convert.memories import MAX_BATCH_BYTES, MAX_DRAFTS, from_proto_draft
from memory_service.convert.requests import to_ticket
from memory_service.servicer.calls import Calls, Context
from memory_service.store.ledger import show_refusal
from memory_service.store.puts import PutItem
from mobot.memory.v1 import memory_pb2
from mobot.memory.v1 import memory_service_pb2 as pb

WINDOW = 2_000
"""How many items a client may have unanswered."""


PutFrame: TypeAlias = Callable[[list[pb.PutMemoriesItem], str], Awaitable[list[memory_pb2.PutResult]]]


@dataclass(frozen=True, slots=True)
class PutsUnderWay:
    """A frame that is being stored; `results` has one for each item."""

    first_number: int
    results: "asyncio.Task[list[memory_pb2.PutResult]]"


class StreamCalls(Calls):
    async def PutMemories(
        self, request_iterator: AsyncIterator[pb.PutMemoriesRequest], context: Context
    ) -> AsyncIterator[pb.PutMemoriesResponse]:
        stream = PutStream(self._put_frame)
        try:
            async with self._streams.read(partial(stream.read, request_iterator, caller().actor)) as frames:
                yield pb.PutMemoriesResponse(credit=WINDOW)
                while (frame := await frames.next()) is not None:
                    results = await frame.results
                    stream.answered(len(results))
                    yield pb.PutMemoriesResponse(first_number=frame.first_number, results=results, credit=len(results))
        finally:
            await asyncio.gather(*stream.unanswered, return_exceptions=True)

    async def _put_frame(self, items: list[pb.PutMemoriesItem], who: str) -> list[memory_pb2.PutResult]:
        """A result for each item, once all are committed."""
        read: list[PutItem | AppError] = [await self._read_item(item, who) for item in items]
        good = [item for item in read if isinstance(item, PutItem)]
        try:
            stored = iter(await self._store.put_items(good))
        except AppError as outage:  # of all that were to be stored, which does not end the stream
            stored = iter([outage] * len(good))
        results: list[memory_pb2.PutResult] = []
        for item, asked in zip(read, items, strict=True):
            answer = item if isinstance(item, AppError) else next(stored)
            if isinstance(item, AppError) or isinstance(answer, AppError):
                assert isinstance(answer, AppError)
                results.append(to_proto_put(show_refusal(answer)))
            else:
                near = await self._near(item.reach, [(answer, asked.draft.near_duplicate_limit)])
                results.append(to_proto_put(answer, item.reach, near[0]))
        return results

    async def _read_item(self, item: pb.PutMemoriesItem, who: str) -> PutItem | AppError:
        try:
            reach = await self._reach_to_put(item.parent, "PutMemories")
            draft = from_proto_draft("draft", item.draft, principal=who, now=self._clock.now())
            return PutItem(reach, draft, to_ticket(item, item.request_id, who))
        except AppError as refusal:  # of this item, which does not hinder the others
            return refusal


class PutStream:
    """What one stream has stored and not answered yet: never more items than the window.

    `put` stores the items of a frame for a principal and returns their results.
    """

    def __init__(self, put: PutFrame) -> None:
        self._put = put
        self._credit = WINDOW
        self._next_number = 1
        self.unanswered: set[asyncio.Task[list[memory_pb2.PutResult]]] = set()

    async def read(
        self, requests: AsyncIterator[pb.PutMemoriesRequest], who: str, frames: FrameQueue[PutsUnderWay]
    ) -> None:
        before: asyncio.Task[list[memory_pb2.PutResult]] | None = None
        async for request in requests:
            if frames.ended:
                raise Draining
            self._check(request)
            before = asyncio.create_task(self._put_after(before, list(request.items), who))
            self.unanswered.add(before)
            frames.put(PutsUnderWay(request.first_number, before))

    def answered(self, count: int) -> None:
        self._credit += count
        self.unanswered = {task for task in self.unanswered if not task.done()}

    async def _put_after(
        self, before: "asyncio.Task[list[memory_pb2.PutResult]] | None", items: list[pb.PutMemoriesItem], who: str
    ) -> list[memory_pb2.PutResult]:
        """Frames are stored in the order in which they came, so that of two equal texts the first one is created."""
        if before is not None:
            await asyncio.wait((before,))
        return await self._put(items, who)

    def _check(self, request: pb.PutMemoriesRequest) -> None:
        count = len(request.items)
        if request.first_number != self._next_number:
            raise field_invalid("first_number", f"must be {self._next_number} (was {request.first_number})")
        if not 1 <= count <= MAX_DRAFTS:
            raise field_invalid("items", f"must hold 1 to {MAX_DRAFTS} entries (has {count})")
        if request.ByteSize() > MAX_BATCH_BYTES:
            raise field_invalid("items", f"must be at most {MAX_BATCH_BYTES} bytes together")
        if count > self._credit:
            raise ResourceExhausted(
                f"{count} items were sent with credit for {self._credit}; wait for results",
                reason="QUEUE_FULL",
                metadata={"queue": "stream", "credit": str(self._credit)},
                retry_after_s=1.0,
            )
        self._credit -= count
        self._next_number += count
