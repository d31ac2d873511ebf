"""Finding sessions: by name, by reference, and in pages. A page costs what it holds, not what the store holds."""

from collections.abc import Sequence
from enum import Enum
from heapq import merge
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
    tuple_,
)

from chassis import direct_sql
from session_service.domain import errors
from session_service.domain.label import label_key
from session_service.domain.session import Session, SessionState
from session_service.models import PIN_LIFT, SESSION, SESSION_COUNT, SESSION_TAG, TRANSCRIPT
from session_service.store.log import head_position
from session_service.store.rows import SESSION_COLUMNS, SESSIONS_BY_KEY, SESSIONS_BY_NAME, fold, to_session
from session_service.store.sql import Among, among, escape_like, unindexed

_c = SESSION.c
_MIN_SHORT_ID = 6
_MAX_MATCHES = 100
# Spelt out, so that the engines see which partial index fits.
_NONE: ColumnElement[str] = literal_column("''")
# Ranges that are merged at most; sessions that are sorted at most.
_MAX_RANGES = 32
# Texts are found by runs of three characters.
_MIN_INDEXED_TEXT = 3
_TEXTS = table("session_fts")
_MAX_SORTED = 2_000
# Made once: fifty columns take longer to put together than fifty rows to read.
_SESSIONS: Select[*tuple[object, ...]] = select(*SESSION_COLUMNS)
_COUNTS_BY_BOT = Among((SESSION_COUNT.c.bot, SESSION_COUNT.c.state, SESSION_COUNT.c.sessions), SESSION_COUNT.c.bot)
_COUNTS = f"SELECT bot, state, sessions FROM {SESSION_COUNT.name}"
_STATES_BY_NAME = Among((_c.state,), _c.name)


class SessionOrder(Enum):
    """How a list is sorted; ties are broken by name."""

    PINNED = "pinned"
    ACTIVITY = "activity"
    CREATED = "created"
    NAME = "name"


_BY_RANK = (SessionOrder.PINNED, SessionOrder.ACTIVITY)


class SessionFilter(NamedTuple):
    """Which sessions; set fields are combined by "and". `bots` None means all of them."""

    bots: Sequence[str] | None = None
    states: Sequence[SessionState] = (SessionState.ACTIVE,)
    group: str = ""
    tags: Sequence[str] = ()
    persistent: bool | None = None
    running: bool | None = None
    parent: str = ""
    text: str = ""
    label: str = ""
    active_since: int | None = None
    exclude_ids: Sequence[str] = ()


class Page(NamedTuple):
    """`position` continues after the page: (rank, name), None at the end. `as_of` is the log's position before it."""

    sessions: Sequence[Session]
    position: tuple[int, str] | None
    as_of: int
    total: int


def find_sessions(conn: Connection, names: Sequence[str]) -> dict[str, Session]:
    """The sessions that exist, by resource name."""
    found = [to_session(row) for row in SESSIONS_BY_NAME.run(conn, names)]
    return {session.name: session for session in found}


def sessions_by_key(conn: Connection, keys: Sequence[int]) -> list[Session]:
    return [to_session(row) for row in SESSIONS_BY_KEY.run(conn, keys)]


def list_sessions(
    conn: Connection,
    which: SessionFilter,
    order: SessionOrder,
    *,
    size: int,
    after: tuple[int, str] | None,
    offset: int,
    count: bool,
) -> Page:
    as_of = head_position(conn)
    few = _few(conn, which, order)
    total = count_sessions(conn, which, few) if count else 0
    sessions = _page(conn, which, order, few, size + 1, after, 0 if after else offset)
    more = len(sessions) > size
    sessions = sessions[:size]
    last = (_rank(sessions[-1], order), sessions[-1].name) if more else None
    return Page(sessions, last, as_of, total)


def count_sessions(conn: Connection, which: SessionFilter, few: Sequence[int] | None = None) -> int:
    """How many sessions fit. Without filters by content this is known, else those that fit are counted.

    `few` are keys of sessions among which all that fit are.
    """
    if few is not None:
        among_few = select(func.count()).select_from(SESSION).where(among(conn, _c.pk, few))
        return int(conn.execute(among_few.where(*conditions_of(conn, which, lead="pk"))).scalar_one())
    if which._replace(bots=None, states=(), tags=tuple(which.tags), exclude_ids=()) != _ANY:
        return int(
            conn.execute(select(func.count()).select_from(SESSION).where(*conditions_of(conn, which))).scalar_one()
        )
    states = {int(state) for state in which.states}
    counts = direct_sql.fetch(conn, _COUNTS) if which.bots is None else _COUNTS_BY_BOT.run(conn, which.bots)
    rows = [(bot, sessions) for bot, state, sessions in counts if state in states]
    total = sum(sessions for _, sessions in rows)
    if total and which.exclude_ids:
        bots = {bot for bot, _ in rows}
        names = [f"bots/{bot}/sessions/{left_out}" for bot in bots for left_out in set(which.exclude_ids)]
        total -= sum(state in states for (state,) in _STATES_BY_NAME.run(conn, names))
    return int(total)


