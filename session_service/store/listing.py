"""Finding sessions: by name and in pages. A page costs what it holds, not what the store holds."""

from collections.abc import Sequence
from enum import Enum
from functools import partial
from heapq import merge
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
    tuple_,
)

from chassis import direct_sql
from session_service.domain.label import label_key
from session_service.domain.session import Session, SessionState
from session_service.models import PIN_LIFT, SESSION, SESSION_COUNT, SESSION_TAG
from session_service.store.filtering import SessionFilter, conditions_of, is_plain, shape_of, values_of
from session_service.store.log import head_position
from session_service.store.resolving import bots_of_sessions
from session_service.store.rows import SESSION_COLUMNS, SESSIONS_BY_KEY, fold, to_session
from session_service.store.session_cache import STAMP_COLUMNS, STAMPS_BY_NAME, SessionCache, Stamp
from session_service.store.sql import Among, Shapes, among, escape_like, listed

_c = SESSION.c
# Spelt out, so that the engines see which partial index fits.
_NONE: ColumnElement[str] = literal_column("''")
# Ranges that are merged at most; sessions that are sorted at most.
_MAX_RANGES = 32
# Texts are found by runs of three characters.
_MIN_INDEXED_TEXT = 3
_TEXTS = table("session_fts")
_POSTGRESQL_TEXTS = table("session_text_fts")
_HAS_TEXT_INDEX = "SELECT to_regclass('ix_session_text_words') IS NOT NULL"
_MAX_SORTED = 2_000
_LIFTED: ColumnElement[int] = literal_column(str(-PIN_LIFT))
_PAGES = Shapes()
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


class Page(NamedTuple):
    """`position` continues after the page: (rank, name), None at the end. `as_of` is the log's position before it."""

    sessions: Sequence[Session]
    position: tuple[int, str] | None
    as_of: int
    total: int


def find_sessions(conn: Connection, names: Sequence[str], cache: SessionCache) -> dict[str, Session]:
    """The sessions that exist, by resource name."""
    stamps = [tuple(row) for row in STAMPS_BY_NAME.run(conn, names)]
    return {session.name: session for session in cache.read(conn, stamps)}


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
    cache: SessionCache,
) -> Page:
    """`cache` may have some of the page already."""
    as_of = head_position(conn)
    few = _few(conn, which, order)
    total = count_sessions(conn, which, few) if count else 0
    places = _places(conn, which, order, few, size + 1, after, 0 if after else offset)
    more = len(places) > size
    places = places[:size]
    found = cache.read(conn, [place[2] for place in places])
    return Page(found, (places[-1][0], places[-1][1]) if more else None, as_of, total)


def count_sessions(conn: Connection, which: SessionFilter, few: Sequence[int] | None = None) -> int:
    """How many sessions fit. Without filters by content this is known, else those that fit are counted.

    `few` are keys of sessions among which all that fit are.
    """
    if few is not None:
        among_few = select(func.count()).select_from(SESSION).where(among(conn, _c.pk, few))
        return int(conn.execute(among_few.where(*conditions_of(conn, which, lead="pk"))).scalar_one())
    if not is_plain(which):
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
    statement = _SESSIONS.where(_c.pk > after, _c.state != int(SessionState.DELETED))
    if bots is not None:
        statement = statement.where(among(conn, _c.bot, bots))
    return [to_session(tuple(row)) for row in conn.execute(statement.order_by(_c.pk).limit(limit))]


