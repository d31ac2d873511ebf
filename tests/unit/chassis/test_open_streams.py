"""Streams hand out their frames in order, end when their service stops, and say what ended them."""

import asyncio

import pytest

from chassis.errors import Draining, InvalidArgument
from chassis.open_streams import FrameQueue, OpenStreams


async def drain_of(queue: FrameQueue[int]) -> list[int]:
    taken = []
    while (frame := await queue.next()) is not None:
        taken.append(frame)
    return taken


async def test_frames_come_in_order_and_then_none():
    async def read(queue: FrameQueue[int]) -> None:
        for number in (1, 2):
            queue.put(number)
            await asyncio.sleep(0)
        queue.put(3)

    async with OpenStreams().read(read) as queue:
        assert await drain_of(queue) == [1, 2, 3]
        assert (await queue.next(), queue.take()) == (None, None)


async def test_what_ends_the_reader_is_raised_after_all_that_it_had_put():
    taken = []

    async def read(queue: FrameQueue[int]) -> None:
        queue.put(1)
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        async with OpenStreams().read(read) as queue:
            taken = await drain_of(queue)
    assert taken == [1]


async def test_a_drain_ends_a_stream_whose_client_does_not_once_its_frames_are_answered():
    streams, put, taken = OpenStreams(), asyncio.Event(), []

    async def read(queue: FrameQueue[int]) -> None:
        queue.put(1)
        queue.put(2)
        put.set()
        await asyncio.Event().wait()

    async def answer() -> None:
        async with streams.read(read) as queue:
            await put.wait()
            streams.drain()
            taken.extend(await drain_of(queue))

    with pytest.raises(Draining):
        await answer()
    assert taken == [1, 2]


async def test_a_stream_that_is_opened_after_the_drain_ends_at_once():
    streams = OpenStreams()
    streams.drain()

    async def read(queue: FrameQueue[int]) -> None:
        assert queue.ended
        raise Draining

    with pytest.raises(Draining):
        async with streams.read(read) as queue:
            assert await drain_of(queue) == []


async def test_a_reader_ends_with_its_block_and_is_forgotten():
    streams, stopped = OpenStreams(), asyncio.Event()

    async def read(queue: FrameQueue[int]) -> None:
        queue.put(1)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def answer() -> None:
        async with streams.read(read) as queue:
            await queue.next()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await answer()
    assert stopped.is_set()
    assert not streams._queues
