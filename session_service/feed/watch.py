"""One watch: snapshot, replay from the log, live; each event once and in order, whichever way it comes."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from chassis.errors import DRAINING, Unavailable
from session_service.domain.errors import SlowConsumer
from session_service.domain.event import SESSION_KINDS, StoredEvent
from session_service.domain.session import Session
from session_service.feed.answers import Delta
from session_service.feed.hub import Hub
from session_service.feed.subscription import Subscription, WatchQuery
from session_service.store.log import LogRange, LogSlice

MAX_FRAME_EVENTS = 256
MAX_FRAME_SESSIONS = 200

_SESSION_KINDS = frozenset(int(kind) for kind in SESSION_KINDS)


class Frame(NamedTuple):
    """One step of a watch; `position` is where it continues. `reset` says why the watcher must list again."""

    position: int
    events: Sequence[StoredEvent] = ()
    deltas: Sequence[Delta] = ()
    sessions: Sequence[Session] = ()
    reset: str = ""
    checkpoint: bool = False
    caught_up: bool = False


class Log(Protocol):
    """What a watch reads."""

    async def log_range(self) -> LogRange: ...

    async def read_log(
        self,
        after: int,
        *,
        limit: int,
        sessions: Sequence[int] | None = None,
        bots: Sequence[str] | None = None,
        kinds: Sequence[int] = (),
    ) -> LogSlice: ...

    async def sessions(self, keys: Sequence[int]) -> list[Session]: ...

    async def all_sessions(self, bots: Sequence[str] | None, after: int, limit: int) -> list[Session]: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """A watcher whose stream took no frame for `slow_after_s` and that is more than `slow_events` behind is closed."""

    slow_after_s: float = 30.0
    slow_events: int = 10_000


class Watch:
    """Made for one stream; `frames` is its life."""

    __slots__ = ("_checkpoint_s", "_hub", "_log", "_patience", "_query", "_snapshot", "_start")

    def __init__(
        self,
        hub: Hub,
        log: Log,
        query: WatchQuery,
        *,
        start: int | None,
        snapshot: bool,
        checkpoint_s: float,
        patience: Patience,
    ) -> None:
        """`start` is the position after which to begin; None begins now."""
        self._hub = hub
        self._log = log
        self._query = query
        self._start = start
        self._snapshot = snapshot
        self._checkpoint_s = checkpoint_s
        self._patience = patience

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Raises Unavailable (DRAINING) when the service stops, SlowConsumer as `Patience` says."""
        # One generator and no more variables than needed: there may be ten thousand of them, silent for hours.
        subscription = self._hub.subscribe(self._query)
        now = asyncio.get_running_loop().time
        try:
            log = await self._log.log_range()
            goal = log.head
            position = goal if self._start is None else self._start
            # Sessions that are watched by name are there, and so are all of their events.
            if position < log.purged and self._query.sessions is None:
                position = goal
                yield Frame(
                    position, reset="events after the token were purged; list again, then go on with this stream"
                )
            if self._snapshot:
                async with aclosing(self._snapshot_frames(position)) as frames:
                    async for frame in frames:
                        offered = now()
                        yield frame
                        self._check_pace(frame.position, now() - offered)
            caught_up = False
            while not subscription.ended:
                if position < max(subscription.base, 0 if caught_up else goal):
                    frame = await self._replay(position)
                elif caught_up and not await subscription.wait(self._checkpoint_s):
                    frame = Frame(max(position, self._hub.head), checkpoint=True)
                else:
                    frame = await self._live(subscription, position, caught_up=caught_up)
                position = frame.position
                if not caught_up and position >= goal:
                    caught_up = True
                    self._hub.attach_answers(subscription)
                    frame = frame._replace(caught_up=True)
                if frame.events or frame.deltas or frame.checkpoint or frame.caught_up:
                    offered = now()
                    yield frame
                    self._check_pace(position, now() - offered)
                del frame
        finally:
            self._hub.unsubscribe(subscription)
        raise Unavailable("the service is stopping; watch again with the last token", reason=DRAINING, retry_after_s=1)

    def _check_pace(self, position: int, taken_s: float) -> None:
        """Raises SlowConsumer for a watcher that took so long for the frame up to `position` and is far behind."""
        lag = self._hub.head - position
        if taken_s > self._patience.slow_after_s and lag > self._patience.slow_events:
            raise SlowConsumer(lag)

    async def _replay(self, position: int) -> Frame:
        query = self._query
        found = await self._log.read_log(
            position,
            limit=MAX_FRAME_EVENTS,
            sessions=None if query.sessions is None else sorted(query.sessions),
            bots=None if query.bots is None else sorted(query.bots),
            kinds=sorted(query.kinds),
        )
        # A bots filter narrows a list of sessions too; the log applies both.
        return Frame(found.through, found.events, sessions=await self._shown(found.events, {}))

    async def _live(self, subscription: Subscription, position: int, *, caught_up: bool) -> Frame:
        if position < subscription.base:
            return Frame(position)
        events, known = subscription.take_events(position, MAX_FRAME_EVENTS)
        if subscription.has_events:
            through = events[-1].position if events else position
        else:
            through = max(position, self._hub.head)
        deltas = subscription.take_deltas() if caught_up else ()
        return Frame(through, events, deltas, await self._shown(events, known))

    async def _shown(self, events: Sequence[StoredEvent], known: Mapping[int, Session]) -> Sequence[Session]:
        if not self._query.include_sessions:
            return ()
        keys = dict.fromkeys(event.session for event in events if event.kind in _SESSION_KINDS)
        missing = [key for key in keys if key not in known]
        read = {session.head.pk: session for session in await self._log.sessions(missing)} if missing else {}
        return [session for key in keys if (session := known.get(key) or read.get(key)) is not None]

    async def _snapshot_frames(self, position: int) -> AsyncGenerator[Frame, None]:
        query = self._query
        after = 0
        chosen = None if query.sessions is None else sorted(query.sessions)
        bots = None if query.bots is None else sorted(query.bots)
        while True:
            if chosen is None:
                sessions = await self._log.all_sessions(bots, after, MAX_FRAME_SESSIONS)
            else:
                batch, chosen = chosen[:MAX_FRAME_SESSIONS], chosen[MAX_FRAME_SESSIONS:]
                sessions = await self._log.sessions(batch)
            last = not chosen if chosen is not None else len(sessions) < MAX_FRAME_SESSIONS
            yield Frame(position, sessions=sessions, checkpoint=last)
            if last:
                return
            after = sessions[-1].head.pk
