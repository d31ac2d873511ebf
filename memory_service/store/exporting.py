"""Reading all that a bot remembers, page by page, each from another snapshot, as it was at one time.

What changed after that time is shown as it was, from its versions; what was put after it is left out. What was removed
for good meanwhile is missing, since it must not live on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from memory_service.domain.block import Block
from memory_service.domain.memory import Memory
from memory_service.domain.operation import OperationKind, OperationState
from memory_service.domain.portability import (
    BlockAtVersion,
    ExportOptions,
    Header,
    MemoryAtVersion,
    MemoryWithVector,
    Record,
    VectorKind,
    as_of,
    selects,
)
from memory_service.domain.selection import MemoryFilter
from memory_service.models import BLOCK, BLOCK_VERSION, GRANT, MEMORY, MEMORY_VERSION, OPERATION
from memory_service.store.blocks import block_version_from_row, read_blocks
from memory_service.store.codec import memory_from_row, micros, version_from_row
from memory_service.store.grants import grant_from_row
from memory_service.store.selecting import unexpired
from memory_service.store.transaction import Namespace, read_namespace
from memory_service.store.vectors import get_set, serving_set, vectors_of

_ROWS = 200
MAX_RECORDS = 1_000
_MAX_BYTES = 1 << 20
"""About how many bytes of text a page holds: one more memory with its versions may exceed it."""


@dataclass(frozen=True, slots=True)
class ExportPlace:
    """Where an export stands. `last_key` is of the last memory there was at `time`; `after` of the last one sent.

    `vector_set` is the set whose vectors are exported, 0 for none.
    `part` is 0 before the header, 1 before the blocks, 2 among the memories, 3 before the grants, 4 at the end.
    """

    time: datetime
    last_key: int
    total: int
    part: int = 0
    after: int = 0
    done: int = 0
    vector_set: int = 0


def begin_export(conn: Connection, bot: str, options: ExportOptions, now: datetime) -> ExportPlace:
    namespace = read_namespace(conn, bot)
    last_key: int = conn.execute(
        select(func.coalesce(func.max(MEMORY.c.pk), 0)).where(MEMORY.c.namespace == namespace.key)
    ).scalar_one()
    vectors = serving_set(conn, namespace.key) if options.vectors else None
    vector_set = 0 if vectors is None else vectors.key
    if options.selected == MemoryFilter():
        total = _count_all(conn, namespace, options, now)
        return ExportPlace(now, last_key, total, vector_set=vector_set)
    place = ExportPlace(now, last_key, total=0)
    while place.part < _END:
        _, place = read_page(conn, bot, options, place)
    return ExportPlace(now, last_key, total=place.done, vector_set=vector_set)


def read_page(
    conn: Connection, bot: str, options: ExportOptions, place: ExportPlace
) -> tuple[list[Record], ExportPlace]:
    """The next records, and the place after them."""
    namespace = read_namespace(conn, bot)
    records: list[Record] = []
    part, after = place.part, place.after
    if part == _HEADER:
        vectors = get_set(conn, place.vector_set) if place.vector_set else None
        kind = None if vectors is None else VectorKind(vectors.model, vectors.shape)
        records.append(Header(bot, place.time, kind))
        part = _BLOCKS
    elif part == _BLOCKS:
        after = _read_some_blocks(conn, namespace, options, place, records) if options.blocks else 0
        part = _BLOCKS if after else _MEMORIES
    elif part == _MEMORIES:
        after = _read_memories(conn, namespace, options, place, records)
        part = _MEMORIES if after else _GRANTS
    else:
        if options.grants:
            rows = conn.execute(select(GRANT).where(GRANT.c.bot == bot).order_by(GRANT.c.pk)).mappings()
            records.extend(grant for row in rows if (grant := grant_from_row(row)).create_time <= place.time)
        part = _END
    return records, replace(place, part=part, after=after, done=place.done + len(records))


def _count_all(conn: Connection, namespace: Namespace, options: ExportOptions, now: datetime) -> int:
    """How many records an export without a filter has."""
    mine = select(MEMORY.c.pk).where(MEMORY.c.namespace == namespace.key, unexpired(now))
    if not options.deleted:
        mine = mine.where(MEMORY.c.delete_time.is_(None))
    memories = _count(conn, mine)
    total = 1 + memories
    if options.versions:
        total += memories + _count(conn, select(MEMORY_VERSION.c.memory).where(MEMORY_VERSION.c.memory.in_(mine)))
    if options.blocks:
        blocks = _count(conn, select(BLOCK.c.block_id).where(BLOCK.c.namespace == namespace.key))
        total += blocks
        if options.versions:
            versions = select(BLOCK_VERSION.c.block_id).where(BLOCK_VERSION.c.namespace == namespace.key)
            total += blocks + _count(conn, versions)
    if options.grants:
        total += _count(conn, select(GRANT.c.pk).where(GRANT.c.bot == namespace.bot))
    return total


def _count(conn: Connection, rows: Select[Any]) -> int:
    count: int = conn.execute(select(func.count()).select_from(rows.subquery())).scalar_one()
    return count


def was_erased_since(conn: Connection, bot: str, time: datetime) -> bool:
    query = (
        select(func.count())
        .select_from(OPERATION)
        .where(
            OPERATION.c.bot == bot,
            OPERATION.c.kind == int(OperationKind.ERASE),
            OPERATION.c.state != int(OperationState.CANCELLED),
            OPERATION.c.create_time >= micros(time),
        )
    )
    return bool(conn.execute(query).scalar_one())


_HEADER, _BLOCKS, _MEMORIES, _GRANTS, _END = range(5)


def _read_memories(
    conn: Connection, namespace: Namespace, options: ExportOptions, place: ExportPlace, records: list[Record]
) -> int:
    """Adds the records of the next memories; returns the key of the last one looked at, 0 at the end."""
    query = (
        select(MEMORY)
        .where(MEMORY.c.namespace == namespace.key, MEMORY.c.pk > place.after, MEMORY.c.pk <= place.last_key)
        .order_by(MEMORY.c.pk)
        .limit(_ROWS)
    )
    size, after = 0, 0
    rows = conn.execute(query).mappings().all()
    # Empty when another set serves by now, which has taken the place of that one.
    vectors = vectors_of(conn, place.vector_set, [row["pk"] for row in rows]) if place.vector_set else {}
    for row in rows:
        stored = memory_from_row(row, namespace.bot)
        found = list(_memory_records(conn, stored.key, stored.memory, options, place.time))
        if found and found[0] is stored.memory and stored.key in vectors:
            found[0] = MemoryWithVector(stored.memory, vectors[stored.key])
            size += len(vectors[stored.key])
        records.extend(found)
        after = stored.key
        size += len(found) * (len(row["text"]) + len(row["context"]) + len(row["data"]))
        if size > _MAX_BYTES or len(records) > MAX_RECORDS // 2:
            break
    return after


def _read_some_blocks(
    conn: Connection, namespace: Namespace, options: ExportOptions, place: ExportPlace, records: list[Record]
) -> int:
    """Adds the records of the blocks made next, mostly one; returns when they were made, 0 at the end."""
    following = [block for block in read_blocks(conn, namespace) if place.after < micros(block.create_time)]
    if not following:
        return 0
    first = min(block.create_time for block in following)
    for block in following:
        if block.create_time == first:
            records.extend(_block_records(conn, namespace, block, options, place.time))
    return micros(first)


def _memory_records(
    conn: Connection, key: int, present: Memory, options: ExportOptions, time: datetime
) -> Iterator[Record]:
    earlier: dict[int, Memory] = {}
    if options.versions or present.update_time > time:
        query = select(MEMORY_VERSION).where(MEMORY_VERSION.c.memory == key)
        for row in conn.execute(query).mappings():
            earlier[row["version"]] = version_from_row(row, present)
    memory = as_of(present, earlier, time)
    if memory.is_expired(time) or (memory.is_deleted and not options.deleted) or not selects(options.selected, memory):
        return
    yield memory
    if options.versions:
        yield MemoryAtVersion(memory)  # who made it, and how, is told of versions only
        for version in sorted(earlier, reverse=True):
            if version < memory.version:
                yield MemoryAtVersion(earlier[version])


def _block_records(
    conn: Connection, namespace: Namespace, present: Block, options: ExportOptions, time: datetime
) -> Iterator[Record]:
    if present.create_time > time:
        return
    query = select(BLOCK_VERSION).where(
        BLOCK_VERSION.c.namespace == namespace.key, BLOCK_VERSION.c.block_id == present.id
    )
    rows = conn.execute(query.order_by(BLOCK_VERSION.c.version.desc())).mappings()
    all_of_it = [present, *(block_version_from_row(row, present) for row in rows)]
    then = [block for block in all_of_it if block.update_time <= time] or [present]
    yield then[0]
    if options.versions:
        yield from (BlockAtVersion(block) for block in then)
