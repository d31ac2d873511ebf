"""Erasing all that a bot remembers, in transactions so small that other bots' writes need not wait long.

The namespace is closed from the first transaction to the last: nothing is found in it and nothing written to it. What
will be removed is counted first, while it is all still there and can no longer change.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select, tuple_

from memory_service.domain.operation import Operation, OperationKind
from memory_service.models import (
    ACCESS,
    BLOCK,
    BLOCK_VERSION,
    GRANT,
    LEDGER,
    MEMORY,
    MEMORY_TAG,
    MEMORY_VECTOR,
    MEMORY_VERSION,
    VECTOR_SET,
)
from memory_service.store import operations
from memory_service.store.fulltext import remove_entries
from memory_service.store.operations import Undo
from memory_service.store.transaction import Namespace, Transaction
from memory_service.store.wiping import count_postings, wiping

_READ_AT_ONCE = 2_000
_REMOVE_AT_ONCE = 500
# What these answer is an operation, which outlives what it erases.
_KEPT_METHODS = ("EraseNamespace", "ReindexNamespace", "CancelOperation")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is to be removed. `digest` is over the sorted lines "name uid" of the memories and blocks."""

    memory_count: int
    version_count: int
    block_count: int
    grant_count: int
    access_count: int
    vector_count: int
    text_bytes: int
    digest: str

    @property
    def total(self) -> int:
        return self.memory_count + self.block_count + self.grant_count + self.access_count


def start_erasing(
    tx: Transaction, bot: str, by: str, arguments: Mapping[str, Any], undo: Mapping[OperationKind, Undo]
) -> Operation:
    """Closes the namespace and puts the erasure on record; one that is on record already is returned as it stands."""
    namespace = tx.ensure_erasing(bot)
    if namespace.erasing:
        return operations.read_operation(tx.conn, bot, namespace.erasing)
    for other in operations.find_unfinished(tx.conn, bot):
        operations.cancel(tx, other, undo[other.kind])
    total = namespace.size
    operation = operations.add_operation(tx, bot, OperationKind.ERASE, by, arguments, total_count=total)
    namespace.erasing = operation.id
    tx.mark_changed(namespace)
    return operation


def give_up_erasing(tx: Transaction, operation: Operation) -> None:
    """Opens the namespace again; only before anything was erased."""
    namespace = tx.find_erasing(operation.bot)
    if namespace is not None and namespace.erasing == operation.id:
        namespace.erasing = ""
        tx.mark_changed(namespace)


def take_inventory(
    conn: Connection, namespace_key: int, bot: str, *, keep_blocks: bool, keep_accesses: bool
) -> Inventory:
    digest = hashlib.sha256()
    blocks = [] if keep_blocks else _ids_of_blocks(conn, namespace_key)
    for block_id, uid in blocks:
        digest.update(f"bots/{bot}/blocks/{block_id} {uid}\n".encode())
    memories = text_bytes = 0
    for memory_id, uid, size in _memories_in_order(conn, namespace_key):
        digest.update(f"bots/{bot}/memories/{memory_id} {uid}\n".encode())
        memories += 1
        text_bytes += size
    mine = _keys_of(namespace_key)
    versions = _count(conn, MEMORY_VERSION, MEMORY_VERSION.c.memory.in_(mine))
    if not keep_blocks:
        versions += _count(conn, BLOCK_VERSION, BLOCK_VERSION.c.namespace == namespace_key)
    return Inventory(
        memory_count=memories,
        version_count=versions,
        block_count=len(blocks),
        grant_count=_count(conn, GRANT, GRANT.c.bot == bot),
        access_count=0 if keep_accesses else _count(conn, ACCESS, ACCESS.c.bot == bot),
        vector_count=_count(conn, MEMORY_VECTOR, MEMORY_VECTOR.c.memory.in_(mine)),
        text_bytes=text_bytes,
        digest=digest.hexdigest(),
    )


def erase_memories(tx: Transaction, namespace: Namespace) -> int:
    """Removes some memories with everything kept of them; returns how many, 0 when there are none left."""
    query = select(MEMORY.c.pk).where(MEMORY.c.namespace == namespace.key).limit(_REMOVE_AT_ONCE)
    keys = list(tx.conn.execute(query).scalars())
    with wiping(tx.conn):
        _remove(tx.conn, keys)
    return len(keys)


def erase_blocks(tx: Transaction, namespace: Namespace) -> int:
    """Removes all blocks, which are few; returns how many."""
    with wiping(tx.conn):
        tx.conn.execute(delete(BLOCK_VERSION).where(BLOCK_VERSION.c.namespace == namespace.key))
        return tx.conn.execute(delete(BLOCK).where(BLOCK.c.namespace == namespace.key)).rowcount


def erase_grants(tx: Transaction, bot: str) -> int:
    with wiping(tx.conn):
        return tx.conn.execute(delete(GRANT).where(GRANT.c.bot == bot)).rowcount


def erase_accesses(tx: Transaction, bot: str) -> int:
    """Removes some audit entries; returns how many, 0 when there are none left."""
    some = select(ACCESS.c.pk).where(ACCESS.c.bot == bot).limit(_REMOVE_AT_ONCE)
    keys = list(tx.conn.execute(some).scalars())
    with wiping(tx.conn):
        tx.conn.execute(delete(ACCESS).where(ACCESS.c.pk.in_(keys)))
    return len(keys)


