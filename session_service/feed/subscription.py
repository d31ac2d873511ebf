"""One watcher's place in the feed: a bounded queue, and a flag that it fell behind."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from session_service.domain.event import MAX_ANSWER_BYTES, StoredEvent
from session_service.domain.session import Session
from session_service.feed.answers import Answer, Delta

_MAX_QUEUED_BYTES = 32 * 1024 * 1024


ALL_KINDS: frozenset[int] = frozenset()
_NO_SESSIONS: Mapping[int, Session] = {}


class WatchQuery(NamedTuple):
    """What a watch wants. `sessions` (keys) and `bots` None mean all; empty `kinds` means all."""

    sessions: Collection[int] | None = None
    bots: frozenset[str] | None = None
    kinds: frozenset[int] = ALL_KINDS
    include_sessions: bool = False
    include_deltas: bool = False

    def wants(self, event: StoredEvent) -> bool:
        if self.sessions is not None and event.session not in self.sessions:
            return False
        if self.bots is not None and event.bot not in self.bots:
            return False
        return not self.kinds or event.kind in self.kinds


class Subscription:
    """Collects what is published after position `base`. When the queue is full it is emptied and `base` moves up: the
    watcher then reads the log up to there, so that nothing is lost and nothing piles up."""

    __slots__ = (
        "_bytes",
        "_dirty",
        "_events",
        "_limit",
        "_sent",
        "_sessions",
        "_timer",
        "_waiter",
        "base",
        "ended",
        "query",
    )

    def __init__(self, query: WatchQuery, *, base: int, limit: int) -> None:
        self.query = query
        self.base = base
        self.ended = False
        self._limit = limit
        # Most watches are silent most of the time, and an empty queue takes as much room as sixty events: what is
        # None is made when something comes.
        self._events: deque[StoredEvent] | None = None
        self._bytes = 0
        self._sessions: dict[int, Session] | None = None
        self._dirty: dict[Answer, None] | None = None
        self._sent: dict[Answer, tuple[int, int]] | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # For the hub.

    def push(self, events: Sequence[StoredEvent], through: int) -> None:
        """`events` are wanted; `through` is the position that the hub is about to have published."""
        size = sum([len(event.payload) for event in events])
        queue = self._events
        if queue is None:
            queue = self._events = deque()
        if len(queue) + len(events) > self._limit or self._bytes + size > _MAX_QUEUED_BYTES:
            self._events = None
            self._bytes = 0
            self._sessions = None
            self.base = through
        else:
            queue.extend(events)
            self._bytes += size
        self.wake()

    def show(self, session: Session) -> None:
        """The session as of an event that has just been pushed."""
        if self._events:
            if self._sessions is None:
                self._sessions = {}
            self._sessions[session.head.pk] = session

    def watches(self, answer: Answer) -> bool:
        query = self.query
        if not query.include_deltas or (query.sessions is not None and answer.pk not in query.sessions):
            return False
        return query.bots is None or answer.session.split("/", 2)[1] in query.bots

    def touch(self, answer: Answer, *, new: bool) -> None:
        if new:
            if self._sent is None:
                self._sent = {}
            self._sent[answer] = (answer.generation, answer.base)
        self.attach(answer)

    def attach(self, answer: Answer) -> None:
        """A text that was begun before: it is sent whole."""
        if self._dirty is None:
            self._dirty = {}
        self._dirty[answer] = None
        self.wake()

    def forget(self, answer: Answer) -> None:
        if self._dirty is not None:
            self._dirty.pop(answer, None)
        if self._sent is not None:
            self._sent.pop(answer, None)

    def end(self) -> None:
        self.ended = True
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)
        self.rest()

    def rest(self) -> None:
        """Nobody waits any more."""
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # For the watcher.

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def is_idle(self, position: int) -> bool:
        """Whether nothing has come behind `position`: what comes just when the time of a wait is up finds nobody to
        wake, and must not be passed over by a checkpoint."""
        return not self._events and self.base <= position

    def take_events(self, after: int, limit: int) -> tuple[list[StoredEvent], Mapping[int, Session]]:
        """The next events behind position `after`, MAX_ANSWER_BYTES at most or one that is larger, and sessions to show
        with them."""
        events: list[StoredEvent] = []
        queue = self._events
        left = MAX_ANSWER_BYTES
        while queue and len(events) < limit:
            size = len(queue[0].payload)
            if events and size > left:
                break
            event = queue.popleft()
            left -= size
            self._bytes -= size
            if event.position > after:
                events.append(event)
        if not queue:
            self._events = None
            sessions, self._sessions = self._sessions, None
            return events, sessions or _NO_SESSIONS
        return events, self._sessions or _NO_SESSIONS

    def take_deltas(self) -> list[Delta]:
        """What was written since the last call; who reads slowly gets longer pieces, not more of them."""
        if not self._dirty:
            return []
        if self._sent is None:
            self._sent = {}
        deltas: list[Delta] = []
        for answer in self._dirty:
            generation, offset = self._sent.get(answer, (-1, 0))
            deltas.extend(answer.deltas(generation, offset))
            self._sent[answer] = (answer.generation, answer.end)
        self._dirty.clear()
        return deltas

    def wait(self, timeout_s: float) -> asyncio.Future[bool]:
        """True when there is something to take or the subscription ends; False when the time passed in silence."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        if self._events or self._dirty or self.ended:
            waiter.set_result(True)
        else:
            self._waiter = waiter
            self._timer = loop.call_later(timeout_s, self._give_up)
        return waiter

    def _give_up(self) -> None:
        waiter, self._waiter, self._timer = self._waiter, None, None
        if waiter is not None and not waiter.done():
            waiter.set_result(False)
