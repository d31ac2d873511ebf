"""When an idle session is put away: warned of first, archived later, never when it is protected or at work."""

from session_service.domain.rules import Rules
from session_service.domain.session import MAIN_SESSION_ID, Session, SessionState


def expires_at(session: Session, rules: Rules) -> int | None:
    """When the session is over by its own expiry or by its idleness, whichever comes first; None for never."""
    if (
        session.fields.persistent
        or session.head.state is not SessionState.ACTIVE
        or session.head.session_id == MAIN_SESSION_ID
    ):
        return None
    times = [] if session.fields.expire_time is None else [session.fields.expire_time]
    if rules.idle_ttl and not session.fields.pinned:
        times.append(session.head.last_activity_time + rules.idle_ttl)
    return min(times, default=None)


def warns(session: Session, rules: Rules, now: int) -> bool:
    """Whether it is time to warn of an expiry that nobody was warned of yet."""
    expiry = expires_at(session, rules)
    return expiry is not None and expiry != session.expiry_warned and expiry - rules.expiry_warning <= now


def archives(session: Session, rules: Rules, now: int) -> bool:
    """Whether its time is over, the warning's included. A session at work is let finish."""
    return (
        session.archive_due is not None
        and session.archive_due <= now
        and expires_at(session, rules) == session.expiry_warned
        and not session.head.active_runs
    )