def erase_vector_sets(tx: Transaction, namespace: Namespace) -> None:
    tx.conn.execute(delete(VECTOR_SET).where(VECTOR_SET.c.namespace == namespace.key))


def erase_requests(tx: Transaction, bot: str, after: list[str]) -> list[str]:
    """Removes what the request ledger keeps of answers about the bot's memory, among its next rows.

    Returns the place to go on from; empty at the end.
    """
    key = (LEDGER.c.principal, LEDGER.c.method, LEDGER.c.request_id)
    query = select(*key, LEDGER.c.response).where(LEDGER.c.method.not_in(_KEPT_METHODS))
    if after:
        query = query.where(tuple_(*key) > tuple_(*after))
    rows = tx.conn.execute(query.order_by(*key).limit(_READ_AT_ONCE)).all()
    for principal, method, request_id, response in rows:
        if _tells_of(bot, bytes(response)):
            tx.conn.execute(
                delete(LEDGER).where(
                    LEDGER.c.principal == principal, LEDGER.c.method == method, LEDGER.c.request_id == request_id
                )
            )
    return [*rows[-1][:3]] if len(rows) == _READ_AT_ONCE else []


def count_left(conn: Connection, namespace_key: int, bot: str, *, keep_blocks: bool, keep_accesses: bool) -> int:
    """How many rows, postings and vectors of the bot are left."""
    mine = _keys_of(namespace_key)
    left = _count(conn, MEMORY, MEMORY.c.namespace == namespace_key)
    left += _count(conn, GRANT, GRANT.c.bot == bot)
    left += _count(conn, VECTOR_SET, VECTOR_SET.c.namespace == namespace_key)
    left += _count(conn, MEMORY_VECTOR, MEMORY_VECTOR.c.memory.in_(mine))
    left += count_postings(conn, namespace_key)
    for table in (MEMORY_TAG, MEMORY_VERSION, MEMORY_VECTOR):
        # Of nobody's memory: what was forgotten when its memory went.
        left += _count(conn, table, table.c.memory.not_in(select(MEMORY.c.pk)))
    if not keep_blocks:
        left += _count(conn, BLOCK, BLOCK.c.namespace == namespace_key)
        left += _count(conn, BLOCK_VERSION, BLOCK_VERSION.c.namespace == namespace_key)
    if not keep_accesses:
        left += _count(conn, ACCESS, ACCESS.c.bot == bot)
    return left


def finish_erasing(
    tx: Transaction, operation: Operation, inventory: Mapping[str, Any], verify_time_us: int
) -> Operation:
    """Opens the namespace, which is empty now, and puts the certificate on record."""
    namespace = tx.find_erasing(operation.bot)
    assert namespace is not None
    certificate = {**inventory, "left_count": 0, "verify_time_us": verify_time_us}
    ended = operations.succeed(tx, operation, certificate)
    namespace.live_count = namespace.deleted_count = namespace.word_count = 0
    namespace.erasing = ""
    tx.mark_changed(namespace)
    return ended


def inventory_to_json(inventory: Inventory) -> dict[str, Any]:
    return asdict(inventory)


def _remove(conn: Connection, keys: list[int]) -> None:
    remove_entries(conn, keys)
    for table in (MEMORY_TAG, MEMORY_VERSION, MEMORY_VECTOR):
        conn.execute(delete(table).where(table.c.memory.in_(keys)))
    conn.execute(delete(MEMORY).where(MEMORY.c.pk.in_(keys)))


def _keys_of(namespace_key: int) -> Select[tuple[int]]:
    return select(MEMORY.c.pk).where(MEMORY.c.namespace == namespace_key)


def _ids_of_blocks(conn: Connection, namespace_key: int) -> list[tuple[str, str]]:
    query = select(BLOCK.c.block_id, BLOCK.c.uid).where(BLOCK.c.namespace == namespace_key).order_by(BLOCK.c.block_id)
    return [(row[0], row[1]) for row in conn.execute(query)]


def _memories_in_order(conn: Connection, namespace_key: int) -> Iterator[tuple[str, str, int]]:
    """Id, uid and bytes of text and context, a page at a time."""
    last = ""
    while True:
        query = (
            select(MEMORY.c.memory_id, MEMORY.c.uid, MEMORY.c.text, MEMORY.c.context)
            .where(MEMORY.c.namespace == namespace_key, MEMORY.c.memory_id > last)
            .order_by(MEMORY.c.memory_id)
            .limit(_READ_AT_ONCE)
        )
        rows = conn.execute(query).all()
        for memory_id, uid, body, context in rows:
            yield memory_id, uid, len(body.encode()) + len(context.encode())
        if len(rows) < _READ_AT_ONCE:
            return
        last = rows[-1][0]


def _count(conn: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    count: int = conn.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
    return count


def _tells_of(bot: str, response: bytes) -> bool:
    return bot.encode() in response and any(
        each == bot or each.startswith(f"bots/{bot}/") for each in _strings(json.loads(response))
    )


def _strings(value: object) -> Iterable[str]:
    """The first string of each list, which is a bot's id, and all strings of objects."""
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            yield value[0]
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for each in value.values():
            if isinstance(each, str):
                yield each
            yield from _strings(each)