def all_sessions(conn: Connection, bots: Sequence[str] | None, after: int, limit: int) -> list[Session]:
    """Sessions that are not deleted, in the order of their keys, after key `after`: for snapshots."""
    statement = _select().where(_c.pk > after, _c.state != int(SessionState.DELETED))
    if bots is not None:
        statement = statement.where(among(conn, _c.bot, bots))
    return [to_session(tuple(row)) for row in conn.execute(statement.order_by(_c.pk).limit(limit))]


def resolve(conn: Connection, bots: Sequence[str] | None, kind: str, reference: str) -> Session:
    """The one session that `reference` means; `kind` is "key", "uid", "label", "short_id" or "any".

    A key is a resource name or a bare session id here.

    Raises:
        SessionNotFound, SessionAmbiguous: none, or more than one.
    """
    meant = {
        "key": [_by_key],
        "uid": [_by_uid],
        "label": [_by_label],
        "short_id": [_by_short_id],
        "any": [_by_key, _by_uid, _by_label, _by_short_id],
    }[kind]
    places = _bots_of_sessions(conn) if bots is None else bots
    found: dict[int, Session] = {}
    for make in meant:
        clause = make(conn, places, reference)
        if clause is None:
            continue
        statement = _select().where(clause, _c.state != int(SessionState.DELETED)).limit(_MAX_MATCHES)
        if bots is not None:
            statement = statement.where(among(conn, _c.bot, bots))
        for row in conn.execute(statement):
            session = to_session(tuple(row))
            found[session.head.pk] = session
    if not found:
        raise errors.SessionNotFound(reference)
    if len(found) > 1:
        raise errors.SessionAmbiguous(reference, len(found))
    return next(iter(found.values()))


def _bots_of_sessions(conn: Connection) -> list[str]:
    """The bots that have sessions: with them what is unique within a bot is found by its index."""
    return list(conn.execute(select(SESSION_COUNT.c.bot).distinct()).scalars())


def _by_key(conn: Connection, bots: Sequence[str], reference: str) -> ColumnElement[bool] | None:
    if "/" in reference:
        return _c.name == reference
    return among(conn, _c.name, [f"bots/{bot}/sessions/{reference}" for bot in bots])


def _by_uid(conn: Connection, bots: Sequence[str], reference: str) -> ColumnElement[bool] | None:  # noqa: ARG001
    return _c.pk.in_(select(TRANSCRIPT.c.session).where(TRANSCRIPT.c.uid == reference.lower()))


def _by_label(conn: Connection, bots: Sequence[str], reference: str) -> ColumnElement[bool] | None:
    return among(conn, _c.bot, bots) & (_c.label_key == label_key(reference))


def _by_short_id(conn: Connection, bots: Sequence[str], reference: str) -> ColumnElement[bool] | None:  # noqa: ARG001
    if len(reference) < _MIN_SHORT_ID:
        return None
    start = reference.lower()
    return (_c.uid >= start) & (_c.uid < start + "\x7f")


def _select() -> Select[*tuple[object, ...]]:
    return _SESSIONS


def _rank(session: Session, order: SessionOrder) -> int:
    match order:
        case SessionOrder.PINNED:
            return -session.head.last_activity_time - (PIN_LIFT if session.fields.pinned else 0)
        case SessionOrder.ACTIVITY:
            return -session.head.last_activity_time
        case SessionOrder.CREATED:
            return -session.create_time
        case SessionOrder.NAME:
            return 0


def _page(
    conn: Connection,
    which: SessionFilter,
    order: SessionOrder,
    few: Sequence[int] | None,
    limit: int,
    after: tuple[int, str] | None,
    offset: int,
) -> list[Session]:
    """Each range of an index holds its sessions in the order asked for, so the ranges are read and merged. Sessions
    that few others are like are found by what they have in common, and sorted."""
    if few is not None:
        ranges = [[among(conn, _c.pk, few), *conditions_of(conn, which, lead="pk")]]
    else:
        ranges = [conditions_of(conn, each, lead=_lead(which, order)) for each in _apart(which, order)]
    if order in _BY_RANK and which.active_since is not None:
        # Those that are not pinned lie at the beginning of the range.
        ranges = [[*each, _c.sort_rank <= -which.active_since] for each in ranges]
    if order is SessionOrder.ACTIVITY:
        ranges = [[*each, side] for each in ranges for side in (_c.sort_rank < -PIN_LIFT, _c.sort_rank >= -PIN_LIFT)]
    rank = {SessionOrder.NAME: None, SessionOrder.CREATED: _c.create_rank}.get(order, _c.sort_rank)
    keys = [] if rank is None else [rank]
    pages: list[list[Session]] = []
    for number, conditions in enumerate(ranges):
        statement = _select().where(*conditions)
        if after is not None:
            # Pinned sessions lie apart in the index of activity.
            lifted = after[0] - PIN_LIFT if order is SessionOrder.ACTIVITY and number % 2 == 0 else after[0]
            statement = statement.where(
                _c.name > after[1] if rank is None else tuple_(rank, _c.name) > tuple_(lifted, after[1])
            )
        rows = conn.execute(statement.order_by(*keys, _c.name).limit(limit + offset)).all()
        pages.append([to_session(row) for row in rows])
    sessions = pages[0] if len(pages) == 1 else list(merge(*pages, key=lambda each: (_rank(each, order), each.name)))
    return sessions[offset : offset + limit]


