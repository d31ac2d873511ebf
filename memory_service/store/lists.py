"""Pages of memories and of versions, each read from one state of the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from memory_service.domain.memory import Memory
from memory_service.domain.selection import MemoryFilter, meets
from memory_service.models import MEMORY, MEMORY_VERSION
from memory_service.store.codec import memory_from_row, version_from_row
from memory_service.store.memories import MemoryRef, read_memory
from memory_service.store.selecting import conditions_of
from memory_service.store.transaction import read_namespace

T = TypeVar("T")
Position = Sequence[str | int]

# A memory that was never used comes before all that were; one that never expires after all that do.
_NEVER_USED = 0
_NEVER_EXPIRES = 1 << 62

ORDERS: Mapping[str, ColumnElement[Any]] = {
    "create_time": MEMORY.c.create_time,
    "update_time": MEMORY.c.update_time,
    "event_time": MEMORY.c.happen_time,
    "use_time": func.coalesce(MEMORY.c.use_time, _NEVER_USED),
    "expire_time": func.coalesce(MEMORY.c.expire_time, _NEVER_EXPIRES),
    "importance": MEMORY.c.importance,
    "name": MEMORY.c.memory_id,
}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """`order` is one of ORDERS; `after` is the place where the last page ended, empty for the first one."""

    selected: MemoryFilter
    order: str
    descending: bool
    size: int
    after: Position = ()
    show_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the place after this page, empty on the last one; `revision` is the namespace's."""

    items: tuple[T, ...]
    next: tuple[str | int, ...]
    revision: int


def list_memories(conn: Connection, bot: str, query: ListQuery, now: datetime) -> Page[Memory]:
    namespace = read_namespace(conn, bot)
    key = ORDERS[query.order]
    base = (
        select(MEMORY, key.label("sort_key"))
        .where(
            MEMORY.c.namespace == namespace.key,
            *conditions_of(query.selected, now, show_deleted=query.show_deleted),
        )
        .order_by(key.desc() if query.descending else key.asc(), MEMORY.c.memory_id)
        .limit(query.size + 1)
    )
    found: list[tuple[Memory, tuple[str | int, ...]]] = []
    place: Position = query.after
    while len(found) <= query.size:
        rows = conn.execute(base.where(_beyond(key, query, place)) if place else base).mappings().all()
        for row in rows:
            if meets(query.selected.conditions, row["data"]):
                found.append((memory_from_row(row, bot).memory, _place(row, query)))
        if len(rows) <= query.size:
            break
        place = _place(rows[-1], query)
    memories = tuple(memory for memory, _ in found[: query.size])
    return Page(memories, found[query.size - 1][1] if len(found) > query.size else (), namespace.revision)


def list_versions(conn: Connection, ref: MemoryRef, size: int, after: Position, now: datetime) -> Page[Memory]:
    """The newest first, the memory as it is before all others."""
    stored = read_memory(conn, ref, now)
    found = [] if after else [stored.memory]
    query = select(MEMORY_VERSION).where(MEMORY_VERSION.c.memory == stored.key)
    if after:
        query = query.where(MEMORY_VERSION.c.version < after[0])
    query = query.order_by(MEMORY_VERSION.c.version.desc()).limit(size + 1)
    found.extend(version_from_row(row, stored.memory) for row in conn.execute(query).mappings())
    place = (found[size - 1].version,) if len(found) > size else ()
    return Page(tuple(found[:size]), place, read_namespace(conn, ref.bot).revision)


def _place(row: Mapping[Any, Any], query: ListQuery) -> tuple[str | int, ...]:
    # Page tokens hold texts and whole numbers; repr keeps every bit of a float.
    key = repr(row["sort_key"]) if query.order == "importance" else row["sort_key"]
    return key, row["memory_id"]


def _beyond(key: ColumnElement[Any], query: ListQuery, place: Position) -> ColumnElement[bool]:
    last_key, last_id = place
    value = float(last_key) if query.order == "importance" else last_key
    return or_(key < value if query.descending else key > value, and_(key == value, MEMORY.c.memory_id > last_id))
