"""One watch: snapshot, replay from the log, live; each event once and in order, whichever way it comes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from chassis.errors import Draining
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
    """Made for one stream: an iterator of its frames, to be closed when the stream ends.

    There may be ten thousand of them, silent for hours. So it is one object with slots: a generator would be kept by
    the loop as well, and a variable of it would keep the last frame.
    """

    __slots__ = (
        "_caught_up",
        "_checkpoint_s",
        "_goal",
        "_hub",
        "_log",
        "_offered_s",
        "_patience",
        "_position",
        "_query",
        "_shown_through",
        "_snapshot",
        "_subscription",
    )

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
        self._position = start
        self._snapshot = snapshot
        self._checkpoint_s = checkpoint_s
        self._patience = patience
        self._subscription: Subscription | None = None
        self._goal = 0
        self._caught_up = False
        self._shown_through = 0
        self._offered_s = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        """Raises Unavailable (DRAINING) when the service stops, SlowConsumer as `Patience` says."""
        subscription = self._subscription
        if subscription is None:
            subscription = self._subscription = self._hub.subscribe(self._query)
            log = await self._log.log_range()
            self._goal = log.head
            if self._position is None:
                self._position = log.head
            # Sessions that are watched by name are there, and so are all of their events.
            if self._position < log.purged and self._query.sessions is None:
                reset = "events after the token were purged; list again, then go on with this stream"
                return self._offer(Frame(log.head, reset=reset))
        elif self._position is not None:
            self._check_pace(self._position, asyncio.get_running_loop().time() - self._offered_s)
        if self._snapshot:
            return self._offer(await self._snapshot_frame())
        while not subscription.ended:
            position, caught_up = self._position or 0, self._caught_up
            if position < max(subscription.base, 0 if caught_up else self._goal):
                frame = await self._replay(position)
            elif caught_up and not await subscription.wait(self._checkpoint_s) and subscription.is_idle(position):
                frame = Frame(max(position, self._hub.head), checkpoint=True)
            else:
                frame = await self._live(subscription, position, caught_up=caught_up)
            self._position = frame.position
            if not caught_up and frame.position >= self._goal:
                self._caught_up = True
                self._hub.attach_answers(subscription)
                frame = frame._replace(caught_up=True)
            if frame.events or frame.deltas or frame.checkpoint or frame.caught_up:
                return self._offer(frame)
            del frame
        raise Draining("the service is stopping; watch again with the last token")

    def close(self) -> None:
        """Once it is closed, nothing more comes."""
        if self._subscription is not None:
            self._hub.unsubscribe(self._subscription)

    def _offer(self, frame: Frame) -> Frame:
        """How long it takes until the next one is asked for shows how slow the watcher is."""
        self._position = frame.position
        self._offered_s = asyncio.get_running_loop().time()
        return frame

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

    async def _snapshot_frame(self) -> Frame:
        query = self._query
        if query.sessions is None:
            bots = None if query.bots is None else sorted(query.bots)
            sessions = await self._log.all_sessions(bots, self._shown_through, MAX_FRAME_SESSIONS)
            last = len(sessions) < MAX_FRAME_SESSIONS
            through = sessions[-1].head.pk if sessions else 0
        else:
            left = sorted(key for key in query.sessions if key > self._shown_through)
            keys = left[:MAX_FRAME_SESSIONS]
            sessions = await self._log.sessions(keys)
            last = len(keys) == len(left)
            through = keys[-1] if keys else 0
        self._shown_through = through
        self._snapshot = not last
        return Frame(self._position or 0, sessions=sessions, checkpoint=last)
