"""Waiting for a stream's next entry or for the end."""

import asyncio

import pytest

from chassis.drained_queue import next_entry


@pytest.fixture
def drained():
    return asyncio.get_running_loop().create_future()


@pytest.fixture
def queue():
    return asyncio.Queue()


async def test_an_entry_that_is_there_is_taken_also_when_the_service_stops(queue, drained):
    queue.put_nowait("a")
    drained.set_result(True)
    assert await next_entry(queue, drained) == "a"
    assert await next_entry(queue, drained) is None


async def test_an_entry_that_comes_is_waited_for(queue, drained):
    waiting = asyncio.ensure_future(next_entry(queue, drained))
    await asyncio.sleep(0)
    queue.put_nowait("a")
    assert await asyncio.wait_for(waiting, 30) == "a"


async def test_a_stop_ends_the_wait(queue, drained):
    waiting = asyncio.ensure_future(next_entry(queue, drained))
    await asyncio.sleep(0)
    drained.set_result(True)
    assert await asyncio.wait_for(waiting, 30) is None


async def test_who_gives_up_waiting_takes_nothing(queue, drained):
    waiting = asyncio.ensure_future(next_entry(queue, drained))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    queue.put_nowait("a")
    assert await next_entry(queue, drained) == "a"
