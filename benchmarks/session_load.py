"""Load on the session service over gRPC: filling a store, single calls, appends in batches, many watches."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from benchmarks.mobot_under_test import BOT, Mobot
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

pb = session_service_pb2
WORDS = ("harvest", "ledger", "meadow", "copper", "lantern", "orbit", "parcel", "quartz", "ribbon", "saddle")
_FRAME = 250
_PATIENCE_S = 120


def name_of(number: int) -> str:
    return f"{BOT}/sessions/bench:{number}"


@asynccontextmanager
async def session_stub(mobot: Mobot) -> AsyncIterator["SessionCalls"]:
    async with grpc.aio.insecure_channel(mobot.session) as channel:
        yield SessionCalls(session_service_pb2_grpc.SessionServiceStub(channel), mobot.metadata)


def _message(event_id: str, text: str, role: event_pb2.Role) -> event_pb2.Event:
    return event_pb2.Event(id=event_id, message=event_pb2.MessageAppended(role=role, parts=[part_pb2.Part(text=text)]))


def _first_words(number: int) -> session_service_pb2.SessionAppend:
    asked = f"needle{number} and a question about the {WORDS[number % len(WORDS)]}"
    answered = f"All about the {WORDS[number % len(WORDS)]}, in a sentence that is long enough for a preview."
    return pb.SessionAppend(
        session=name_of(number),
        events=[_message("m1", asked, event_pb2.ROLE_USER), _message("m2", answered, event_pb2.ROLE_ASSISTANT)],
        ensure=pb.EnsureSession(created_via="operator"),
    )


@dataclass(slots=True)
class SessionCalls:
    """The calls that are measured. `stored` sessions "bench:{number}" lie there, with two messages each."""

    stub: session_service_pb2_grpc.SessionServiceStub
    metadata: tuple[tuple[str, str], ...]
    stored: int = 0
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def fill(self, count: int) -> None:
        """Until `count` sessions are there and the last one can be found by its words."""
        stream = self.stub.Append(metadata=self.metadata)
        credit = (await stream.read()).credit
        following = 1
        while self.stored < count:
            batch = range(self.stored, min(count, self.stored + _FRAME))
            while credit < len(batch):
                credit += await self._answer(stream)
            await stream.write(pb.AppendRequest(first_number=following, appends=[_first_words(n) for n in batch]))
            following += len(batch)
            credit -= len(batch)
            self.stored = batch.stop
        await stream.done_writing()
        while (answer := await stream.read()) is not grpc.aio.EOF:
            _check(answer)
        async with asyncio.timeout(_PATIENCE_S * 5):
            while not await self.search(count - 1):  # noqa: ASYNC110 - another process makes the index
                await asyncio.sleep(0.2)

    async def _answer(self, stream: object) -> int:
        answer = await stream.read()  # type: ignore[attr-defined]
        _check(answer)
        return int(answer.credit)

    # One call each; the number picks a session.

    async def create(self, number: int) -> None:  # noqa: ARG002
        await self.stub.CreateSession(
            pb.CreateSessionRequest(parent=BOT, session_id=f"made:{next(self.numbers)}"), metadata=self.metadata
        )

    async def get(self, number: int) -> None:
        await self.stub.GetSession(pb.GetSessionRequest(name=name_of(number)), metadata=self.metadata)

    async def update(self, number: int) -> None:
        session = session_pb2.Session(name=name_of(number), description=f"Description {next(self.numbers)}")
        await self.stub.UpdateSession(pb.UpdateSessionRequest(session=session), metadata=self.metadata)

    async def reset(self, number: int) -> None:
        """Of one of the newest five; the others keep their transcripts, which history and search look at."""
        chosen = self.stored - 1 - number % 5
        await self.stub.ResetSession(pb.ResetSessionRequest(name=name_of(chosen)), metadata=self.metadata)

    async def history(self, number: int) -> None:
        await self.stub.ListEvents(pb.ListEventsRequest(parent=name_of(number)), metadata=self.metadata)

    async def search(self, number: int) -> bool:
        answer = await self.stub.SearchEvents(
            pb.SearchEventsRequest(query=f"needle{number}"), metadata=self.metadata, timeout=_PATIENCE_S
        )
        return bool(answer.hits)

    async def list_ten(self, number: int) -> None:  # noqa: ARG002
        await self.stub.ListSessions(pb.ListSessionsRequest(page_size=10), metadata=self.metadata)

    async def list_ui_ten(self, number: int) -> None:  # noqa: ARG002
        await self.stub.ListSessions(self._ui(10), metadata=self.metadata)

    async def list_default(self, number: int) -> None:  # noqa: ARG002
        await self.stub.ListSessions(pb.ListSessionsRequest(), metadata=self.metadata)

    async def list_ui_fifty(self, number: int) -> None:  # noqa: ARG002
        await self.stub.ListSessions(self._ui(50), metadata=self.metadata)

    def _ui(self, size: int) -> session_service_pb2.ListSessionsRequest:
        return pb.ListSessionsRequest(
            page_size=size,
            count_total=True,
            view=pb.SessionView(derived_title=True, last_message_preview=True),
            filter=pb.SessionFilter(exclude_ids=["global", "unknown"]),
        )

    async def p50_ms(self, call: Callable[[int], Awaitable[object]], times: int) -> float:
        """One call in flight, each for a session picked by chance."""
        latencies = []
        for _ in range(times):
            number = random.randrange(max(1, self.stored - 5))
            start = time.perf_counter()
            await call(number)
            latencies.append((time.perf_counter() - start) * 1e3)
        latencies.sort()
        return latencies[len(latencies) // 2]

    async def remove_made(self) -> None:
        """What `create` made, so that the store stays as large as it is said to be."""
        asked = pb.ListSessionsRequest(order=pb.SESSION_ORDER_CREATED, page_size=500)
        for session in (await self.stub.ListSessions(asked, metadata=self.metadata)).sessions:
            if "/sessions/made:" not in session.name:
                continue
            await self.stub.DeleteSession(pb.DeleteSessionRequest(name=session.name), metadata=self.metadata)
            await self.stub.PurgeSession(
                pb.PurgeSessionRequest(name=session.name, expected_uid=session.uid), metadata=self.metadata
            )

    # Load.

    async def append_load(self, seconds: float, *, sessions: int = 64, per_append: int = 20) -> float:
        """Events per second, committed and flushed to disk, over one stream that always has two frames under way."""
        stream = self.stub.Append(metadata=(*self.metadata, ("mobot-actor", "services/router")))
        await stream.read()
        run = f"{time.time_ns()}"
        following, answered, sent = 1, 0, 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            frame = [
                pb.SessionAppend(
                    session=name_of(session),
                    events=[
                        _message(f"{run}/{following}/{line}", "a line of some length for the log", 1)
                        for line in range(per_append)
                    ],
                    ensure=pb.EnsureSession(created_via="mail"),
                )
                for session in range(sessions)
            ]
            await stream.write(pb.AppendRequest(first_number=following, appends=frame))
            following += sessions
            sent += 1
            if sent - answered > 1:
                _check(await stream.read())
                answered += 1
        await stream.done_writing()
        while (answer := await stream.read()) is not grpc.aio.EOF:
            _check(answer)
        return sent * sessions * per_append / (time.perf_counter() - start)

    async def lags_ms(self, during: Awaitable[float]) -> tuple[float, list[float]]:
        """What `during` returns, and how long after its commit each event reached a watcher of all sessions."""
        watch = self.stub.WatchEvents(pb.WatchEventsRequest(after_sequence=-1), metadata=self.metadata)
        lags: list[float] = []

        async def read() -> None:
            async for frame in watch:
                now = time.time()
                lags.extend(
                    (now - event.create_time.seconds - event.create_time.nanos / 1e9) * 1e3 for event in frame.events
                )

        reading = asyncio.ensure_future(read())
        try:
            rate = await during
        finally:
            watch.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return rate, sorted(lags)


@asynccontextmanager
async def many_watches(mobot: Mobot, count: int, *, per_channel: int = 500) -> AsyncIterator[None]:
    """`count` watch streams of one session each, all caught up."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [
        grpc.aio.insecure_channel(mobot.session, options=options)
        for _ in range((count + per_channel - 1) // per_channel)
    ]
    watches: list[grpc.aio.UnaryStreamCall] = []
    try:
        for first in range(0, count, per_channel):
            stub = session_service_pb2_grpc.SessionServiceStub(channels[first // per_channel])
            opened = [_open(stub, mobot, number) for number in range(first, min(count, first + per_channel))]
            await asyncio.gather(*(_caught_up(watch) for watch in opened))
            watches.extend(opened)
        yield
    finally:
        for watch in watches:
            watch.cancel()
        for channel in channels:
            await channel.close()


def _open(stub: session_service_pb2_grpc.SessionServiceStub, mobot: Mobot, number: int) -> grpc.aio.UnaryStreamCall:
    request = pb.WatchEventsRequest(sessions=[name_of(number)], after_sequence=-1)
    request.checkpoint_interval.seconds = 600
    return stub.WatchEvents(request, metadata=mobot.metadata)


async def _caught_up(watch: grpc.aio.UnaryStreamCall) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while not (await watch.read()).caught_up:
            pass


def _check(answer: session_service_pb2.AppendResponse) -> None:
    refused: Sequence[session_service_pb2.AppendOutcome] = [o for o in answer.outcomes if o.refusal.code]
    if refused:
        raise RuntimeError(f"an append was refused: {refused[0].refusal}")
