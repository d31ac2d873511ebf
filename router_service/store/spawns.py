"""Children: wishes, limits, descendants, and who must be looked after. Functions take a connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Integer, RowMapping, delete, func, insert, literal_column, or_, select, text, update

from router_service.domain.errors import RequestIdReused, RunEnded, SpawnLimitReached
from router_service.domain.spawning import Cleanup, NewSpawn, OpenSpawn, SpawnLimits, SpawnState
from router_service.domain.state import MessageState
from router_service.models import MAILBOX, MESSAGE, SPAWN
from router_service.store.ending import LOG_NOTHING

_S: Final = SPAWN.c


@dataclass(frozen=True, slots=True)
class StoredSpawn:
    """A child as stored. `spawn` is the serialised contract message."""

    open: OpenSpawn
    state: SpawnState
    created: bool
    depth: int
    sender: str
    spawn: bytes
    duplicate: bool = False


def wish(conn: Connection, new: NewSpawn, limits: SpawnLimits, *, now_us: int, due_us: int) -> StoredSpawn:
    """Stores a wish, or finds the one that was stored before under the same run.

    Raises:
        InvalidArgument: REQUEST_ID_REUSED.
        ResourceExhausted: SPAWN_LIMIT_REACHED.
        FailedPrecondition: RUN_ENDED; the parent's run is being cancelled.
    """
    row = conn.execute(select(SPAWN).where(_S.run == new.run)).mappings().first()
    if row is not None:
        if row["fingerprint"] != new.fingerprint:
            raise RequestIdReused(new.run)
        return _stored(row, duplicate=True)
    depth, parent_run = 1, ""
    if new.parent:
        if conn.dialect.name == "postgresql":  # two replicas that count at once would both find room
            conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:parent))"), {"parent": new.parent})
        depth = (conn.execute(select(func.max(_S.depth)).where(_S.session == new.parent)).scalar() or 0) + 1
        if depth > limits.depth:
            raise SpawnLimitReached("depth", limits.depth)
        open_children = select(func.count()).where(
            _S.parent == new.parent,
            _S.state < literal_column("3", Integer),  # as the index says it
        )
        if conn.execute(open_children).scalar_one() >= limits.fan_out:
            raise SpawnLimitReached("fan_out", limits.fan_out)
        lease = select(MAILBOX.c.lease_run, MAILBOX.c.cancel_time).where(MAILBOX.c.session == new.parent)
        found = conn.execute(lease).first()
        parent_run = (found.lease_run if found is not None else None) or ""
        if parent_run and found is not None and found.cancel_time is not None:
            # Or a cascade would never come to its end.
            raise RunEnded(parent_run, MessageState.CANCELLED)
    insert_wish(conn, new, depth=depth, parent_run=parent_run, now_us=now_us, due_us=due_us)
    return require(conn, new.id)


def insert_wish(conn: Connection, new: NewSpawn, *, depth: int, parent_run: str, now_us: int, due_us: int) -> None:
    conn.execute(
        insert(SPAWN).values(
            id=new.id,
            run=new.run,
            fingerprint=new.fingerprint,
            state=int(SpawnState.WISHED),
            parent=new.parent or None,
            parent_run=parent_run or None,
            session=new.session,
            depth=depth,
            announce=new.announce,
            cleanup=int(new.cleanup),
            created=False,
            sender=new.sender,
            create_time=now_us,
            due_time=due_us,
            spawn=new.spawn,
        )
    )


def require(conn: Connection, spawn_id: str) -> StoredSpawn:
    """Raises FAILED_PRECONDITION (RUN_ENDED) when the wish was withdrawn by a cascade."""
    row = conn.execute(select(SPAWN).where(_S.id == spawn_id)).mappings().first()
    if row is None:
        raise RunEnded(spawn_id, MessageState.CANCELLED)
    return _stored(row)


def withdraw(conn: Connection, spawn_id: str) -> bool:
    """Forgets a wish that came to nothing; False when its task is in the mailbox already."""
    mine = delete(SPAWN).where(_S.id == spawn_id, _S.state == int(SpawnState.WISHED))
    return conn.execute(mine).rowcount == 1


def postpone(conn: Connection, spawn_id: str, due_us: int) -> None:
    conn.execute(update(SPAWN).where(_S.id == spawn_id, _S.due_time.is_not(None)).values(due_time=due_us))


def due(conn: Connection, now_us: int, limit: int, *, longest_us: int) -> tuple[list[StoredSpawn], int]:
    """Children that somebody must look after, and when the next one will be due (0: never).

    One that is due later than the longest wait there is, twice over, is of a clock that was set back since.
    """
    come = or_(_S.due_time <= now_us, _S.due_time > now_us + 2 * longest_us)
    rows = conn.execute(select(SPAWN).where(_S.due_time.is_not(None), come).order_by(_S.due_time).limit(limit))
    found = [_stored(row) for row in rows.mappings()]
    following = conn.execute(
        select(func.min(_S.due_time)).where(_S.due_time.is_not(None), _S.due_time > now_us)
    ).scalar()
    return found, following or 0


def can_be_tidied(conn: Connection, spawn: OpenSpawn) -> bool:
    """Whether the child's log has the end of its run and nothing else waits for it."""
    message = conn.execute(select(MESSAGE.c.log_flags).where(MESSAGE.c.id == spawn.message_id)).scalar()
    if message not in (None, LOG_NOTHING):
        return False
    box = conn.execute(select(MAILBOX).where(MAILBOX.c.session == spawn.session)).mappings().first()
    return box is None or (box["lease_run"] is None and not box["queued"] and not box["waiting"])


