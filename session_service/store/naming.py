"""Labels and groups: which of them a session may have."""

from sqlalchemy import Select, bindparam, func, insert, select, text

from session_service.domain import errors
from session_service.domain.label import label_key, label_skeleton
from session_service.domain.session import Provenance, Session, SessionState
from session_service.models import NAMED_SESSIONS, SESSION, SESSION_GROUP
from session_service.store.sql import Shapes
from session_service.store.transaction import Transaction

_named = text(NAMED_SESSIONS)
_shapes = Shapes()


def check_label(tx: Transaction, bot: str, name: str, label: str) -> None:
    """Lets session `name` have `label` or says why not.

    Raises:
        LabelInUse: another session of the bot has it.
        LabelConfusable: another session of the bot has one that looks the same.
    """
    if not label:
        return
    holder = _other(tx, bot, name, "label_key", label_key(label))
    if holder is not None:
        raise errors.LabelInUse(label, holder)
    double = _other(tx, bot, name, "label_skeleton", label_skeleton(label))
    if double is not None:
        raise errors.LabelConfusable(label, "", f"looks like the label of {double}", session=double)


def admit_name(tx: Transaction, session: str, provenance: Provenance) -> None:
    """Lets a session get a name or says why not. What people made counts against their cap; nothing is evicted.

    Raises:
        NamedSessionsDisabled, SessionCapReached
    """
    if not tx.rules.named_sessions_enabled:
        raise errors.NamedSessionsDisabled(session)
    if provenance.user_created:
        admit_return(tx, provenance.created_by)


def admit_return(tx: Transaction, owner: str) -> None:
    """Lets a named session of `owner` come back into use. Raises SessionCapReached."""
    limit = tx.rules.max_named_sessions
    if not limit:
        return
    some = select(SESSION.c.pk).where(SESSION.c.created_by == owner, _named).limit(limit).subquery()
    if tx.conn.execute(select(func.count()).select_from(some)).scalar_one() >= limit:
        raise errors.SessionCapReached(owner, limit)


def counts_when_active(session: Session) -> bool:
    """Whether the session, which is not in use, would count against its creator's cap."""
    return (
        session.head.state is not SessionState.ACTIVE and session.provenance.user_created and bool(session.fields.label)
    )


def know_group(tx: Transaction, group: str) -> None:
    """A group that a session names for the first time is put behind the others."""
    if not group or _shapes.fetch(tx.conn, "group", _group, {"group": group}):
        return
    last = tx.conn.execute(select(func.max(SESSION_GROUP.c.position))).scalar()
    tx.conn.execute(insert(SESSION_GROUP), {"name": group, "position": 0 if last is None else last + 1})


def _other(tx: Transaction, bot: str, name: str, column: str, value: str) -> str | None:
    """Another session of the bot that has the value."""

    def statement() -> Select[tuple[str]]:
        of_bot = select(SESSION.c.name).where(SESSION.c.bot == bindparam("bot"), SESSION.c.name != bindparam("name"))
        return of_bot.where(SESSION.c[column] == bindparam("value")).limit(1)

    rows = _shapes.fetch(tx.conn, column, statement, {"bot": bot, "name": name, "value": value})
    return str(rows[0][0]) if rows else None


def _group() -> Select[tuple[str]]:
    return select(SESSION_GROUP.c.name).where(SESSION_GROUP.c.name == bindparam("group"))