def _apart(which: SessionFilter, order: SessionOrder) -> list[SessionFilter]:
    """The same sessions in parts that are each one range of an index."""
    if order is SessionOrder.NAME:
        return [which]
    bots = [None] if which.bots is None or _lead(which, order) != "bot" else [[bot] for bot in which.bots]
    if which.bots is not None and bots == [None]:
        return [which._replace(states=[state]) for state in which.states]
    if len(bots) * len(which.states) > _MAX_RANGES:
        return [which._replace(states=[state]) for state in which.states]
    return [which._replace(bots=bot, states=[state]) for bot in bots for state in which.states] or [which]


def _lead(which: SessionFilter, order: SessionOrder) -> str:
    """The filter whose index is read in the order asked for."""
    if order is SessionOrder.NAME:
        return "name"
    by_rank = order in _BY_RANK
    if by_rank and which.parent:
        return "parent"
    if by_rank and which.group:
        return "group"
    if by_rank and which.running:
        return "running"
    if by_rank and which.persistent:
        return "persistent"
    return "bot"


def _few(conn: Connection, which: SessionFilter, order: SessionOrder) -> list[int] | None:
    """The keys of all sessions with some tag, text, group or parent of the filter, if there are few enough to sort."""
    questions: list[Select[Any]] = [select(SESSION_TAG.c.session).where(SESSION_TAG.c.tag == tag) for tag in which.tags]
    if order not in _BY_RANK:
        if which.parent:
            questions.append(select(_c.pk).where(_c.parent == which.parent, _c.parent != _NONE))
        if which.group:
            questions.append(select(_c.pk).where(_c.group_name == which.group, _c.group_name != _NONE))
    if conn.dialect.name == "sqlite" and len(which.text) >= _MIN_INDEXED_TEXT:
        words = '"' + fold(which.text).replace('"', '""') + '"'
        questions.append(select(column("rowid")).select_from(_TEXTS).where(column("session_fts").op("MATCH")(words)))
    if which.label:
        bots = _bots_of_sessions(conn) if which.bots is None else which.bots
        key = label_key(which.label)
        questions.append(select(_c.pk).where(among(conn, _c.bot, bots), _c.label_key == key))
    best: list[int] | None = None
    for question in questions:
        found = list(conn.execute(question.limit(_MAX_SORTED + 1)).scalars())
        if len(found) <= _MAX_SORTED and (best is None or len(found) < len(best)):
            best = found
    return best


def conditions_of(conn: Connection, which: SessionFilter, *, lead: str = "") -> list[ColumnElement[bool]]:
    """`lead` is the filter that an index is read by; on SQLite, which knows no numbers, the others hide theirs."""

    def plain(column: Column[Any], name: str) -> ColumnElement[Any]:
        return unindexed(conn, column) if lead and lead != name else column

    states = [int(state) for state in which.states]
    state = plain(_c.state, "state" if lead in ("pk", "name") else lead)
    conditions: list[ColumnElement[bool]] = [state == states[0] if len(states) == 1 else state.in_(states)]
    if which.bots is not None:
        bot = plain(_c.bot, "bot")
        conditions.append(bot == which.bots[0] if len(which.bots) == 1 else among(conn, bot, which.bots))
    if which.group:
        conditions.append(plain(_c.group_name, "group") == which.group)
        conditions.append(_c.group_name != _NONE)
    conditions.extend(
        exists().where(SESSION_TAG.c.session == _c.pk, SESSION_TAG.c.tag == tag).correlate(SESSION)
        for tag in which.tags
    )
    if which.persistent is not None:
        conditions.append(_c.persistent == literal_column(str(int(which.persistent))))
    if which.running is not None:
        conditions.append(_c.active_runs != _NONE if which.running else _c.active_runs == _NONE)
    if which.parent:
        conditions.append(plain(_c.parent, "parent") == which.parent)
        conditions.append(_c.parent != _NONE)
    if which.text:
        conditions.append(_c.search_text.like(f"%{escape_like(fold(which.text))}%", escape="\\"))
    if which.label:
        conditions.append(plain(_c.label_key, "label") == label_key(which.label))
    if which.active_since is not None:
        conditions.append(_c.last_activity_time >= which.active_since)
    if which.exclude_ids:
        conditions.append(~among(conn, _c.session_id, which.exclude_ids))
    return conditions


_ANY = SessionFilter(states=())
