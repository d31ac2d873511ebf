"""Waiting for something, but not for ever."""

import asyncio
from collections.abc import Awaitable


async def within(timeout_s: float | None, waiting: Awaitable[object]) -> bool:
    """Whether `waiting` ends within `timeout_s` seconds (None: however long); if not, it is cancelled."""
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            await waiting
    except TimeoutError:
        if not deadline.expired():  # its own
            raise
        return False
    return True
