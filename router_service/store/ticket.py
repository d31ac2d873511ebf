"""What a submitter waits on: one future for a whole frame of items."""

import asyncio

from chassis.errors import AppError


class Ticket:
    """Counts items down; `wait` returns when all are answered, or raises what stopped their writing."""

    __slots__ = ("_future", "_left")

    def __init__(self, count: int = 1) -> None:
        self._left = count
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if count == 0:
            self._future.set_result(None)

    def done(self) -> None:
        """One item is answered."""
        self._left -= 1
        if self._left == 0 and not self._future.done():
            self._future.set_result(None)

    def fail(self, error: AppError) -> None:
        """The items were not written, or nobody knows."""
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # whoever waits still gets it; nobody may be waiting any more

    async def wait(self) -> None:
        await self._future
