"""What a watch that comes back has missed. Functions take a connection.

Nothing is written for watches: the messages' own rows tell. Whatever changed since a moment has either not ended, or
ended since; and none of that is older than the oldest message that had not ended at that moment.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Boolean, ColumnElement, Connection, String, func, literal_column, or_, select, union_all

from router_service.domain.state import TERMINAL, MessageState
from router_service.models import DECISION, JOINING, MAILBOX, MESSAGE
from router_service.store.messages import MessageQuery, StoredMessage, whole, with_leases

_M: Final = MESSAGE.c
_ENDED: Final = tuple(int(state) for state in sorted(TERMINAL))


def oldest_unfinished(conn: Connection) -> str:
    """The least id of a message that has not ended, or lies among the dead letters; empty when there is none."""
    # Conditions as the indexes say them.
    asking = int(MessageState.NEEDS_DECISION)
    least = union_all(
        select(func.min(_M.id).label("id")).where(literal_column("message.state = 2", Boolean)),
        select(func.min(_M.id)).where(literal_column("message.state = 9", Boolean)),
        select(func.min(_M.id)).where(_M.due_time.is_not(None)),
        select(func.min(MAILBOX.c.lease_message)).where(MAILBOX.c.lease_worker.is_not(None)),
        select(func.min(JOINING.c.message_id)).where(literal_column("joining.state < 3", Boolean)),
        select(func.min(_M.id)).join(DECISION, DECISION.c.message_id == _M.id).where(_M.state == asking),
    ).subquery()
    found: str | None = conn.execute(select(func.min(least.c.id, type_=String))).scalar()
    return found or ""


def changes_since(
    conn: Connection, query: MessageQuery, *, since_us: int, first_id: str, limit: int
) -> list[StoredMessage]:
    """Messages from `first_id` on that have not ended, or were accepted or ended since `since_us`; oldest first."""
    changed = or_(_M.state.not_in(_ENDED), _M.create_time >= since_us, _M.end_time >= since_us)
    rows = conn.execute(whole().where(_M.id >= first_id, changed, *_where(query)).order_by(_M.id).limit(limit))
    return with_leases(conn, rows.mappings().all())


def messages(conn: Connection, query: MessageQuery, ids: Sequence[str]) -> list[StoredMessage]:
    """Those of `ids` that fit, in the order of `ids`."""
    rows = conn.execute(whole().where(_M.id.in_(ids), *_where(query))).mappings().all()
    place = {message_id: number for number, message_id in enumerate(ids)}
    return with_leases(conn, sorted(rows, key=lambda row: place[row["id"]]))


def _where(query: MessageQuery) -> list[ColumnElement[bool]]:
    # Not by the chain of the session's messages: few rows are looked at, and the chain is long.
    conditions: list[ColumnElement[bool]] = list(query.conditions())
    if query.session:
        conditions.append(_M.session == query.session)
    return conditions
