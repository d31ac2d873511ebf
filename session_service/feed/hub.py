"""Where commits meet watchers."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from chassis.errors import AppError
from chassis.waiting import within
from session_service.domain.event import EventKind, Message, Role, StoredEvent
from session_service.domain.session import Session
from session_service.feed.answers import Answer, Answers, Delta, RunKey
from session_service.feed.subscription import Subscription, WatchQuery
from session_service.store.log import LogRange, LogSlice

_TAIL_EVENTS = 1_000
_RUN_BOUNDS = frozenset({EventKind.RUN_STARTED, EventKind.RUN_FINISHED})
_RETRY_S = 0.5

_log = logging.getLogger(__name__)


class Log(Protocol):
    """What the hub reads."""

    async def log_range(self) -> LogRange: ...

    async def read_log(self, after: int, *, limit: int) -> LogSlice: ...


class Hub:
    """Publishes events in the order of their positions, each once. Belongs to the event loop's thread.

    Positions are dense: a commit that does not follow on the last one shows that another replica has written between,
    and then the log is read. `poll_interval_s` is how often to look for such writes; None where nobody else writes.
    """

    def __init__(self, log: Log, *, queue_events: int, poll_interval_s: float | None) -> None:
        """`queue_events`: events a watcher may lag behind before it reads from the log again."""
        self.head = 0
        self._ended = False
        self._store = log
        self._queue_events = queue_events
        self._poll_interval_s = poll_interval_s
        # Nearly always one or two of a session: tuples are small, and may be walked while they are replaced.
        self._by_session: dict[int, tuple[Subscription, ...]] = {}
        self._of_all: set[Subscription] = set()
        self._showing = 0
        self._answers = Answers()
        self._bell = asyncio.Event()
        self._tail: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.head = (await self._store.log_range()).head
        self._tail = asyncio.get_running_loop().create_task(self._follow(), name="session-feed")

    async def close(self) -> None:
        """Ends all watches, then the hub's own work."""
        self.end_watches()
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
            self._tail = None

    def end_watches(self) -> None:
        self._ended = True
        for subscription in self._subscriptions():
            subscription.end()

    # Watchers.

    def subscribe(self, query: WatchQuery) -> Subscription:
        subscription = Subscription(query, base=self.head, limit=self._queue_events)
        if query.sessions is None:
            self._of_all.add(subscription)
        else:
            for session in query.sessions:
                self._by_session[session] = (*self._by_session.get(session, ()), subscription)
        self._showing += query.include_sessions
        if self._ended:
            subscription.end()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        query = subscription.query
        self._of_all.discard(subscription)
        for session in query.sessions or ():
            left = tuple(other for other in self._by_session.get(session, ()) if other is not subscription)
            if left:
                self._by_session[session] = left
            else:
                self._by_session.pop(session, None)
        subscription.rest()
        self._showing -= query.include_sessions

    def attach_answers(self, subscription: Subscription) -> None:
        """Hands over the texts that are being written: a caught-up watcher begins with them whole."""
        for answer in self._answers.running():
            if subscription.watches(answer):
                subscription.attach(answer)

    # Commits.

    @property
    def wants_sessions(self) -> bool:
        return self._showing > 0

    def committed(self, events: Sequence[StoredEvent], sessions: Sequence[Session]) -> None:
        if events[0].position == self.head + 1:
            self._publish(events, sessions, events[-1].position)
        elif events[-1].position > self.head:
            self._bell.set()

    def _publish(self, events: Sequence[StoredEvent], sessions: Sequence[Session], through: int) -> None:
        for event in events:
            if event.run and (event.kind in _RUN_BOUNDS or self._answers.in_progress):
                self._settle_answers(event)
        if self._by_session:
            self._publish_by_session(events, through)
        for subscription in self._of_all:
            query = subscription.query
            wanted = [event for event in events if query.wants(event)] if query.bots or query.kinds else events
            if wanted:
                subscription.push(wanted, through)
        self.head = through
        for session in sessions:
            for subscription in self._watchers(session.head.pk):
                if subscription.query.include_sessions:
                    subscription.show(session)

    def _publish_by_session(self, events: Sequence[StoredEvent], through: int) -> None:
        wanted: dict[Subscription, list[StoredEvent]] = {}
        for event in events:
            for subscription in self._by_session.get(event.session, ()):
                if subscription.query.wants(event):
                    wanted.setdefault(subscription, []).append(event)
        for subscription, theirs in wanted.items():
            subscription.push(theirs, through)

    async def _follow(self) -> None:
        """Reads what other replicas wrote: when a commit shows a gap, and now and then."""
        while True:
            await within(self._poll_interval_s, self._bell.wait())
            self._bell.clear()
            try:
                await self._catch_up()
            except AppError:
                _log.warning("feed cannot read the log", exc_info=True)
                await asyncio.sleep(_RETRY_S)  # the database is away: not synchronisation, but patience
                self._bell.set()

    async def _catch_up(self) -> None:
        while True:
            found = await self._store.read_log(self.head, limit=_TAIL_EVENTS)
            fresh = [event for event in found.events if event.position > self.head]
            if found.through > self.head:
                self._publish(fresh, (), found.through)
            if not found.events:
                return

    # Answers being written.

    def run_state(self, key: RunKey) -> bool | None:
        """Whether deltas of a run are taken; None when `admit` has to be told first."""
        return self._answers.admits(key)

    def admit(self, key: RunKey, session: int, mark: int) -> None:
        """The run is at work; `session` is the key of its session and `mark` that session's epoch."""
        self._answers.admit(key, session, mark)

    def publish_delta(self, delta: Delta) -> bool:
        """False when it was dropped."""
        added = self._answers.add(delta)
        if added is None:
            return False
        answer, new = added
        for subscription in self._watchers(answer.pk):
            if subscription.watches(answer):
                subscription.touch(answer, new=new)
        return True

    def _settle_answers(self, event: StoredEvent) -> None:
        detail = event.detail
        if isinstance(detail, Message) and detail.role is not Role.ASSISTANT:
            return
        key = (f"bots/{event.bot}/sessions/{event.session_id}", event.run)
        void: list[Answer] = []
        match event.kind:
            case EventKind.RUN_FINISHED:
                void = self._answers.end(key)
            case EventKind.RUN_STARTED:
                self._answers.revive(key)
                self._answers.raise_mark(key, event.epoch)
                void = self._answers.settle(key)
            case EventKind.RUN_RETRYING:
                void = self._answers.settle(key)
            case EventKind.MESSAGE:
                void = self._answers.settle(key)
        for answer in void:
            for subscription in self._watchers(answer.pk):
                subscription.forget(answer)

    def _watchers(self, session: int) -> Iterable[Subscription]:
        yield from self._of_all
        yield from self._by_session.get(session, ())

    def _subscriptions(self) -> Iterable[Subscription]:
        yield from self._of_all
        seen: set[Subscription] = set()
        for watchers in self._by_session.values():
            for subscription in watchers:
                if subscription not in seen:
                    seen.add(subscription)
                    yield subscription