def tidied(conn: Connection, spawn_id: str) -> None:
    conn.execute(update(SPAWN).where(_S.id == spawn_id).values(state=int(SpawnState.DONE), due_time=None))


def descendants(conn: Connection, *, run: str = "", session: str = "") -> list[tuple[str, str, str]]:
    """(message id, run, session) of children at work below a run, or below a session, parents before their children.

    Wishes among them are withdrawn by this.
    """
    level = _children(conn, _S.parent_run == run) if run else _children(conn, _S.parent == session)
    found: dict[str, tuple[str, str, str]] = {}
    while level:
        following: list[RowMapping] = []
        for row in level:
            if row["id"] in found:
                continue
            found[row["id"]] = (row["message_id"] or "", row["run"], row["session"])
            # Also below a child that has ended: its own children may go on.
            following.extend(_children(conn, _S.parent == row["session"]))
        level = following
    wishes = [spawn_id for spawn_id, (message_id, _, _) in found.items() if not message_id]
    if wishes:
        conn.execute(delete(SPAWN).where(_S.id.in_(wishes), _S.state == int(SpawnState.WISHED)))
    return [each for each in found.values() if each[0]]


def sweep(conn: Connection, before_id: str, limit: int) -> int:
    """Forgets children that are done, with ids below `before_id`."""
    old = select(_S.id).where(_S.id < before_id, _S.state == int(SpawnState.DONE)).limit(limit)
    return conn.execute(delete(SPAWN).where(_S.id.in_(old))).rowcount


def _children(conn: Connection, where: object) -> Sequence[RowMapping]:
    rows = conn.execute(
        select(_S.id, _S.run, _S.session, _S.message_id).where(where, _S.state < literal_column("3", Integer))  # type: ignore[arg-type]
    )
    return rows.mappings().all()


def _stored(row: RowMapping, *, duplicate: bool = False) -> StoredSpawn:
    return StoredSpawn(
        open=OpenSpawn(
            id=row["id"],
            run=row["run"],
            message_id=row["message_id"] or "",
            session=row["session"],
            parent=row["parent"] or "",
            announce=bool(row["announce"]),
            cleanup=Cleanup(row["cleanup"]),
        ),
        state=SpawnState(row["state"]),
        created=bool(row["created"]),
        depth=row["depth"],
        sender=row["sender"],
        spawn=bytes(row["spawn"]),
        duplicate=duplicate,
    )
