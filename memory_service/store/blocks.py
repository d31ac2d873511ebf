"""Blocks and their versions."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from memory_service.domain import block as rules
from memory_service.domain.block import MAX_BLOCKS, Block, BlockContent, BlockPatch
from memory_service.domain.errors import BlockLimitReached, BlockNotFound, EtagMismatch, VersionNotFound
from memory_service.domain.memory import KEPT_VERSIONS, ChangeKind
from memory_service.models import BLOCK, BLOCK_VERSION
from memory_service.store.codec import dump, micros, moment
from memory_service.store.lists import Page, Position
from memory_service.store.transaction import Namespace, Transaction, read_namespace


def read_block(conn: Connection, bot: str, block_id: str, version: int = 0) -> Block:
    """The block, or as it was at a version."""
    namespace = read_namespace(conn, bot)
    block = find_block(conn, namespace, bot, block_id)
    if block is None:
        raise BlockNotFound(_name(bot, block_id))
    found = block if version in (0, block.version) else find_block_version(conn, namespace, block, version)
    if found is None:
        raise VersionNotFound(block.name, version)
    return found


def find_block(conn: Connection, namespace: Namespace, bot: str, block_id: str) -> Block | None:
    query = select(BLOCK).where(BLOCK.c.namespace == namespace.key, BLOCK.c.block_id == block_id)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else _from_row(row, bot)


def find_block_version(conn: Connection, namespace: Namespace, present: Block, version: int) -> Block | None:
    query = select(BLOCK_VERSION).where(*_versions_of(namespace, present.id), BLOCK_VERSION.c.version == version)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else block_version_from_row(row, present)


def read_blocks(conn: Connection, namespace: Namespace, limit: int | None = None, after: Position = ()) -> list[Block]:
    """In their order; `after` is the place of the last one that is not wanted."""
    query = select(BLOCK).where(BLOCK.c.namespace == namespace.key)
    if after:
        position, block_id = after
        query = query.where(
            or_(BLOCK.c.position > position, and_(BLOCK.c.position == position, BLOCK.c.block_id > block_id))
        )
    rows = conn.execute(query.order_by(BLOCK.c.position, BLOCK.c.block_id).limit(limit)).mappings()
    return [_from_row(row, namespace.bot) for row in rows]


def list_block_versions(conn: Connection, bot: str, block_id: str, size: int, after: Position) -> Page[Block]:
    """The newest first, the block as it is before all others."""
    present = read_block(conn, bot, block_id)
    namespace = read_namespace(conn, bot)
    found = [] if after else [present]
    query = select(BLOCK_VERSION).where(*_versions_of(namespace, block_id))
    if after:
        query = query.where(BLOCK_VERSION.c.version < after[0])
    query = query.order_by(BLOCK_VERSION.c.version.desc()).limit(size + 1)
    found.extend(block_version_from_row(row, present) for row in conn.execute(query).mappings())
    place = (found[size - 1].version,) if len(found) > size else ()
    return Page(tuple(found[:size]), place, namespace.revision)


def put_block(
    tx: Transaction,
    bot: str,
    block_id: str,
    patch: BlockPatch,
    *,
    whole: BlockPatch,
    etag: str,
    must_be_new: bool,
    must_exist: bool,
    trusted: bool,
    by: str,
) -> tuple[Block, bool]:
    """The block as stored, and whether it is new. `patch` changes one that exists, `whole` makes a new one."""
    namespace = tx.ensure(bot)
    before = find_block(tx.conn, namespace, bot, block_id)
    if before is None:
        if must_exist:
            raise BlockNotFound(_name(bot, block_id))
        if etag:
            raise EtagMismatch(_name(bot, block_id), etag)
        return _create(tx, namespace, block_id, whole, trusted=trusted, by=by), True
    if must_be_new:
        raise EtagMismatch(before.name, etag)
    rules.check_etag(before, etag)
    content = patch.applied_to(before.content)
    rules.check_writable(before.name, before.content, content, trusted=trusted)
    after = rules.put(before, content, by, tx.now)
    if after is not before:
        save_block(tx, namespace, before, after)
    return after, False


def delete_block(tx: Transaction, bot: str, block_id: str, etag: str, *, trusted: bool) -> Block:
    """Removes the block and its versions; returns it as it was."""
    namespace = tx.find(bot)
    block = None if namespace is None else find_block(tx.conn, namespace, bot, block_id)
    if namespace is None or block is None:
        raise BlockNotFound(_name(bot, block_id))
    rules.check_etag(block, etag)
    rules.check_writable(block.name, block.content, None, trusted=trusted)
    tx.conn.execute(delete(BLOCK_VERSION).where(*_versions_of(namespace, block_id)))
    tx.conn.execute(delete(BLOCK).where(BLOCK.c.namespace == namespace.key, BLOCK.c.block_id == block_id))
    tx.mark_changed(namespace)
    return block


def record_block(block: Block) -> list[Any]:
    """What the request ledger keeps of a block in an answer."""
    return [block.bot, block.id, block.uid, block.version, micros(block.create_time)]


def recall_block(tx: Transaction, record: list[Any]) -> Block:
    """The block as an answer showed it; without content when it was removed since."""
    bot, block_id, uid, version, create_time = record
    namespace = tx.find(bot)
    block = None if namespace is None else find_block(tx.conn, namespace, bot, block_id)
    if namespace is None or block is None or block.uid != uid:
        time = moment(create_time)
        return Block(bot, block_id, uid, BlockContent(), time, time, version)
    if block.version == version:
        return block
    return find_block_version(tx.conn, namespace, block, version) or block


def _create(
    tx: Transaction, namespace: Namespace, block_id: str, patch: BlockPatch, *, trusted: bool, by: str
) -> Block:
    name = _name(namespace.bot, block_id)
    content = patch.applied_to(BlockContent())
    rules.check_writable(name, BlockContent(), content, trusted=trusted)
    rules.check_length(name, content)
    block = Block(namespace.bot, block_id, tx.new_id(), content, tx.now, tx.now, principal=by)
    if not add_block(tx, namespace, block, MAX_BLOCKS):
        raise BlockLimitReached(namespace.bot, MAX_BLOCKS)
    return block


def add_block(tx: Transaction, namespace: Namespace, block: Block, limit: int) -> bool:
    """Stores a new block; False when there are as many as there may be."""
    count: int = tx.conn.execute(select(func.count()).where(BLOCK.c.namespace == namespace.key)).scalar_one()
    if count >= limit:
        return False
    tx.conn.execute(insert(BLOCK), {"namespace": namespace.key, **block_to_row(block)})
    tx.mark_changed(namespace)
    return True


def save_block(tx: Transaction, namespace: Namespace, before: Block, after: Block) -> None:
    kept = block_to_row(before)
    row = {name: kept[name] for name in ("block_id", "version", "change", "principal", "update_time", "content")}
    tx.conn.execute(insert(BLOCK_VERSION), {"namespace": namespace.key, **row})
    tx.conn.execute(
        delete(BLOCK_VERSION).where(
            *_versions_of(namespace, after.id), BLOCK_VERSION.c.version <= after.version - KEPT_VERSIONS
        )
    )
    mine = (BLOCK.c.namespace == namespace.key, BLOCK.c.block_id == after.id)
    tx.conn.execute(update(BLOCK).where(*mine).values(block_to_row(after)))
    tx.mark_changed(namespace)


def _versions_of(namespace: Namespace, block_id: str) -> tuple[Any, ...]:
    return BLOCK_VERSION.c.namespace == namespace.key, BLOCK_VERSION.c.block_id == block_id


def _name(bot: str, block_id: str) -> str:
    return f"bots/{bot}/blocks/{block_id}"


def block_to_row(block: Block) -> dict[str, Any]:
    return {
        "block_id": block.id,
        "uid": block.uid,
        "position": block.content.order,
        "content": dump(asdict(block.content)),
        "version": block.version,
        "change": int(block.change),
        "principal": block.principal,
        "create_time": micros(block.create_time),
        "update_time": micros(block.update_time),
    }


def _from_row(row: Mapping[Any, Any], bot: str) -> Block:
    return Block(
        bot=bot,
        id=row["block_id"],
        uid=row["uid"],
        content=BlockContent(**json.loads(row["content"])),
        create_time=moment(row["create_time"]),
        update_time=moment(row["update_time"]),
        version=row["version"],
        change=ChangeKind(row["change"]),
        principal=row["principal"],
    )


def block_version_from_row(row: Mapping[Any, Any], present: Block) -> Block:
    return replace(
        present,
        content=BlockContent(**json.loads(row["content"])),
        version=row["version"],
        change=ChangeKind(row["change"]),
        principal=row["principal"],
        update_time=moment(row["update_time"]),
    )
