"""Grants and the record of what was done through them, as rows."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from memory_service.domain.errors import GrantAlreadyExists, GrantNotFound
from memory_service.domain.grant import (
    KEPT_ACCESSES,
    MAX_RESOURCES,
    Access,
    Grant,
    GrantAccess,
    GrantState,
    Reach,
    check_revocable,
)
from memory_service.domain.memory import Kind, Memory
from memory_service.domain.selection import Slice
from memory_service.models import ACCESS, GRANT
from memory_service.store.blocks import read_block
from memory_service.store.codec import Row, dump, micros, micros_or_none, moment, moment_or_none
from memory_service.store.lists import Page, Position
from memory_service.store.transaction import Transaction, read_namespace


@dataclass(frozen=True, slots=True)
class AccessQuery:
    """Which audit entries; empty and None select all. `start` is inclusive, `end` exclusive."""

    grant: str = ""
    grantee: str = ""
    start: datetime | None = None
    end: datetime | None = None


def create_grant(tx: Transaction, grant: Grant) -> Grant:
    """Raises: GrantAlreadyExists, BlockNotFound."""
    namespace = tx.ensure(grant.bot)
    if find_grant(tx.conn, grant.bot, grant.id) is not None:
        raise GrantAlreadyExists(grant.name)
    for block_id in grant.blocks:
        read_block(tx.conn, grant.bot, block_id)
    tx.conn.execute(insert(GRANT), _to_row(grant))
    tx.mark_changed(namespace)
    return read_grant(tx.conn, grant.bot, grant.id)


def revoke_grant(tx: Transaction, bot: str, grant_id: str) -> Grant:
    """Raises: GrantNotFound, GrantEnded."""
    namespace = tx.ensure(bot)
    grant = read_grant(tx.conn, bot, grant_id)
    check_revocable(grant, tx.now)
    tx.conn.execute(update(GRANT).where(GRANT.c.pk == grant.key).values(revoke_time=micros(tx.now)))
    tx.mark_changed(namespace)
    return read_grant(tx.conn, bot, grant_id)


def read_grant(conn: Connection, bot: str, grant_id: str) -> Grant:
    grant = find_grant(conn, bot, grant_id)
    if grant is None:
        raise GrantNotFound(f"bots/{bot}/grants/{grant_id}")
    return grant


def grants_in_force(
    conn: Connection, grantee: str, access: GrantAccess, now: datetime, *, bot: str | None = None
) -> tuple[Grant, ...]:
    """What lends `grantee` at least that access, to the memory of one bot or of any; the oldest first."""
    query = select(GRANT).where(GRANT.c.grantee == grantee, GRANT.c.access >= int(access), _in_state(_ACTIVE, now))
    if bot is not None:
        query = query.where(GRANT.c.bot == bot)
    return tuple(grant_from_row(row) for row in conn.execute(query.order_by(GRANT.c.pk)).mappings())


def count_in_force(conn: Connection, bot: str | None, now: datetime) -> int:
    """Of those a bot has given; of all with None."""
    query = select(func.count()).select_from(GRANT).where(_in_state(_ACTIVE, now))
    count: int = conn.execute(query if bot is None else query.where(GRANT.c.bot == bot)).scalar_one()
    return count


def list_given(
    conn: Connection, bot: str, states: frozenset[GrantState], size: int, after: Position, now: datetime
) -> Page[Grant]:
    """The newest first."""
    wanted = or_(*(_in_state(state, now) for state in sorted(states or {_ACTIVE})))
    return _page(conn, bot, and_(GRANT.c.bot == bot, wanted), size, after)


def list_received(conn: Connection, bot: str, size: int, after: Position, now: datetime) -> Page[Grant]:
    """Those in force, the newest first."""
    return _page(conn, bot, and_(GRANT.c.grantee == bot, _in_state(_ACTIVE, now)), size, after)


def record_access(tx: Transaction, reach: Reach, memories: Iterable[Memory], block_ids: Iterable[str] = ()) -> None:
    """Puts what was seen or changed through grants on record; nothing for an owner."""
    for grant, names in reach.by_grant(memories, block_ids):
        row = {
            "bot": grant.bot,
            "access_id": tx.new_id(),
            "grant_id": grant.id,
            "grantee": grant.grantee,
            "method": reach.method,
            "resources": dump(names[:MAX_RESOURCES]),
            "resource_count": len(names),
            "access_time": micros(tx.now),
            "trace_id": reach.trace_id,
        }
        tx.conn.execute(insert(ACCESS), row)
        tx.conn.execute(
            update(GRANT)
            .where(GRANT.c.pk == grant.key)
            .values(access_count=GRANT.c.access_count + 1, access_time=micros(tx.now))
        )


def list_accesses(conn: Connection, bot: str, wanted: AccessQuery, size: int, after: Position) -> Page[Access]:
    """The newest first."""
    query = select(ACCESS).where(ACCESS.c.bot == bot)
    if wanted.grant:
        query = query.where(ACCESS.c.grant_id == wanted.grant)
    if wanted.grantee:
        query = query.where(ACCESS.c.grantee == wanted.grantee)
    if wanted.start is not None:
        query = query.where(ACCESS.c.access_time >= micros(wanted.start))
    if wanted.end is not None:
        query = query.where(ACCESS.c.access_time < micros(wanted.end))
    if after:
        query = query.where(ACCESS.c.pk < after[0])
    rows = conn.execute(query.order_by(ACCESS.c.pk.desc()).limit(size + 1)).mappings().all()
    place = (rows[size - 1]["pk"],) if len(rows) > size else ()
    return Page(tuple(_access_from_row(row) for row in rows[:size]), place, read_namespace(conn, bot).revision)


def forget_old_accesses(tx: Transaction) -> None:
    """Removes audit entries that are older than they need be kept, and grants that ended as long ago."""
    horizon = micros(tx.now - KEPT_ACCESSES)
    tx.conn.execute(delete(ACCESS).where(ACCESS.c.access_time <= horizon))
    tx.conn.execute(delete(GRANT).where(or_(GRANT.c.expire_time <= horizon, GRANT.c.revoke_time <= horizon)))


_ACTIVE = GrantState.ACTIVE


def _in_state(state: GrantState, now: datetime) -> ColumnElement[bool]:
    if state is GrantState.REVOKED:
        return GRANT.c.revoke_time.is_not(None)
    over = GRANT.c.expire_time <= micros(now)
    return and_(GRANT.c.revoke_time.is_(None), over if state is GrantState.EXPIRED else ~over)


def _page(conn: Connection, bot: str, wanted: ColumnElement[bool], size: int, after: Position) -> Page[Grant]:
    query = select(GRANT).where(wanted)
    if after:
        query = query.where(GRANT.c.pk < after[0])
    rows: Sequence[Row] = conn.execute(query.order_by(GRANT.c.pk.desc()).limit(size + 1)).mappings().all()
    place = (rows[size - 1]["pk"],) if len(rows) > size else ()
    return Page(tuple(grant_from_row(row) for row in rows[:size]), place, read_namespace(conn, bot).revision)


def find_grant(conn: Connection, bot: str, grant_id: str) -> Grant | None:
    query = select(GRANT).where(GRANT.c.bot == bot, GRANT.c.grant_id == grant_id)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else grant_from_row(row)


def _to_row(grant: Grant) -> dict[str, Any]:
    memories = grant.memories
    kept: dict[str, Any] = {"blocks": list(grant.blocks)}
    if memories is not None:
        kept["memories"] = {
            "kinds": sorted(memories.kinds),
            "tags": sorted(memories.tags),
            "sessions": sorted(memories.sessions),
        }
    return {
        "bot": grant.bot,
        "grant_id": grant.id,
        "grantee": grant.grantee,
        "access": int(grant.access),
        "slice": dump(kept),
        "reason": grant.reason,
        "principal": grant.principal,
        "create_time": micros(grant.create_time),
        "expire_time": micros(grant.expire_time),
        "revoke_time": micros_or_none(grant.revoke_time),
        "access_count": grant.access_count,
        "access_time": micros_or_none(grant.access_time),
    }


def grant_from_row(row: Row) -> Grant:
    kept = json.loads(row["slice"])
    memories = kept.get("memories")
    return Grant(
        bot=row["bot"],
        id=row["grant_id"],
        grantee=row["grantee"],
        access=GrantAccess(row["access"]),
        memories=None
        if memories is None
        else Slice(
            kinds=frozenset(Kind(kind) for kind in memories["kinds"]),
            tags=frozenset(memories["tags"]),
            sessions=frozenset(memories["sessions"]),
        ),
        blocks=tuple(kept["blocks"]),
        expire_time=moment(row["expire_time"]),
        reason=row["reason"],
        create_time=moment(row["create_time"]),
        principal=row["principal"],
        revoke_time=moment_or_none(row["revoke_time"]),
        access_count=row["access_count"],
        access_time=moment_or_none(row["access_time"]),
        key=row["pk"],
    )


def _access_from_row(row: Row) -> Access:
    return Access(
        bot=row["bot"],
        id=row["access_id"],
        grant=f"bots/{row['bot']}/grants/{row['grant_id']}",
        grantee=row["grantee"],
        method=row["method"],
        resources=tuple(json.loads(row["resources"])),
        count=row["resource_count"],
        time=moment(row["access_time"]),
        trace_id=row["trace_id"],
    )
