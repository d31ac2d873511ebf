"""Memories one by one: found, added, changed and removed together with their tags, versions and index entries."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from memory_service.domain.errors import MemoryNotFound, VersionNotFound
from memory_service.domain.memory import KEPT_VERSIONS, Memory, VectorState, touch
from memory_service.models import MEMORY, MEMORY_TAG, MEMORY_VERSION
from memory_service.store.codec import (
    Row,
    Stored,
    memory_from_row,
    memory_to_row,
    micros_or_none,
    version_from_row,
    version_to_row,
)
from memory_service.store.fulltext import Entry, add_entries, remove_entries
from memory_service.store.rows import add_rows, rows_of_keys
from memory_service.store.transaction import Namespace, Transaction, read_namespace
from memory_service.store.wiping import wiping

_BATCH = 500

_touch = (
    update(MEMORY)
    .where(MEMORY.c.pk == bindparam("of_memory"))
    .values(
        use_count=bindparam("to_use_count"), use_time=bindparam("to_use_time"), expire_time=bindparam("to_expire_time")
    )
)


@dataclass(frozen=True, slots=True)
class MemoryRef:
    """A memory by its two ids."""

    bot: str
    id: str

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/memories/{self.id}"


def batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists as long as a statement may take."""
    listed = list(values)
    return (listed[start : start + _BATCH] for start in range(0, len(listed), _BATCH))


def read_memory(conn: Connection, ref: MemoryRef, now: datetime) -> Stored:
    """For reading only."""
    found = find_memory(conn, read_namespace(conn, ref.bot), ref)
    if found is None or found.memory.is_expired(now):
        raise MemoryNotFound(ref.name)
    return found


def open_memory(tx: Transaction, ref: MemoryRef) -> tuple[Namespace, Stored]:
    """The memory and its namespace, to be changed."""
    namespace = tx.find(ref.bot)
    found = None if namespace is None else find_memory(tx.conn, namespace, ref)
    if namespace is None or found is None or found.memory.is_expired(tx.now):
        raise MemoryNotFound(ref.name)
    return namespace, found


def find_memory(conn: Connection, namespace: Namespace, ref: MemoryRef) -> Stored | None:
    """Also an expired one."""
    query = select(MEMORY).where(MEMORY.c.namespace == namespace.key, MEMORY.c.memory_id == ref.id)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else memory_from_row(row, ref.bot)


def load_memories(conn: Connection, keys: Sequence[int], bot: str) -> dict[int, Memory]:
    """Those that exist, by key."""
    found: dict[int, Memory] = {}
    for some in batches(keys):
        found.update((row["pk"], memory_from_row(row, bot).memory) for row in rows_of_keys(conn, some))
    return found


def add_memories(tx: Transaction, namespace: Namespace, memories: Sequence[Memory]) -> None:
    if not memories:
        return
    entries = {memory.id: Entry(memory.content) for memory in memories}
    rows = [{"namespace": namespace.key, **memory_to_row(memory, entries[memory.id].length)} for memory in memories]
    keys = add_rows(tx.conn, rows)
    _add_tags(tx.conn, ((keys[memory.id], memory) for memory in memories))
    add_entries(tx.conn, namespace, [(keys[memory.id], entries[memory.id]) for memory in memories])
    tx.mark_changed(namespace)
    namespace.live_count += len(memories)
    namespace.word_count += sum(entry.length for entry in entries.values())


def save_memory(tx: Transaction, namespace: Namespace, before: Stored, after: Memory) -> Memory:
    """Writes the next version of a memory and keeps the present one among the earlier."""
    if after is before.memory:
        return after
    was, conn, key = before.memory, tx.conn, before.key
    conn.execute(insert(MEMORY_VERSION), version_to_row(key, was))
    conn.execute(
        delete(MEMORY_VERSION).where(
            MEMORY_VERSION.c.memory == key, MEMORY_VERSION.c.version <= after.version - KEPT_VERSIONS
        )
    )
    word_count = _reindex(tx, namespace, before, after)
    if after.is_deleted or (was.content.text, was.content.context) != (after.content.text, after.content.context):
        after = replace(after, vector_state=VectorState.PENDING)  # its vector went with its postings
    conn.execute(update(MEMORY).where(MEMORY.c.pk == key).values(memory_to_row(after, word_count)))
    if was.content.tags != after.content.tags:
        conn.execute(delete(MEMORY_TAG).where(MEMORY_TAG.c.memory == key))
        _add_tags(conn, [(key, after)])
    namespace.live_count += was.is_deleted - after.is_deleted
    namespace.deleted_count += after.is_deleted - was.is_deleted
    tx.mark_changed(namespace)
    return after


