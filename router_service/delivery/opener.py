"""The opener writes what happens to runs into the sessions' logs: in the order of the commits, one call for many
sessions, again and again until the session service has it.

One call is in flight at a time, so that the end of a run always stands before the start of the next one of its session;
what comes meanwhile shares the next call.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import grpc
import grpc.aio

from chassis.waiting import within
from mobot.router.v1 import message_pb2
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc
from router_service.convert import events
from router_service.delivery.live import LiveLease
from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, RetryingRun
from router_service.domain.state import MessageState
from router_service.store import reads, steps
from router_service.store.items import Logged
from router_service.store.router_store import RouterStore

_MAX_ENTRIES = 1_000
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0
# Acknowledgements of ends wait for this long or for so many, since forgetting them costs no more than a repetition.
_LOGGED_DELAY_S = 0.2
_LOGGED_COUNT = 512
# Ends wait so long for a start to share its call: nobody's answer depends on them.
_PATIENCE_S = 0.003

# Turns of the loop between a commit and the call: whoever sent the message is answered before the log is written. In
# one process the answer passes from task to task on this very loop: the stream that answers, its reader in the gateway,
# the request that waits, the socket's writer; the fifth turn is the write itself. Fewer delay every answer by the
# making of the call; more only delay the log. A place on the loop is all there is to wait for: no event tells that
# somebody else's socket has been written to.
_TURNS = 5

# A call costs some hundred microseconds before its first event. Once several runs share one, a few milliseconds between
# calls let more share the next; a lone run never waits.
_BUSY_ENTRIES = 4
_PACE_S = 0.004

# Refusals of one append that another try may mend.
_PASSING = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    )
)
# Failures of a whole call that say something about its content.
_CONTENT = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told about attempts."""

    def opened(self, live: LiveLease, sequence: int) -> None: ...

    def fenced(self, live: LiveLease, mark: int) -> None: ...

    def rejected(self, live: LiveLease, reason: str, message: str) -> None: ...

    def steerable(
        self, live: LiveLease, joined: JoinedMessage, draft: message_pb2.MessageDraft, sequence: int
    ) -> None: ...


@dataclass(slots=True, eq=False)
class _Entry:
    """One thing to write: exactly one of `live`, `ended`, `retrying`, `asked` and `steered` is set. With the last one,
    `host` is the lease of the turn that it is handed to."""

    session: str
    message_id: str
    live: LiveLease | None = None
    ended: EndedRun | None = None
    retrying: RetryingRun | None = None
    asked: AskedRun | None = None
    steered: JoinedMessage | None = None
    host: LiveLease | None = None
    draft: message_pb2.MessageDraft | None = None
    with_message: bool = False


@dataclass(slots=True, eq=False)
class _Group:
    """The entries of one append. `places` are those of the inbound messages among its events."""

    session: str
    entries: list[_Entry] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)


