"""When what was said into a running turn has reached it."""

import asyncio


async def steered(worker, run, count=1):
    """Waits until so many different messages have reached the turn."""
    async with asyncio.timeout(40):
        while len(worker._runs._runs[run].turn._steered) < count:  # noqa: ASYNC110 - what changes is in the worker
            await asyncio.sleep(0.002)
