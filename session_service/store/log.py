"""Reading the log: of one session in pages, of all sessions by position, and what a turn needs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Row,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)

from chassis import direct_sql
from session_service.domain import errors
from session_service.domain.event import CONTEXT_KINDS, MAX_ANSWER_BYTES, StoredEvent
from session_service.domain.session import Session
from session_service.models import EVENT, LOG_HEAD, SESSION, TRANSCRIPT
from session_service.store.event_rows import EVENT_COLUMNS, KINDS, to_event
from session_service.store.rows import SESSIONS_BY_NAME, to_session
from session_service.store.session_cache import SessionCache
from session_service.store.sql import Among, Shapes, among
from session_service.store.transcripts import check_transcript

_e = EVENT.c
_PAGES = Shapes()
_ENDS_BY_NAME = Among((SESSION.c.name, SESSION.c.pk, SESSION.c.bot, SESSION.c.last_sequence), SESSION.c.name)
_POSITION = f"SELECT {LOG_HEAD.c.position.name} FROM {LOG_HEAD.name}"
_MAX_RUN_EVENTS = 5_000
_MAX_RUN_BYTES = 32 * 1024 * 1024

# Positions looked through in one read: bounds its time when few of them are wanted.
SCAN_POSITIONS = 2_000


class EventFilter(NamedTuple):
    """Which events of a session. `uid` None means the present transcript, "*" all of them; 0 and None are no bounds."""

    kinds: Sequence[int] = ()
    run: str = ""
    uid: str | None = None
    after_sequence: int = 0
    before_sequence: int = 0
    start_time: int | None = None
    end_time: int | None = None


class EventPage(NamedTuple):
    """`more`: whether events follow the last one. `as_of` is the log's position before the page was read."""

    session: Session
    events: Sequence[StoredEvent]
    more: bool
    as_of: int
    total: int


class TurnContext(NamedTuple):
    """See the contract's GetTurnContextResponse."""

    session: Session
    summary: StoredEvent | None
    events: Sequence[StoredEvent]
    run_events: Sequence[StoredEvent]
    truncated: bool


class LogSlice(NamedTuple):
    """Events after a position, in order; everything up to and including `through` has been looked at.

    The events are MAX_ANSWER_BYTES together at most, or one larger one.
    """

    events: Sequence[StoredEvent]
    through: int


class End(NamedTuple):
    """Where a session's log ends."""

    session: int
    bot: str
    sequence: int


class LogRange(NamedTuple):
    """`head` is the newest position; events at or before `purged` may be gone."""

    head: int
    purged: int


def head_position(conn: Connection) -> int:
    """The newest position of the log. Read before anything else, it is one after which nothing is missed."""
    return int(direct_sql.fetch(conn, _POSITION)[0][0])


def log_range(conn: Connection) -> LogRange:
    return LogRange(*conn.execute(select(LOG_HEAD.c.position, LOG_HEAD.c.purged)).one())


def find_ends(conn: Connection, names: Sequence[str]) -> dict[str, End]:
    return {name: End(session, bot, sequence) for name, session, bot, sequence in _ENDS_BY_NAME.run(conn, names)}


def get_session(conn: Connection, name: str) -> Session:
    """Raises SessionNotFound."""
    rows = SESSIONS_BY_NAME.run(conn, [name])
    if not rows:
        raise errors.SessionNotFound(name)
    return to_session(rows[0])


def list_events(
    conn: Connection,
    name: str,
    which: EventFilter,
    *,
    descending: bool,
    after: int | None,
    size: int,
    max_bytes: int,
    count: bool,
    cache: SessionCache,
) -> EventPage:
    """`after` is the sequence that the previous page ended with."""
    as_of = head_position(conn)
    session = cache.find(conn, name)
    if session is None:
        raise errors.SessionNotFound(name)
    total = 0
    if count:
        of_filter = _conditions(session, which)
        total = conn.execute(select(func.count()).select_from(EVENT).where(*of_filter)).scalar_one()
    values = _values(session, which)
    values["page_after"], values["page_limit"] = after, size + 1
    rows = _PAGES.fetch(
        conn,
        (_shape(which), descending, after is None),
        lambda: _page(session, which, descending=descending, first=after is None),
        values,
    )
    events: list[StoredEvent] = []
    left = max_bytes
    for row in rows:
        event = _of_session(session, row)
        if len(events) == size or (events and len(event.payload) > left):
            return EventPage(session, events, True, as_of, total)
        left -= len(event.payload)
        events.append(event)
    if not events and which.uid not in (None, "*", session.head.uid):
        check_transcript(conn, session.head, str(which.uid))
    return EventPage(session, events, False, as_of, total)


