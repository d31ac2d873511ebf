"""A handler's stop in the middle."""

import asyncio


class Gate:
    """Whoever comes says so, and waits until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.open.wait()

    async def until_reached(self) -> None:
        async with asyncio.timeout(40):
            await self.reached.wait()
