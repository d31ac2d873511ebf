"""The groups of the session list."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from session_service.domain.session import SessionState
from session_service.models import SESSION, SESSION_GROUP
from session_service.store.log import head_position
from session_service.store.transaction import Transaction


class Group(NamedTuple):
    name: str
    position: int
    session_count: int


class GroupPage(NamedTuple):
    groups: Sequence[Group]
    as_of: int


def list_groups(conn: Connection) -> GroupPage:
    """All groups in their order, with the number of sessions that are not deleted."""
    as_of = head_position(conn)
    counts = (
        select(SESSION.c.group_name, func.count().label("sessions"))
        .where(SESSION.c.group_name != "", SESSION.c.state != int(SessionState.DELETED))
        .group_by(SESSION.c.group_name)
        .subquery()
    )
    rows = conn.execute(
        select(SESSION_GROUP.c.name, func.coalesce(counts.c.sessions, 0))
        .join_from(SESSION_GROUP, counts, counts.c.group_name == SESSION_GROUP.c.name, isouter=True)
        .order_by(SESSION_GROUP.c.position, SESSION_GROUP.c.name)
    )
    return GroupPage([Group(name, place, count) for place, (name, count) in enumerate(rows)], as_of)


def update_groups(
    tx: Transaction, order: Sequence[str], renames: Mapping[str, str], removals: Sequence[str]
) -> GroupPage:
    """Renames all at once, then removes, then orders; groups that `order` does not name follow in their old order.

    The sessions concerned change at once and without an event of their own.
    """
    conn = tx.conn
    names = list(conn.execute(select(SESSION_GROUP.c.name).order_by(SESSION_GROUP.c.position)).scalars())
    names = [renames.get(name, name) for name in names]
    _rename(tx, renames)
    for name in removals:
        names = [other for other in names if other != name]
        conn.execute(update(SESSION).where(SESSION.c.group_name == name).values(group_name=""))
    ordered = list(dict.fromkeys([*order, *names]))
    conn.execute(delete(SESSION_GROUP))
    if ordered:
        conn.execute(insert(SESSION_GROUP), [{"name": name, "position": at} for at, name in enumerate(ordered)])
    return list_groups(conn)


def _rename(tx: Transaction, renames: Mapping[str, str]) -> None:
    """What is renamed to a name that is renamed itself takes a name meanwhile that nobody can give."""
    steps = list(renames.items())
    if not renames.keys().isdisjoint(renames.values()):
        aside = [(old, f"\x01{number}") for number, old in enumerate(renames)]
        steps = aside + [(between, renames[old]) for old, between in aside]
    for old, new in steps:
        tx.conn.execute(update(SESSION).where(SESSION.c.group_name == old).values(group_name=new))
