"""A watcher of all sessions that comes back with its token after every break, and checks what it is shown."""

import asyncio
import contextlib
from collections.abc import Mapping

import grpc.aio

from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc

_BACK_S = 0.05


class Watcher:
    """Each event of a session must come once, and directly after the one before it."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = session_service_pb2_grpc.SessionServiceStub(channel)
        self._metadata = metadata
        self._token = ""
        self._last: dict[str, int] = {}
        self._amiss: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.attached = asyncio.Event()
        self.breaks = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def amiss(self, ends: Mapping[str, int]) -> list[str]:
        """What was wrong so far; `ends` has the last sequence of each session's log."""
        missing = [
            f"lost to the watcher: events {self._last.get(session, 0) + 1} to {end} of {session}"
            for session, end in ends.items()
            if self._last.get(session, 0) < end
        ]
        return self._amiss + missing

    async def _watch(self) -> None:
        while True:
            request = session_service_pb2.WatchEventsRequest(resume_token=self._token)
            request.checkpoint_interval.FromSeconds(1)
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for response in self._stub.WatchEvents(request, metadata=self._metadata, wait_for_ready=True):
                    self._take(response)
            self.breaks += 1
            await asyncio.sleep(_BACK_S)  # a client's pause before it comes back

    def _take(self, response: session_service_pb2.WatchEventsResponse) -> None:
        if response.HasField("reset"):
            self._amiss.append(f"unexplained reset of the watcher: {response.reset.message}")
        for event in response.events:
            last = self._last.get(event.session, 0)
            if event.sequence <= last:
                self._amiss.append(
                    f"doubled to the watcher: event {event.sequence} of {event.session}, seen up to {last}"
                )
            elif event.sequence > last + 1:
                self._amiss.append(f"lost to the watcher: events {last + 1} to {event.sequence - 1} of {event.session}")
            self._last[event.session] = max(last, event.sequence)
        if response.resume_token:
            self._token = response.resume_token
            self.attached.set()
