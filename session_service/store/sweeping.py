"""What happens to sessions by time: each function does one step in a commit of its own and can be run at any time.

What is to be done is read from the sessions themselves, so a sweep that was broken off goes on where it was, and two
replicas that sweep at once do nothing twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, select, tuple_

from session_service.domain import expiry, lifecycle
from session_service.domain.rules import Rules
from session_service.domain.session import SessionState
from session_service.models import PIN_LIFT, SESSION
from session_service.store.transaction import Transaction

ACTOR = "services/session"

_c = SESSION.c


class Due(NamedTuple):
    """Sessions that may be due, and where to go on looking; None at the end."""

    names: Sequence[str]
    following: tuple[int, str] | None


def find_expiring(conn: Connection, rules: Rules, now: int, after: tuple[int, str] | None, limit: int) -> Due:
    """Active, unprotected sessions whose own expiry time is near."""
    near = select(_c.expire_time, _c.name).where(
        _c.expire_time.is_not(None),
        _c.expire_time <= now + rules.expiry_warning,
        _c.state == int(SessionState.ACTIVE),
        _c.persistent == 0,
    )
    if after is not None:
        near = near.where(tuple_(_c.expire_time, _c.name) > tuple_(after[0], after[1]))
    return _due(conn.execute(near.order_by(_c.expire_time, _c.name).limit(limit)).all(), limit)


def find_idle(conn: Connection, rules: Rules, now: int, after: tuple[int, str] | None, limit: int) -> Due:
    """Active, unprotected sessions that have been idle for nearly as long as they may, the longest idle first."""
    # A rank is the negated time of the last activity; pinned sessions, which never count as idle, lie apart.
    nearly = now + rules.expiry_warning - rules.idle_ttl
    idle = select(_c.sort_rank, _c.name).where(
        _c.state == int(SessionState.ACTIVE), _c.sort_rank >= max(-nearly, -PIN_LIFT), _c.persistent == 0
    )
    if after is not None:
        idle = idle.where(tuple_(_c.sort_rank, _c.name) < tuple_(after[0], after[1]))
    return _due(conn.execute(idle.order_by(_c.sort_rank.desc(), _c.name.desc()).limit(limit)).all(), limit)


def find_expired(conn: Connection, now: int, after: tuple[int, str] | None, limit: int) -> Due:
    """Sessions whose warning has run out."""
    over = select(_c.archive_due, _c.name).where(
        _c.archive_due.is_not(None), _c.archive_due <= now, _c.state == int(SessionState.ACTIVE)
    )
    if after is not None:
        over = over.where(tuple_(_c.archive_due, _c.name) > tuple_(after[0], after[1]))
    return _due(conn.execute(over.order_by(_c.archive_due, _c.name).limit(limit)).all(), limit)


def find_purgeable(conn: Connection, now: int, after: tuple[int, str] | None, limit: int) -> Due:
    """Deleted sessions whose purge time has come."""
    due = select(_c.purge_time, _c.name).where(_c.purge_time.is_not(None), _c.purge_time <= now)
    if after is not None:
        due = due.where(tuple_(_c.purge_time, _c.name) > tuple_(after[0], after[1]))
    return _due(conn.execute(due.order_by(_c.purge_time, _c.name).limit(limit)).all(), limit)


def warn(tx: Transaction, name: str) -> bool:
    """Warns that the session will be archived; False when there is no reason, or no longer."""
    session = tx.find_session(name)
    if session is None or not expiry.warns(session, tx.rules, tx.now):
        return False
    expires_at = expiry.expires_at(session, tx.rules) or 0
    due = max(expires_at, tx.now + tx.rules.expiry_warning)
    session = tx.record(session, lifecycle.ExpiryWarned(due), ACTOR)
    tx.save(replace(session, expiry_warned=expires_at, archive_due=due))
    return True


def archive_expired(tx: Transaction, name: str) -> bool:
    """Archives the session; False when it has been used since it was warned of, or is at work."""
    session = tx.find_session(name)
    if session is None:
        return False
    if expiry.archives(session, tx.rules, tx.now):
        after = tx.record(lifecycle.archive(session, tx.now), lifecycle.Archived("expired"), ACTOR)
        tx.save(after)
        tx.count(session.head.bot, session.head.state, -1)
        tx.count(session.head.bot, after.head.state, 1)
        return True
    if not session.head.active_runs:
        tx.save(replace(session, expiry_warned=None, archive_due=None))
    return False


def _due(rows: Sequence[tuple[int, str]], limit: int) -> Due:
    following = (int(rows[-1][0]), str(rows[-1][1])) if len(rows) == limit else None
    return Due([name for _, name in rows], following)
