"""A wait ends with what it waits for or with its time, and says which."""

import asyncio

import pytest

from chassis.waiting import within


async def test_what_ends_in_time_is_told_from_what_does_not():
    rung, silent = asyncio.Event(), asyncio.Event()
    rung.set()
    assert await within(30, rung.wait())
    assert await within(None, rung.wait())
    assert not await within(0, silent.wait())


async def test_what_is_given_up_is_cancelled():
    waiting = asyncio.get_running_loop().create_future()
    assert not await within(0, waiting)
    assert waiting.cancelled()


async def test_a_timeout_of_what_is_waited_for_is_not_taken_for_its_own():
    async def fail() -> None:
        raise TimeoutError("theirs")

    with pytest.raises(TimeoutError, match="theirs"):
        await within(30, fail())
