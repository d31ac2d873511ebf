"""One write: the numbers it hands out, the sessions and events it adds, and what it tells the feed afterwards."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    SmallInteger,
    Text,
    bindparam,
    case,
    insert,
    literal_column,
    select,
    text,
    update,
)

from chassis.clock import Clock
from session_service.domain.event import NewEvent, StoredEvent
from session_service.domain.lifecycle import Change
from session_service.domain.rules import Rules
from session_service.domain.session import Head, Session, SessionState
from session_service.domain.transfer import Line
from session_service.models import EVENT, LOG_HEAD, PIN_LIFT, SESSION, TRANSCRIPT
from session_service.store.rows import (
    HEAD_COLUMNS,
    MOVED_COLUMNS,
    SESSIONS_BY_KEY,
    SESSIONS_BY_NAME,
    moved_values,
    session_values,
    to_head,
    to_session,
)
from session_service.store.sql import Among, Worded

T_co = TypeVar("T_co", covariant=True)

Encode = Callable[[Change, str, str], bytes]
"""The payload of one of the service's own events: (what happened, event id, actor)."""


_NONE = -1


class HeadCache:
    """Heads of the sessions that were appended to lately. They belong to the writer.

    They are true as long as the log's number of writes is the one they were kept under: a failed commit or the write of
    another replica leaves another number in the database, and a transaction that was not closed leaves none here. Then
    all of them are forgotten.
    """

    def __init__(self, size: int = 16_384) -> None:
        self._size = size
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._writes = _NONE

    def open(self, writes: int) -> None:
        """A transaction begins; `writes` is what the database says."""
        if writes != self._writes:
            self._heads.clear()
        self._writes = _NONE

    def close(self, writes: int) -> None:
        """The transaction has moved its last head and is about to be committed under this number."""
        self._writes = writes
        while len(self._heads) > self._size:
            self._heads.popitem(last=False)

    def find(self, names: Sequence[str]) -> tuple[list[Head], list[str]]:
        """What is here, and the names of what is not."""
        heads = self._heads
        found: list[Head] = []
        missing: list[str] = []
        for name in names:
            head = heads.get(name)
            if head is None:
                missing.append(name)
            else:
                heads.move_to_end(name)
                found.append(head)
        return found, missing

    def keep(self, heads: Sequence[Head]) -> None:
        for head in heads:
            self._heads[head.name] = head

    def forget(self, name: str) -> None:
        self._heads.pop(name, None)


class Surroundings(Protocol):
    """What a write needs from outside."""

    clock: Clock
    encode: Encode
    rules: Rules
    new_uid: Callable[[], str]
    heads: HeadCache


@dataclass(frozen=True, slots=True)
class Written(Generic[T_co]):
    """What a write did: its value, the events it added, in order, and sessions after it (not always filled)."""

    value: T_co
    events: Sequence[StoredEvent] = ()
    sessions: Sequence[Session] = ()


_select_heads = Among(HEAD_COLUMNS, SESSION.c.name)
_NUMBERS = ("position", "session", "transcript", "writes")
_lock_log = Worded(select(*(LOG_HEAD.c[name] for name in _NUMBERS)).with_for_update(), ())
_move_log = Worded(update(LOG_HEAD).ordered_values(*((name, bindparam(name)) for name in _NUMBERS)), _NUMBERS)
_SESSION_COLUMNS = tuple(column.name for column in SESSION.columns)
_SAVED_COLUMNS = tuple(name for name in _SESSION_COLUMNS if name != "pk")
_insert_sessions = Worded(insert(SESSION), _SESSION_COLUMNS)
_save_session = Worded(
    update(SESSION)
    .where(SESSION.c.pk == bindparam("of_session"))
    .ordered_values(*((name, bindparam(name)) for name in _SAVED_COLUMNS)),
    (*_SAVED_COLUMNS, "of_session"),
)
_insert_transcript = insert(TRANSCRIPT)
_EVENT_COLUMNS = tuple(column.name for column in EVENT.columns)
_insert_events = Worded(insert(EVENT), _EVENT_COLUMNS)
_count_sessions = text(
    "INSERT INTO session_count (bot, state, sessions) VALUES (:bot, :state, :change) "
    "ON CONFLICT (bot, state) DO UPDATE SET sessions = session_count.sessions + excluded.sessions"
).bindparams(
    bindparam("bot", type_=Text), bindparam("state", type_=SmallInteger), bindparam("change", type_=BigInteger)
)
_lifted = case((SESSION.c.pinned == literal_column("1"), literal_column(str(PIN_LIFT))), else_=literal_column("0"))
_move_sessions = Worded(
    update(SESSION)
    .where(SESSION.c.pk == bindparam("of_session"))
    .ordered_values(
        *((name, bindparam(name)) for name in MOVED_COLUMNS),
        ("sort_rank", bindparam("rank", type_=BigInteger) - _lifted),
    ),
    (*MOVED_COLUMNS, "rank", "of_session"),
)