def select_events(conn: Connection, session: Session, which: EventFilter, *, limit: int) -> Iterator[StoredEvent]:
    """A session's events in order, one at a time; the connection is in use until the last."""
    statement = _select_own().where(*_conditions(session, which)).order_by(_e.sequence).limit(limit)
    for row in conn.execute(statement):
        yield _of_session(session, row)


def get_event(conn: Connection, name: str, *, sequence: int = 0, event_id: str = "") -> StoredEvent:
    """By id when one is given, else by sequence.

    Raises:
        SessionNotFound, EventNotFound
    """
    session = get_session(conn, name)
    which = _e.event_id == event_id if event_id else _e.sequence == sequence
    row = conn.execute(_select_own().where(_e.session == session.head.pk, which)).one_or_none()
    if row is None:
        if event_id:
            raise errors.EventNotFound(name, event_id=event_id)
        raise errors.EventNotFound(name, sequence=str(sequence))
    return _of_session(session, row)


def turn_context(conn: Connection, name: str, run: str, *, max_events: int, max_bytes: int) -> TurnContext:
    """The newest events win when the budget does not hold all."""
    session = get_session(conn, name)
    head = session.head
    mine = _select_own().where(_e.session == head.pk)
    summary = None
    if head.summary_sequence:
        row = conn.execute(mine.where(_e.sequence == head.summary_sequence)).one_or_none()
        summary = None if row is None else _of_session(session, row)
    of_run = conn.execute(mine.where(_e.run == run).order_by(_e.sequence.desc()).limit(_MAX_RUN_EVENTS))
    run_events, run_truncated = _within(of_run, session, _MAX_RUN_EVENTS, _MAX_RUN_BYTES)
    context = mine.where(
        _e.sequence > max(head.start_sequence, head.summary_through),
        _e.transcript == head.transcript,
        _e.kind.in_([int(kind) for kind in CONTEXT_KINDS]),
        _e.run != run,
    )
    newest_first = conn.execute(context.order_by(_e.sequence.desc()).limit(max_events + 1))
    events, truncated = _within(newest_first, session, max_events, max_bytes)
    return TurnContext(session, summary, events, run_events, truncated or run_truncated)


def read_log(
    conn: Connection,
    after: int,
    *,
    limit: int,
    sessions: Sequence[int] | None = None,
    bots: Sequence[str] | None = None,
    kinds: Sequence[int] = (),
) -> LogSlice:
    """The events after position `after` of these sessions and bots (None: all)."""
    head = head_position(conn)
    end = min(head, after + SCAN_POSITIONS)
    conditions = [_e.position > after, _e.position <= end]
    if sessions is not None:
        conditions.append(_e.session == sessions[0] if len(sessions) == 1 else among(conn, _e.session, sessions))
    if bots is not None:
        conditions.append(among(conn, SESSION.c.bot, bots))
    if kinds:
        conditions.append(_e.kind.in_(list(kinds)))
    rows = conn.execute(_select_any().where(*conditions).order_by(_e.position).limit(limit))
    return _slice(rows, limit, end)


def read_session_log(conn: Connection, session: int, after: int, *, limit: int, kinds: Sequence[int] = ()) -> LogSlice:
    """As `read_log` for one session, without looking at the positions of others."""
    head = head_position(conn)
    first = _first_sequence_after(conn, session, after)
    conditions = [_e.session == session, _e.sequence >= first, _e.position <= head]
    if kinds:
        conditions.append(_e.kind.in_(list(kinds)))
    rows = conn.execute(_select_any().where(*conditions).order_by(_e.sequence).limit(limit))
    return _slice(rows, limit, head)


def position_of(conn: Connection, session: int, sequence: int) -> int:
    """The position of an event; 0 for sequence 0."""
    row = conn.execute(select(_e.position).where(_e.session == session, _e.sequence == sequence)).scalar()
    return 0 if row is None else int(row)


def _first_sequence_after(conn: Connection, session: int, position: int) -> int:
    """Positions and sequences of one session grow together, so the place is found by halving."""
    last = conn.execute(select(SESSION.c.last_sequence).where(SESSION.c.pk == session)).scalar() or 0
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        if position_of(conn, session, middle) > position:
            high = middle
        else:
            low = middle + 1
    return low


