"""Finding messages by words, best first. The index is kept by `deriving`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, bindparam, column, func, select, table, text

from session_service.domain.event import MAX_ANSWER_BYTES, StoredEvent
from session_service.models import EVENT, SESSION, TRANSCRIPT
from session_service.store import deriving
from session_service.store.event_rows import EVENT_COLUMNS, to_event
from session_service.store.filtering import SessionFilter, conditions_of

_e = EVENT.c
_SQLITE_INDEX = table("event_fts", column("rowid"), column("rank"))
_POSTGRESQL_INDEX = table("event_fts", column("position"), column("words"))


class Search(NamedTuple):
    """What is looked for: messages with all of `words`. `names` None means all sessions that fit `sessions`."""

    words: Sequence[str]
    sessions: SessionFilter
    names: Sequence[str] | None = None
    start_time: int | None = None
    end_time: int | None = None
    roles: Sequence[int] = ()


class Found(NamedTuple):
    """A hit. A greater score is better; scores compare within one answer."""

    event: StoredEvent
    score: float


class SearchPage(NamedTuple):
    hits: Sequence[Found]
    more: bool
    backlog: int


def search(conn: Connection, what: Search, *, size: int, offset: int) -> SearchPage:
    """Hits from `offset` on, at most `size` and MAX_ANSWER_BYTES of them; without words none."""
    backlog = deriving.progress(conn).backlog
    if not what.words:
        return SearchPage((), False, backlog)
    about: list[list[str]] = []
    conditions = conditions_of(conn, what.sessions)
    if what.names is not None:
        keys = list(conn.execute(select(SESSION.c.pk).where(SESSION.c.name.in_(what.names))).scalars())
        if not keys:
            return SearchPage((), False, backlog)
        about.append([deriving.scope_of_session(key) for key in keys])
    elif what.sessions.bots is not None:
        if not what.sessions.bots:
            return SearchPage((), False, backlog)
        about.append([deriving.scope_of_bot(bot) for bot in what.sessions.bots])
    if what.roles:
        about.append([deriving.scope_of_role(role) for role in what.roles])
    if what.start_time is not None:
        conditions.append(_e.create_time >= what.start_time)
    if what.end_time is not None:
        conditions.append(_e.create_time < what.end_time)
    matches = _on_sqlite(what.words, about) if conn.dialect.name == "sqlite" else _on_postgresql(what.words, about)
    rows = conn.execute(_joined(matches, conditions).limit(size + 1).offset(offset)).all()
    hits: list[Found] = []
    left = MAX_ANSWER_BYTES
    for row in rows[:size]:
        hit = _found(tuple(row))
        left -= len(hit.event.payload)
        if hits and left < 0:
            break
        hits.append(hit)
    return SearchPage(hits, len(rows) > len(hits), backlog)


class _Matches(NamedTuple):
    """The rows of the index that match: the index, its key, the score, the conditions and the order."""

    index: Any
    key: ColumnElement[int]
    score: ColumnElement[float]
    conditions: Sequence[ColumnElement[bool]]
    order: Sequence[ColumnElement[Any]]


def _on_sqlite(words: Sequence[str], about: Sequence[Sequence[str]]) -> _Matches:
    # Words hold letters and digits only, so in quotes none of them is an operator.
    match = "words : (" + " AND ".join(f'"{word}"' for word in words) + ")"
    for scopes in about:
        match += " AND scope : (" + " OR ".join(f'"{scope}"' for scope in scopes) + ")"
    condition: Any = text("event_fts MATCH :words_to_match").bindparams(words_to_match=match)
    rank = _SQLITE_INDEX.c.rank
    # In the order of the rank alone, so that FTS5 sorts and SQLite stops at the limit.
    return _Matches(_SQLITE_INDEX, _SQLITE_INDEX.c.rowid, -rank, (condition,), (rank,))


def _on_postgresql(words: Sequence[str], about: Sequence[Sequence[str]]) -> _Matches:
    match = " & ".join(f"'{word}'" for word in words)
    for scopes in about:
        match += " & (" + " | ".join(f"':{scope}'" for scope in scopes) + ")"
    vector = _POSTGRESQL_INDEX.c.words
    query: Any = text("CAST(CAST(:words_to_match AS TEXT) AS TSQUERY)").bindparams(bindparam("words_to_match", match))
    # 1: a long text is no better for being long.
    score: ColumnElement[float] = func.ts_rank(vector, query, 1)
    return _Matches(
        _POSTGRESQL_INDEX,
        _POSTGRESQL_INDEX.c.position,
        score,
        (vector.op("@@")(query),),
        (score.desc(), _POSTGRESQL_INDEX.c.position.desc()),
    )


def _joined(matches: _Matches, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return (
        select(*EVENT_COLUMNS, matches.score.label("score"))
        .select_from(matches.index)
        .join(EVENT, _e.position == matches.key)
        .join(SESSION, SESSION.c.pk == _e.session)
        .join(TRANSCRIPT, TRANSCRIPT.c.pk == _e.transcript)
        .where(*matches.conditions, *conditions)
        .order_by(*matches.order)
    )


def _found(row: Sequence[Any]) -> Found:
    *event, score = row
    return Found(to_event(event), float(score))