class Opener:
    """Runs until it is closed; what is not written by then is in the rows and written at the next start."""

    def __init__(
        self,
        sessions: "session_service_pb2_grpc.SessionServiceAsyncStub",
        store: RouterStore,
        listener: Listener,
    ) -> None:
        self._append = sessions.BatchAppendEvents
        self._store = store
        self._listener = listener
        self._queue: deque[_Entry] = deque()
        self._bell = asyncio.Event()
        self._ringing = False
        self._closing = asyncio.Event()
        self._ended: list[str] = []
        self._retried: list[str] = []
        self._asked: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def backlog(self) -> int:
        return len(self._queue)

    def open_run(self, live: LiveLease) -> None:
        """An attempt begins: the message and the start."""
        lease = live.lease
        self._put(_Entry(lease.session, lease.message_id, live=live, with_message=True))

    def close_run(self, ended: EndedRun, draft: message_pb2.MessageDraft | None, *, opened: bool) -> None:
        """A run has ended; `opened` says that its message is known to be in the log."""
        self._store.unlogged.add(ended.message_id)
        with_message = not opened and ended.state is not MessageState.REJECTED
        self._put(_Entry(ended.session, ended.message_id, ended=ended, draft=draft, with_message=with_message))

    def retry_run(self, retrying: RetryingRun) -> None:
        self._store.unlogged.add(retrying.message_id)
        self._put(_Entry(retrying.session, retrying.message_id, retrying=retrying))

    def ask_run(self, asked: AskedRun) -> None:
        """A run waits for a person."""
        self._store.unlogged.add(asked.message_id)
        self._put(_Entry(asked.session, asked.message_id, asked=asked))

    def steer_run(self, host: LiveLease, joined: JoinedMessage, draft: message_pb2.MessageDraft | None) -> None:
        """A message is to be handed to the running turn of `host`; that it is in the log comes first."""
        self._put(_Entry(joined.session, joined.message_id, steered=joined, host=host, draft=draft, with_message=True))

    async def run(self) -> None:
        while not self._closing.is_set():
            await self._bell.wait()
            self._bell.clear()
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            while self._queue and not self._closing.is_set():
                count = min(len(self._queue), _MAX_ENTRIES)
                began_s = self._loop.time()
                await self._write([self._queue.popleft() for _ in range(count)])
                if count >= _BUSY_ENTRIES:
                    await self._pause(began_s + _PACE_S - self._loop.time())

    async def recover(self) -> None:
        """Queues what the logs lack since before the start. Comes before any lease is given."""
        after = ""
        while page := await self._store.read(partial(reads.unlogged_runs, limit=500, after=after)):
            for run in page:
                if isinstance(run, EndedRun):
                    self.close_run(run, None, opened=False)
                elif isinstance(run, AskedRun):
                    self.ask_run(run)
                else:
                    self.retry_run(run)
            after = page[-1].message_id

    def close(self) -> None:
        """Makes `run` return after the call in flight."""
        self._closing.set()
        self._bell.set()
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._timer = self._patience = None
        self._post_logged()

    def _put(self, entry: _Entry) -> None:
        self._queue.append(entry)
        if entry.ended is None:
            if not self._ringing:
                self._ringing = True
                self._ring_after(_TURNS)
        elif self._patience is None and not self._bell.is_set():
            self._patience = self._loop.call_later(_PATIENCE_S, self._bell.set)

    def _ring_after(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._ring_after, turns - 1)
        else:
            self._ringing = False
            self._bell.set()

    async def _write(self, entries: list[_Entry]) -> None:
        await self._load_drafts(entries)
        await self._load_turns(entries)
        groups: dict[str, _Group] = {}
        for entry in entries:
            group = groups.get(entry.session)
            if group is None:
                group = groups[entry.session] = _Group(entry.session)
            group.entries.append(entry)
        await self._append_groups(list(groups.values()))

    async def _load_drafts(self, entries: Iterable[_Entry]) -> None:
        missing = [
            e for e in entries if e.with_message and e.draft is None and (e.live is None or e.live.draft is None)
        ]
        for start in range(0, len(missing), 500):
            part = missing[start : start + 500]
            ids = [entry.message_id for entry in part]
            drafts = await self._store.read(partial(reads.read_drafts, ids=ids))
            for entry in part:
                stored = drafts.get(entry.message_id)
                if stored is not None:
                    entry.draft = message_pb2.MessageDraft.FromString(stored)
                    if entry.live is not None:
                        entry.live.draft = entry.draft

    async def _load_turns(self, entries: Iterable[_Entry]) -> None:
        """What only some turns have: further messages, and what earlier attempts remembered."""
        leases = [entry.live for entry in entries if entry.live is not None]
        again = [(live.lease.run, live.lease.message_id) for live in leases if live.lease.attempt > 1]
        if again:
            memories = await self._store.read(partial(steps.recall, runs=again))
            for live in leases:
                live.memory = memories.get(live.lease.run)
        for live in leases:
            if live.lease.joined and not live.collected:
                ids = [joined.message_id for joined in live.lease.joined]
                drafts = await self._store.read(partial(reads.read_drafts, ids=ids))
                for joined in live.lease.joined:
                    stored = drafts.get(joined.message_id)
                    if stored is not None:
                        content = message_pb2.MessageDraft.FromString(stored)
                        live.collected.append((joined, content))
                        live.take_in(joined, content)

    async def _append_groups(self, groups: list[_Group]) -> None:
        delay_s = _FIRST_RETRY_S
        while groups and not self._closing.is_set():
            request = session_service_pb2.BatchAppendEventsRequest()
            for group in groups:
                _fill(request.appends.add(), group)
            try:
                response = await self._append(request)
            except grpc.aio.AioRpcError as error:
                if error.code() in _CONTENT:
                    if len(groups) > 1:
                        for group in groups:
                            await self._append_groups([group])
                        return
                    groups = self._refused(groups[0], error.code().value[0], "", error.details() or "", {})
                    continue
                _log.warning("session log cannot be written", extra={"code": error.code().name, "appends": len(groups)})
                await self._pause(delay_s)
                delay_s = min(2 * delay_s, _LAST_RETRY_S)
                continue
            groups = self._take_outcomes(groups, response.outcomes)
            if groups:
                await self._pause(delay_s)
                delay_s = min(2 * delay_s, _LAST_RETRY_S)
        # Closing: what is left is in the rows.

    def _take_outcomes(
        self, groups: list[_Group], outcomes: Sequence[session_service_pb2.AppendOutcome]
    ) -> list[_Group]:
        """Reports what was written; returns what has to be tried again, in order."""
        again: list[_Group] = []
        for group, outcome in zip(groups, outcomes, strict=True):
            if outcome.HasField("refusal") and outcome.refusal.code:
                refusal = outcome.refusal
                again.extend(
                    self._refused(group, refusal.code, refusal.reason, refusal.message, dict(refusal.metadata))
                )
            else:
                self._written(group, outcome.sequences)
        return again

    def _written(self, group: _Group, sequences: Sequence[int]) -> None:
        for number, entry in enumerate(group.entries):
            if entry.live is not None:
                self._listener.opened(entry.live, sequences[group.places[number]])
            elif entry.steered is not None:
                if entry.host is not None and entry.draft is not None:
                    sequence = sequences[group.places[number]]
                    self._listener.steerable(entry.host, entry.steered, entry.draft, sequence)
            else:
                self._logged(entry)

    def _refused(self, group: _Group, code: int, reason: str, message: str, metadata: dict[str, str]) -> list[_Group]:
        if code in _PASSING:
            return [group]
        if len(group.entries) > 1:
            # Together or not at all: one by one shows which one is meant. Order within the session is kept.
            return [_Group(group.session, [entry]) for entry in group.entries]
        entry = group.entries[0]
        live = entry.live
        if entry.steered is not None:
            # Without a place in the log it is not handed over; it waits for a turn of its own, which will tell.
            _log.info("session log refuses a steered message", extra={"session": group.session, "reason": reason})
        elif live is None:
            if reason == "FENCED" and entry.ended is not None and entry.ended.epoch:
                return [_Group(group.session, [_without_fence(entry)])]
            _log.warning("session log refuses an end", extra={"session": group.session, "reason": reason})
            self._logged(entry)
        elif reason == "FENCED":
            self._listener.fenced(live, int(metadata.get("mark", "0") or 0))
        else:
            self._listener.rejected(live, reason or "SESSION_REFUSED", message)
        return []

    def _logged(self, entry: _Entry) -> None:
        if entry.asked is not None:
            self._asked.append(entry.message_id)
        else:
            (self._ended if entry.ended is not None else self._retried).append(entry.message_id)
        if len(self._ended) + len(self._retried) + len(self._asked) >= _LOGGED_COUNT:
            self._post_logged()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LOGGED_DELAY_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._post_logged()

    def _post_logged(self) -> None:
        if self._ended or self._retried or self._asked:
            self._store.mail.post(
                Logged(ended=tuple(self._ended), retried=tuple(self._retried), asked=tuple(self._asked))
            )
            self._store.unlogged.difference_update(self._ended, self._retried, self._asked)
            self._ended.clear()
            self._retried.clear()
            self._asked.clear()

    async def _pause(self, delay_s: float) -> None:
        if delay_s > 0:
            await within(delay_s, self._closing.wait())