def _slice(rows: CursorResult[Any], limit: int, end: int) -> LogSlice:
    """The events of `rows`, which were asked for up to `limit` and position `end`; fewer when they are large."""
    events: list[StoredEvent] = []
    left = MAX_ANSWER_BYTES
    for row in rows:
        event = to_event(tuple(row))
        left -= len(event.payload)
        if events and left < 0:
            rows.close()
            return LogSlice(events, events[-1].position)
        events.append(event)
        if len(events) == limit:
            rows.close()
            return LogSlice(events, event.position)
    return LogSlice(events, end)


def _within(
    newest_first: Iterable[Row[Any]], session: Session, max_events: int, max_bytes: int
) -> tuple[list[StoredEvent], bool]:
    events: list[StoredEvent] = []
    left = max_bytes
    truncated = False
    for row in newest_first:
        event = _of_session(session, row)
        left -= len(event.payload)
        if len(events) == max_events or left < 0:
            truncated = True
            break
        events.append(event)
    events.reverse()
    return events, truncated


def _page(session: Session, which: EventFilter, *, descending: bool, first: bool) -> Select[Any]:
    statement = _select_own().where(*_conditions(session, which))
    if not first:
        after = bindparam("page_after", type_=BigInteger)
        statement = statement.where(_e.sequence < after if descending else _e.sequence > after)
    order = _e.sequence.desc() if descending else _e.sequence
    return statement.order_by(order).limit(bindparam("page_limit", type_=BigInteger))


def _conditions(session: Session, which: EventFilter) -> list[ColumnElement[bool]]:
    values = _values(session, which)

    def given(name: str, kind: type[Text | BigInteger] = BigInteger) -> BindParameter[Any]:
        return bindparam(name, values[name], type_=kind)

    conditions: list[ColumnElement[bool]] = [_e.session == given("of_session")]
    if which.uid is None:
        # A transcript that was gone back to has others after its beginning.
        conditions += [_e.sequence > given("of_start"), _e.transcript == given("of_transcript")]
    elif which.uid != "*":
        of_uid = select(TRANSCRIPT.c.pk).where(
            TRANSCRIPT.c.uid == given("of_uid", Text), TRANSCRIPT.c.session == given("of_session")
        )
        conditions.append(_e.transcript.in_(of_uid))
    if which.kinds:
        # There are few kinds, and few sets of them that anyone asks for.
        conditions.append(_e.kind.in_([literal_column(str(int(kind))) for kind in which.kinds]))
    if which.run:
        conditions.append(_e.run == given("of_run", Text))
    if which.after_sequence:
        conditions.append(_e.sequence > given("of_after"))
    if which.before_sequence:
        conditions.append(_e.sequence < given("of_before"))
    if which.start_time is not None:
        conditions.append(_e.create_time >= given("of_start_time"))
    if which.end_time is not None:
        conditions.append(_e.create_time < given("of_end_time"))
    return conditions


def _values(session: Session, which: EventFilter) -> dict[str, Any]:
    """The parameters of `_conditions`."""
    return {
        "of_session": session.head.pk,
        "of_start": session.head.start_sequence,
        "of_transcript": session.head.transcript,
        "of_uid": which.uid,
        "of_run": which.run,
        "of_after": which.after_sequence,
        "of_before": which.before_sequence,
        "of_start_time": which.start_time,
        "of_end_time": which.end_time,
    }


def _shape(which: EventFilter) -> tuple[object, ...]:
    """Filters of one shape have the same conditions, for other values."""
    return (
        which.uid if which.uid in (None, "*") else "one",
        tuple(which.kinds),
        bool(which.run),
        bool(which.after_sequence),
        bool(which.before_sequence),
        which.start_time is None,
        which.end_time is None,
    )


def _select_own() -> Select[Any]:
    columns = (_e.position, _e.sequence, TRANSCRIPT.c.uid, _e.kind, _e.run, _e.create_time, _e.payload)
    return select(*columns).join_from(EVENT, TRANSCRIPT, TRANSCRIPT.c.pk == _e.transcript)


def _select_any() -> Select[Any]:
    return (
        select(*EVENT_COLUMNS)
        .join_from(EVENT, SESSION, SESSION.c.pk == _e.session)
        .join(TRANSCRIPT, TRANSCRIPT.c.pk == _e.transcript)
    )


def _of_session(session: Session, row: Sequence[Any]) -> StoredEvent:
    position, sequence, uid, kind, run, create_time, payload = row
    head = session.head
    return StoredEvent(
        position, head.pk, head.bot, head.session_id, sequence, uid, KINDS[kind], run, create_time, payload
    )