class Transaction:
    """The log is locked for the whole transaction, so that numbers are dense and in the order of the commits, also when
    several replicas write. Nothing is written before it is decided: a refused item leaves no trace."""

    def __init__(self, conn: Connection, surroundings: Surroundings) -> None:
        self.conn = conn
        self.now = micros(surroundings.clock.now())
        self.new_uid = surroundings.new_uid
        self.rules = surroundings.rules
        self.events: list[StoredEvent] = []
        self.changed: list[Session] = []
        self.encode = surroundings.encode
        self._heads = surroundings.heads
        self._event_rows: list[tuple[Any, ...]] = []
        self._new_sessions: list[Session] = []
        self._new_transcripts: list[dict[str, Any]] = []
        self._moved: dict[int, Head] = {}
        self._counts: dict[tuple[str, int], int] = {}
        self._wrote = False
        self._position, self._session, self._transcript, self._writes = _lock_log.fetch(conn)
        self._heads.open(self._writes)

    def find_heads(self, names: Sequence[str]) -> list[Head]:
        """Heads of the sessions that exist, by resource name. To be moved only by `move` and `append`."""
        found, missing = self._heads.find(names)
        if missing:
            read = [to_head(row) for row in _select_heads.run(self.conn, missing)]
            self._heads.keep(read)
            found.extend(read)
        return found

    def find_session(self, name: str) -> Session | None:
        rows = SESSIONS_BY_NAME.run(self.conn, [name])
        return to_session(rows[0]) if rows else None

    def sessions(self, keys: Sequence[int]) -> list[Session]:
        return [to_session(row) for row in SESSIONS_BY_KEY.run(self.conn, keys)]

    def next_session(self) -> int:
        self._session += 1
        return int(self._session)

    def next_transcript(self) -> int:
        self._transcript += 1
        return int(self._transcript)

    def add_session(self, session: Session) -> None:
        """A new session; its row is written with whatever its head has become by the flush."""
        self._new_sessions.append(session)
        self.add_transcript(session.head)

    def add_transcript(self, head: Head) -> None:
        self._new_transcripts.append(
            {
                "pk": head.transcript,
                "session": head.pk,
                "uid": head.uid,
                "start_sequence": head.start_sequence,
                "create_time": self.now,
                "kept": None,
            }
        )

    def move(self, head: Head) -> None:
        """The row of `head` is to be updated."""
        self._moved[head.pk] = head

    def append(self, head: Head, event: NewEvent) -> StoredEvent:
        """Adds the event that `head` has just been moved over."""
        self._position = position = self._position + 1
        event_id, kind, run, payload, detail = event
        stored = StoredEvent(
            position,
            head.pk,
            head.bot,
            head.session_id,
            head.last_sequence,
            head.uid,
            kind,
            run,
            self.now,
            payload,
            head.mark,
            detail,
        )
        # In the order of the table's columns.
        self._event_rows.append(
            (position, head.pk, head.last_sequence, head.transcript, event_id, int(kind), run, self.now, payload)
        )
        self.events.append(stored)
        return stored

    def add_restored(self, session: Session) -> None:
        """A session that was elsewhere; its transcripts are written by the caller, its log by `restore`."""
        self._new_sessions.append(session)

    def restore(self, head: Head, transcript: int, line: Line) -> None:
        """Adds a line of the log as it was elsewhere, of the transcript with this key."""
        self._position = position = self._position + 1
        sequence, uid, event_id, kind, run, time, payload = line
        self._event_rows.append((position, head.pk, sequence, transcript, event_id, kind, run, time, payload))
        stored = StoredEvent(position, head.pk, head.bot, head.session_id, sequence, uid, kind, run, time, payload)
        self.events.append(stored)

    def record(self, session: Session, change: Change, actor: str) -> Session:
        """Adds one of the service's own events to the session's log."""
        head = replace(session.head, last_sequence=session.head.last_sequence + 1)
        session = replace(session, head=head)
        event_id = f"session/{head.last_sequence}"
        self.append(head, NewEvent(event_id, change.kind, "", self.encode(change, event_id, actor)))
        self.changed.append(session)
        return session

    def save(self, session: Session) -> None:
        """Writes the whole row of a session that exists."""
        self.forget(session.name)
        values = session_values(session)
        _save_session.run(self.conn, [(*(values[name] for name in _SAVED_COLUMNS), session.head.pk)])

    def count(self, bot: str, state: SessionState, change: int) -> None:
        """So many sessions more or less of a bot are in a state. `add_session` counts what it adds."""
        key = (bot, int(state))
        self._counts[key] = self._counts.get(key, 0) + change

    def forget(self, name: str) -> None:
        """The session's row is changed or removed by other means than `move`."""
        self._wrote = True
        self._heads.forget(name)

    def flush(self) -> None:
        """Writes what was added so far, so that the next item of the transaction sees it."""
        conn = self.conn
        self._wrote = self._wrote or bool(
            self._new_sessions or self._new_transcripts or self._moved or self._event_rows
        )
        if self._new_transcripts:
            conn.execute(_insert_transcript, self._new_transcripts)
            self._new_transcripts = []
        if self._new_sessions:
            new = [session_values(session) for session in self._new_sessions]
            _insert_sessions.run(conn, [tuple(values[name] for name in _SESSION_COLUMNS) for values in new])
            for session in self._new_sessions:
                self._moved.pop(session.head.pk, None)
                self.count(session.head.bot, session.head.state, 1)
            self._new_sessions = []
        if self._moved:
            rows = [(*moved_values(head), -head.last_activity_time, pk) for pk, head in self._moved.items()]
            _move_sessions.run(conn, rows)
            self._moved = {}
        if self._event_rows:
            _insert_events.run(conn, self._event_rows)
            self._event_rows = []

    def finish(self) -> None:
        """The last step before the commit."""
        self.flush()
        writes = self._writes + self._wrote
        self._heads.close(writes)
        if not self._wrote:
            return
        counts = [{"bot": bot, "state": state, "change": n} for (bot, state), n in self._counts.items() if n]
        if counts:
            self.conn.execute(_count_sessions, counts)
        _move_log.run(self.conn, [(self._position, self._session, self._transcript, writes)])


def micros(time: datetime) -> int:
    """Microseconds since 1970, UTC, without the rounding of a float."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_micros(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)