def _fill(append: session_service_pb2.SessionAppend, group: _Group) -> None:
    append.session = group.session
    group.places.clear()
    for number, entry in enumerate(group.entries):
        live, ended, retrying = entry.live, entry.ended, entry.retrying
        draft = live.draft if live is not None and live.draft is not None else entry.draft
        if entry.with_message and draft is not None:
            run = live.lease if live is not None else ended
            if run is not None:
                group.places[number] = len(append.events)
                events.ensure_session(append, draft)
                events.add_message(append, run, draft)
        if entry.steered is not None:
            if draft is not None:
                group.places[number] = len(append.events)
                events.add_message(append, entry.steered, draft)
        elif live is not None:
            group.places.setdefault(number, len(append.events))
            for joined, content in live.collected:
                events.add_message(append, joined, content)
            events.add_started(append, live.lease)
            append.epoch = max(append.epoch, live.lease.epoch)
        elif ended is not None:
            events.add_finished(append, ended)
            append.epoch = max(append.epoch, ended.epoch)
        elif entry.asked is not None:
            events.add_question(append, entry.asked)
        elif retrying is not None:
            events.add_retrying(append, retrying)
            append.epoch = max(append.epoch, retrying.epoch)


def _without_fence(entry: _Entry) -> _Entry:
    return replace(entry, ended=replace(entry.ended, epoch=0)) if entry.ended is not None else entry
