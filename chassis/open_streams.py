"""Streams whose frames are answered one after the other, and how all of them end when their service stops."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from chassis.errors import Draining

T = TypeVar("T")


class FrameQueue(Generic[T]):
    """The frames of one stream between whoever reads them and whoever answers them, in order.

    It has no bound of its own: its reader takes no more than the window that the stream's contract gives the client.
    """

    def __init__(self) -> None:
        self.ended = False
        self._frames: deque[T] = deque()
        self._bell = asyncio.Event()

    def put(self, frame: T) -> None:
        self._frames.append(frame)
        self._bell.set()

    def end(self) -> None:
        """No frame is awaited any more; those that were put are still handed out."""
        self.ended = True
        self._bell.set()

    def take(self) -> T | None:
        """The next of the frames that are here already."""
        return self._frames.popleft() if self._frames else None

    async def next(self) -> T | None:
        """The next frame, when it is here; None after the last one."""
        while not self._frames and not self.ended:
            self._bell.clear()
            await self._bell.wait()
        return self.take()


class OpenStreams:
    """The streams of one service that are open."""

    def __init__(self) -> None:
        self.draining = False
        self._queues: set[FrameQueue[Any]] = set()

    def drain(self) -> None:
        """Ends each stream once the frames that were read so far are answered, and new ones at once."""
        self.draining = True
        for queue in self._queues:
            queue.end()

    @asynccontextmanager
    async def read(self, reader: Callable[[FrameQueue[T]], Coroutine[Any, Any, None]]) -> AsyncIterator[FrameQueue[T]]:
        """Lets `reader` fill a queue while the block answers what comes out of it, until that is None.

        `reader` reads nothing more from its client once the queue has `ended`: it raises Draining.

        Raises:
            Draining: the service stops, and the client has not ended the stream.
            AppError: whatever ended the reader, after all that it had put was answered.
        """
        queue: FrameQueue[T] = FrameQueue()
        if self.draining:
            queue.end()
        self._queues.add(queue)
        reading = asyncio.create_task(_fill(queue, reader))
        try:
            yield queue
            if not reading.done():
                raise Draining
            await reading
        finally:
            self._queues.discard(queue)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _fill(queue: FrameQueue[T], reader: Callable[[FrameQueue[T]], Coroutine[Any, Any, None]]) -> None:
    try:
        await reader(queue)
    finally:
        queue.end()
