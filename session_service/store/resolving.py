"""Finding the one session that a reference means: its key, uid, label, or the beginning of its uid."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, select

from session_service.domain import errors
from session_service.domain.label import label_key
from session_service.domain.session import Session, SessionState
from session_service.models import SESSION, SESSION_COUNT, TRANSCRIPT
from session_service.store.rows import SESSION_COLUMNS, to_session
from session_service.store.sql import among

_c = SESSION.c
_MIN_SHORT_ID = 6
_MAX_MATCHES = 100
_SESSIONS: Select[*tuple[object, ...]] = select(*SESSION_COLUMNS)


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
    places = bots_of_sessions(conn) if bots is None else bots
    found: dict[int, Session] = {}
    for make in meant:
        clause = make(conn, places, reference)
        if clause is None:
            continue
        statement = _SESSIONS.where(clause, _c.state != int(SessionState.DELETED)).limit(_MAX_MATCHES)
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


def bots_of_sessions(conn: Connection) -> list[str]:
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
