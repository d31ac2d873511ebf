"""A stream of puts never holds more items than its window, and gives results in the order of the items."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.errors import ResourceExhausted
from chassis.open_streams import FrameQueue
from memory_service.servicer.streaming import WINDOW, PutStream, PutsUnderWay
from mobot.memory.v1 import memory_pb2
from mobot.memory.v1 import memory_service_pb2 as pb


class SlowStore:
    """Stores when it is let; `stored` has the number of items of each frame."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.stored: list[int] = []

    async def put(self, items: list[pb.PutMemoriesItem], who: str) -> list[memory_pb2.PutResult]:
        assert who == "bots/main"
        await self.let.wait()
        self.stored.append(len(items))
        return [memory_pb2.PutResult() for _ in items]


async def frames_of(*sizes: int) -> AsyncIterator[pb.PutMemoriesRequest]:
    number = 1
    for size in sizes:
        yield pb.PutMemoriesRequest(first_number=number, items=[pb.PutMemoriesItem()] * size)
        number += size


async def test_who_sends_more_than_the_credit_is_cut_off():
    store = SlowStore()
    stream = PutStream(store.put)
    with pytest.raises(ResourceExhausted) as refused:
        await stream.read(frames_of(1_000, WINDOW - 1_000, 1), "bots/main", FrameQueue())
    assert (refused.value.reason, refused.value.metadata["credit"]) == ("QUEUE_FULL", "0")
    store.let.set()
    await asyncio.gather(*stream.unanswered)
    assert store.stored == [1_000, WINDOW - 1_000]


async def test_credit_that_was_given_back_can_be_used_again():
    store = SlowStore()
    store.let.set()
    stream = PutStream(store.put)
    frames: FrameQueue[PutsUnderWay] = FrameQueue()
    await stream.read(frames_of(1_000, WINDOW - 1_000), "bots/main", frames)
    numbers = []
    while (frame := frames.take()) is not None:
        numbers.append(frame.first_number)
        stream.answered(len(await frame.results))
    assert numbers == [1, 1_001]
    assert not stream.unanswered
    more = pb.PutMemoriesRequest(first_number=WINDOW + 1, items=[pb.PutMemoriesItem()])

    async def another() -> AsyncIterator[pb.PutMemoriesRequest]:
        yield more

    await stream.read(another(), "bots/main", frames)
    frame = frames.take()
    assert frame is not None
    assert len(await frame.results) == 1
