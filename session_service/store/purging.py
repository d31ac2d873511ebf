"""Removing deleted sessions for good. A long log goes some events at a time, so that other writes get their turn."""

from sqlalchemy import Connection, delete, insert, select, update

from session_service.domain import errors, lifecycle
from session_service.domain.session import Session, SessionState
from session_service.models import EVENT, LOG_HEAD, PURGED_SESSION, SESSION, SESSION_TAG, SHARE_LINK, TRANSCRIPT
from session_service.store import deriving
from session_service.store.transaction import Transaction

MAX_EVENTS_AT_ONCE = 5_000


def purge_session(tx: Transaction, name: str, expected_uid: str) -> int:
    """Removes a deleted session; returns the number of events of its log.

    Nothing shows the events any more when this is committed; `remove_events` takes away what is left of a long log.

    Raises:
        SessionNotFound, SessionChanged, SessionNotDeleted
    """
    session = tx.find_session(name)
    if session is None:
        raise errors.SessionNotFound(name)
    lifecycle.check_expected(session, uid=expected_uid)
    if session.head.state is not SessionState.DELETED:
        raise errors.SessionNotDeleted(name)
    _remove(tx, session)
    return session.head.last_sequence


def purge_if_due(tx: Transaction, name: str) -> bool:
    """Removes the session if its purge time has come; False when it has not, or it was undeleted meanwhile."""
    session = tx.find_session(name)
    if session is None or session.purge_time is None or session.purge_time > tx.now:
        return False
    _remove(tx, session)
    return True


def remove_events(tx: Transaction) -> int:
    """Removes some events of sessions that are gone; 0 when none are left."""
    pk = tx.conn.execute(select(PURGED_SESSION.c.session).order_by(PURGED_SESSION.c.session).limit(1)).scalar()
    if pk is None:
        return 0
    removed = _remove_some(tx.conn, pk)
    if removed < MAX_EVENTS_AT_ONCE:
        tx.conn.execute(delete(PURGED_SESSION).where(PURGED_SESSION.c.session == pk))
    return removed or 1


def _remove(tx: Transaction, session: Session) -> None:
    conn, pk = tx.conn, session.head.pk
    last = select(EVENT.c.position).where(EVENT.c.session == pk, EVENT.c.sequence == session.head.last_sequence)
    newest = conn.execute(last).scalar() or 0
    deriving.forget_session(conn, pk)
    if _remove_some(conn, pk) == MAX_EVENTS_AT_ONCE:
        conn.execute(insert(PURGED_SESSION), {"session": pk})
    for table in (TRANSCRIPT, SESSION_TAG, SHARE_LINK):
        conn.execute(delete(table).where(table.c.session == pk))
    conn.execute(delete(SESSION).where(SESSION.c.pk == pk))
    tx.count(session.head.bot, session.head.state, -1)
    tx.forget(session.name)
    # A watcher whose token is older than this would silently miss what was removed, so it is told to list again.
    conn.execute(update(LOG_HEAD).where(LOG_HEAD.c.purged < newest).values(purged=newest))


def _remove_some(conn: Connection, pk: int) -> int:
    some = select(EVENT.c.position).where(EVENT.c.session == pk).order_by(EVENT.c.sequence).limit(MAX_EVENTS_AT_ONCE)
    return conn.execute(delete(EVENT).where(EVENT.c.position.in_(some.scalar_subquery()))).rowcount
