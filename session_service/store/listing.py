"""Finding sessions: by name, by reference, and in pages. A page costs what it holds, not what the store holds."""

from collections.abc import Sequence
from enum import Enum
from heapq import merge
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select, tuple_

from session_service.domain import errors
from session_service.domain.label import label_key
from session_service.domain.session import Session, SessionState
from session_service.models import PIN_LIFT, SESSION, SESSION_TAG, TRANSCRIPT
from session_service.store.log import head_position
from session_service.store.rows import SESSION_COLUMNS, SESSIONS_BY_KEY, SESSIONS_BY_NAME, fold, to_session
from session_service.store.sql import among, escape_like

_c = SESSION.c
_MIN_SHORT_ID = 6


class SessionOrder(Enum):
    """How a list is sorted; ties are broken by name."""

    PINNED = "pinned"
    ACTIVITY = "activity"
    CREATED = "created"
    NAME = "name"


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
    conditions = conditions_of(conn, which)
    total = 0
    if count:
        total = conn.execute(select(func.count()).select_from(SESSION).where(*conditions)).scalar_one()
    sessions = _page(conn, conditions, order, size + 1, after, 0 if after else offset)
    more = len(sessions) > size
    sessions = sessions[:size]
    last = (_rank(sessions[-1], order), sessions[-1].name) if more else None
    return Page(sessions, last, as_of, total)


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
    clauses = [clause for make in meant if (clause := make(reference)) is not None]
    statement = _select().where(or_(*clauses), _c.state != int(SessionState.DELETED))
    if bots is not None:
        statement = statement.where(among(conn, _c.bot, bots))
    found = [to_session(tuple(row)) for row in conn.execute(statement.limit(100))] if clauses else []
    if not found:
        raise errors.SessionNotFound(reference)
    if len(found) > 1:
        raise errors.SessionAmbiguous(reference, len(found))
    return found[0]


def _by_key(reference: str) -> ColumnElement[bool] | None:
    return _c.name == reference if "/" in reference else _c.session_id == reference


def _by_uid(reference: str) -> ColumnElement[bool] | None:
    return _c.pk.in_(select(TRANSCRIPT.c.session).where(TRANSCRIPT.c.uid == reference.lower()))


def _by_label(reference: str) -> ColumnElement[bool] | None:
    return _c.label_key == label_key(reference)


def _by_short_id(reference: str) -> ColumnElement[bool] | None:
    if len(reference) < _MIN_SHORT_ID:
        return None
    start = reference.lower()
    return (_c.uid >= start) & (_c.uid < start + "\x7f")


def _select() -> Select[*tuple[object, ...]]:
    return select(*SESSION_COLUMNS)


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
    conditions: Sequence[ColumnElement[bool]],
    order: SessionOrder,
    limit: int,
    after: tuple[int, str] | None,
    offset: int,
) -> list[Session]:
    def run(
        rank: ColumnElement[int] | None, start: tuple[int, str] | None, *more: ColumnElement[bool]
    ) -> list[Session]:
        statement = _select().where(*conditions, *more)
        if start is not None:
            statement = statement.where(
                _c.name > start[1] if rank is None else tuple_(rank, _c.name) > tuple_(start[0], start[1])
            )
        statement = statement.order_by(_c.name) if rank is None else statement.order_by(rank, _c.name)
        return [to_session(tuple(row)) for row in conn.execute(statement.limit(limit + offset))]

    match order:
        case SessionOrder.NAME:
            sessions = run(None, after)
        case SessionOrder.CREATED:
            sessions = run(_c.create_rank, after)
        case SessionOrder.PINNED:
            sessions = run(_c.sort_rank, after)
        case SessionOrder.ACTIVITY:
            # Pinned sessions lie apart in the index, so two ranges of it are merged.
            lifted = None if after is None else (after[0] - PIN_LIFT, after[1])
            pinned = run(_c.sort_rank, lifted, _c.sort_rank < -PIN_LIFT)
            others = run(_c.sort_rank, after, _c.sort_rank >= -PIN_LIFT)
            sessions = list(merge(pinned, others, key=lambda session: (_rank(session, order), session.name)))
    return sessions[offset : offset + limit]


def conditions_of(conn: Connection, which: SessionFilter) -> list[ColumnElement[bool]]:
    states = [int(state) for state in which.states]
    conditions: list[ColumnElement[bool]] = [_c.state == states[0] if len(states) == 1 else _c.state.in_(states)]
    if which.bots is not None:
        conditions.append(_c.bot == which.bots[0] if len(which.bots) == 1 else among(conn, _c.bot, which.bots))
    if which.group:
        conditions.append(_c.group_name == which.group)
    conditions.extend(_c.pk.in_(select(SESSION_TAG.c.session).where(SESSION_TAG.c.tag == tag)) for tag in which.tags)
    if which.persistent is not None:
        conditions.append(_c.persistent == int(which.persistent))
    if which.running is not None:
        conditions.append(_c.active_runs != "" if which.running else _c.active_runs == "")
    if which.parent:
        conditions.append(_c.parent == which.parent)
    if which.text:
        conditions.append(_c.search_text.like(f"%{escape_like(fold(which.text))}%", escape="\\"))
    if which.label:
        conditions.append(_c.label_key == label_key(which.label))
    if which.active_since is not None:
        conditions.append(_c.last_activity_time >= which.active_since)
    if which.exclude_ids:
        conditions.append(~among(conn, _c.session_id, which.exclude_ids))
    return conditions