def save_touched(tx: Transaction, namespace: Namespace, touched: Sequence[Stored]) -> None:
    """Writes the use and expiry of memories; neither is a new version."""
    if not touched:
        return
    rows = [
        {
            "of_memory": stored.key,
            "to_use_count": stored.memory.use_count,
            "to_use_time": micros_or_none(stored.memory.use_time),
            "to_expire_time": micros_or_none(stored.memory.content.expire_time),
        }
        for stored in touched
    ]
    tx.conn.execute(_touch, rows)
    tx.mark_changed(namespace)


def record_use(tx: Transaction, bot: str, keys: Sequence[int]) -> None:
    """Counts memories as used, those of them that still are there."""
    namespace = tx.find(bot)
    if namespace is None:
        return
    for some in batches(keys):
        query = select(MEMORY).where(MEMORY.c.namespace == namespace.key, MEMORY.c.pk.in_(some))
        found = [memory_from_row(row, bot) for row in tx.conn.execute(query).mappings()]
        used = [
            Stored(each.key, touch(each.memory, each.memory.content.expire_time, tx.now), each.word_count)
            for each in found
        ]
        save_touched(tx, namespace, used)


def purge_memories(tx: Transaction, namespace: Namespace, gone: Sequence[Stored]) -> None:
    """Removes memories with everything that is kept of them."""
    for some in batches(gone):
        keys = [stored.key for stored in some]
        with wiping(tx.conn):
            remove_entries(tx.conn, keys)
            _delete_of(tx.conn, MEMORY_TAG, keys)
            _delete_of(tx.conn, MEMORY_VERSION, keys)
            tx.conn.execute(delete(MEMORY).where(MEMORY.c.pk.in_(keys)))
    if gone:
        deleted = sum(stored.memory.is_deleted for stored in gone)
        namespace.deleted_count -= deleted
        namespace.live_count -= len(gone) - deleted
        namespace.word_count -= sum(stored.word_count for stored in gone if not stored.memory.is_deleted)
        tx.mark_changed(namespace)


def find_version(conn: Connection, stored: Stored, version: int) -> Memory | None:
    """The memory as it was at a version, if that is kept."""
    if version == stored.memory.version:
        return stored.memory
    query = select(MEMORY_VERSION).where(MEMORY_VERSION.c.memory == stored.key, MEMORY_VERSION.c.version == version)
    row: Row | None = conn.execute(query).mappings().one_or_none()
    return None if row is None else version_from_row(row, stored.memory)


def get_version(conn: Connection, stored: Stored, version: int) -> Memory:
    found = find_version(conn, stored, version)
    if found is None:
        raise VersionNotFound(stored.memory.name, version)
    return found


def _reindex(tx: Transaction, namespace: Namespace, before: Stored, after: Memory) -> int:
    """Makes the index follow a change; returns how many words the memory counts."""
    was = before.memory
    texts_same = (was.content.text, was.content.context) == (after.content.text, after.content.context)
    if texts_same and was.is_deleted == after.is_deleted:
        return before.word_count
    entry = Entry(after.content)
    if not was.is_deleted:
        remove_entries(tx.conn, [before.key])
        namespace.word_count -= before.word_count
    if not after.is_deleted:
        add_entries(tx.conn, namespace, [(before.key, entry)])
        namespace.word_count += entry.length
    return entry.length


def _add_tags(conn: Connection, memories: Iterable[tuple[int, Memory]]) -> None:
    rows = [{"memory": key, "tag": tag} for key, memory in memories for tag in memory.content.tags]
    if rows:
        conn.execute(insert(MEMORY_TAG), rows)


def _delete_of(conn: Connection, table: Table, keys: Sequence[int]) -> None:
    conn.execute(delete(table).where(table.c.memory.in_(keys)))