def _places(
    conn: Connection,
    which: SessionFilter,
    order: SessionOrder,
    few: Sequence[int] | None,
    limit: int,
    after: tuple[int, str] | None,
    offset: int,
) -> list[tuple[int, str, Stamp]]:
    """Rank, name and stamp of each session of a page.

    Each range of an index holds its sessions in the order asked for, so the ranges are read and merged. Sessions that
    few others are like are found by what they have in common, and sorted.
    """
    ranges = [which] if few is not None else _apart(which, order)
    # Pinned sessions lie apart in the index of activity.
    sides = (True, False) if order is SessionOrder.ACTIVITY else (None,)
    pages: list[list[tuple[int, str, Stamp]]] = []
    for each in ranges:
        for lifted in sides:
            lift = PIN_LIFT if lifted else 0
            values = values_of(conn, each)
            if few is not None:
                values["of_few"] = listed(conn, few)
            if after is not None:
                values["after_rank"], values["after_name"] = after[0] - lift, after[1]
            values["page_limit"] = limit + offset
            rows = _PAGES.fetch(
                conn,
                (order, few is None, lifted, after is None, shape_of(each)),
                partial(_page, conn, each, order, few, lifted=lifted, first=after is None),
                values,
            )
            pages.append([(row[0] + lift, row[1], tuple(row[2:])) for row in rows])
    places = pages[0] if len(pages) == 1 else list(merge(*pages, key=lambda place: place[:2]))
    return places[offset : offset + limit]


def _page(
    conn: Connection,
    which: SessionFilter,
    order: SessionOrder,
    few: Sequence[int] | None,
    *,
    lifted: bool | None,
    first: bool,
) -> Select[Any]:
    """The statement for one range. `lifted`: of activity, only those that are pinned, or only the others."""
    rank = {SessionOrder.NAME: None, SessionOrder.CREATED: _c.create_rank}.get(order, _c.sort_rank)
    statement = select(literal_column("0") if rank is None else rank, _c.name, *STAMP_COLUMNS)
    if few is None:
        statement = statement.where(*conditions_of(conn, which, lead=_lead(which, order)))
    else:
        statement = statement.where(among(conn, _c.pk, few, "of_few"), *conditions_of(conn, which, lead="pk"))
    if order in _BY_RANK and which.active_since is not None:
        # Those that are not pinned lie at the beginning of the range.
        statement = statement.where(_c.sort_rank <= -bindparam("of_since", type_=BigInteger))
    if lifted is not None:
        statement = statement.where(_c.sort_rank < _LIFTED if lifted else _c.sort_rank >= _LIFTED)
    if not first:
        name = bindparam("after_name", type_=Text)
        statement = statement.where(
            _c.name > name
            if rank is None
            else tuple_(rank, _c.name) > tuple_(bindparam("after_rank", type_=BigInteger), name)
        )
    keys = [] if rank is None else [rank]
    return statement.order_by(*keys, _c.name).limit(bindparam("page_limit", type_=BigInteger))


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


def _with_text(conn: Connection, words: str) -> list[Select[Any]]:
    """Asks an index for the sessions with these words. PostgreSQL has one where its extension pg_trgm is."""
    if conn.dialect.name == "sqlite":
        phrase = '"' + words.replace('"', '""') + '"'
        return [select(column("rowid")).select_from(_TEXTS).where(column("session_fts").op("MATCH")(phrase))]
    if not direct_sql.fetch(conn, _HAS_TEXT_INDEX)[0][0]:
        return []
    pattern = f"%{escape_like(words)}%"
    return [select(column("session")).select_from(_POSTGRESQL_TEXTS).where(column("words").like(pattern, escape="\\"))]


def _few(conn: Connection, which: SessionFilter, order: SessionOrder) -> list[int] | None:
    """The keys of all sessions with some tag, text, group or parent of the filter, if there are few enough to sort."""
    questions: list[Select[Any]] = [select(SESSION_TAG.c.session).where(SESSION_TAG.c.tag == tag) for tag in which.tags]
    if order not in _BY_RANK:
        if which.parent:
            questions.append(select(_c.pk).where(_c.parent == which.parent, _c.parent != _NONE))
        if which.group:
            questions.append(select(_c.pk).where(_c.group_name == which.group, _c.group_name != _NONE))
    if len(which.text) >= _MIN_INDEXED_TEXT:
        questions.extend(_with_text(conn, fold(which.text)))
    if which.label:
        bots = bots_of_sessions(conn) if which.bots is None else which.bots
        key = label_key(which.label)
        questions.append(select(_c.pk).where(among(conn, _c.bot, bots), _c.label_key == key))
    best: list[int] | None = None
    for question in questions:
        found = list(conn.execute(question.limit(_MAX_SORTED + 1)).scalars())
        if len(found) <= _MAX_SORTED and (best is None or len(found) < len(best)):
            best = found
    return best
