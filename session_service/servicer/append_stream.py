"""Appending over one long-lived stream: frames are answered in order, and several are under way at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from chassis.errors import QUEUE_FULL, ResourceExhausted, field_invalid
from chassis.identity import bot_of, caller
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
    """The frames of one stream that are taken and not answered yet: at most CREDIT appends, so the queue is bounded."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self.unanswered = 0

    def take(self, frame: _Pending) -> None:
        self.unanswered += frame.size
        self.frames.put_nowait(frame)

    def drain(self) -> list["asyncio.Task[_Outcomes]"]:
        tasks = []
        while not self.frames.empty():
            frame = self.frames.get_nowait()
            if frame is not None:
                tasks.append(frame.outcomes)
        return tasks


class AppendStreamCalls(EventCalls):
    """Append."""

    async def Append(
        self,
        request_iterator: AsyncIterator[session_service_pb2.AppendRequest],
        context: Any,  # noqa: ANN401, ARG002
    ) -> AsyncIterator[session_service_pb2.AppendResponse]:
        window = _Window()
        reading = asyncio.ensure_future(self._take_frames(request_iterator, window))
        try:
            yield session_service_pb2.AppendResponse(credit=CREDIT)
            while (frame := await window.frames.get()) is not None:
                outcomes = await frame.outcomes
                window.unanswered -= frame.size
                yield session_service_pb2.AppendResponse(
                    first_number=frame.first_number, outcomes=outcomes, credit=frame.size
                )
            await reading  # raises what ended the stream
        finally:
            reading.cancel()
            # What was taken is appended, whether or not the caller hears of it.
            await asyncio.gather(reading, *window.drain(), return_exceptions=True)

    async def _take_frames(self, requests: AsyncIterator[session_service_pb2.AppendRequest], window: _Window) -> None:
        # Whether the registry is asked nothing first, so that frames reach the store in their order by themselves.
        straight = caller().actor.startswith("services/") or bot_of(caller()) is not None
        following = 1
        try:
            async for request in self._until_drained(requests):
                count = len(request.appends)
                if request.first_number != following or not count:
                    raise field_invalid("first_number", f"must be {following}, with at least one append")
                if window.unanswered + count > CREDIT:
                    raise ResourceExhausted(
                        f"at most {CREDIT} appends may be under way", reason=QUEUE_FULL, retry_after_s=0.1
                    )
                task = asyncio.ensure_future(self._append_each(request.appends, return_sessions=False))
                window.take(_Pending(following, count, task))
                following += count
                if not straight:
                    await asyncio.wait((task,))
        finally:
            window.frames.put_nowait(None)
