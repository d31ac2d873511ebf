"""The next entry of a stream's queue, or the end of it because the service stops."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def next_entry(queue: "asyncio.Queue[T | None]", drained: "asyncio.Future[bool]") -> T | None:
    """Waits for an entry. None when no more will come: the queue says so itself, or `drained` is done and all that came
    is taken.

    Cancelled, it takes nothing from the queue.
    """
    if not queue.empty():
        return queue.get_nowait()
    getting = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait((getting, drained), return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()
