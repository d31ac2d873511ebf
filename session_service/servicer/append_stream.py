"""Appending over one long-lived stream: frames are answered in order, and several are under way at once."""

# ruff: noqa: ARG002 - gRPC gives every method a context

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import NamedTuple

from chassis.errors import QUEUE_FULL, Draining, ResourceExhausted, field_invalid
from chassis.identity import bot_of, caller
from chassis.open_streams import FrameQueue
from mobot.session.v1 import session_service_pb2
from session_service.servicer.events import EventCalls

# Appends that a caller may have under way: two full batches, so that one is made while the other is committed.
CREDIT = 4_000

_Outcomes = Sequence[session_service_pb2.AppendOutcome]


class _Pending(NamedTuple):
    first_number: int
    size: int
    outcomes: "asyncio.Task[_Outcomes]"


class _Window:
    """What one stream has under way: `unanswered` appends, at most CREDIT, in `tasks`."""

    def __init__(self) -> None:
        self.unanswered = 0
        self.tasks: set[asyncio.Task[_Outcomes]] = set()

    def take(self, frame: _Pending) -> None:
        self.unanswered += frame.size
        self.tasks.add(frame.outcomes)

    def answered(self, frame: _Pending) -> None:
        self.unanswered -= frame.size
        self.tasks.discard(frame.outcomes)


class AppendStreamCalls(EventCalls):
    """Append."""

    async def Append(
        self, request_iterator: AsyncIterator[session_service_pb2.AppendRequest], context: object
    ) -> AsyncIterator[session_service_pb2.AppendResponse]:
        window = _Window()
        try:
            async with self._streams.read(partial(self._take_frames, request_iterator, window)) as frames:
                yield session_service_pb2.AppendResponse(credit=CREDIT)
                while (frame := await frames.next()) is not None:
                    outcomes = await frame.outcomes
                    window.answered(frame)
                    yield session_service_pb2.AppendResponse(
                        first_number=frame.first_number, outcomes=outcomes, credit=frame.size
                    )
        finally:
            # What was taken is appended, whether or not the caller hears of it.
            await asyncio.gather(*window.tasks, return_exceptions=True)

    async def _take_frames(
        self,
        requests: AsyncIterator[session_service_pb2.AppendRequest],
        window: _Window,
        frames: FrameQueue[_Pending],
    ) -> None:
        # Whether the registry is asked nothing first, so that frames reach the store in their order by themselves.
        straight = caller().actor.startswith("services/") or bot_of(caller()) is not None
        following = 1
        async for request in requests:
            if frames.ended:
                raise Draining
            count = len(request.appends)
            if request.first_number != following or not count:
                raise field_invalid("first_number", f"must be {following}, with at least one append")
            if window.unanswered + count > CREDIT:
                raise ResourceExhausted(
                    f"at most {CREDIT} appends may be under way", reason=QUEUE_FULL, retry_after_s=0.1
                )
            task = asyncio.ensure_future(self._append_each(request.appends, return_sessions=False))
            frame = _Pending(following, count, task)
            window.take(frame)
            frames.put(frame)
            following += count
            if not straight:
                await asyncio.wait((task,))
