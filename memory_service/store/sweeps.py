"""Purging what nobody can get any more: expired memories, and deleted ones past their retention."""

from sqlalchemy import ColumnElement, and_, or_, select

from memory_service.models import MEMORY, NAMESPACE
from memory_service.store.codec import memory_from_row, micros
from memory_service.store.memories import purge_memories
from memory_service.store.transaction import Transaction

_BATCH = 500


def sweep_some(tx: Transaction) -> int:
    """Purges memories of one namespace, so many that other writes need not wait long; 0 when nothing is due."""
    due = _due(tx)
    bot = tx.conn.execute(
        select(NAMESPACE.c.bot)
        .join(MEMORY, MEMORY.c.namespace == NAMESPACE.c.pk)
        .where(due, NAMESPACE.c.erasing == "")
        .limit(1)
    ).scalar_one_or_none()
    namespace = None if bot is None else tx.find(bot)
    if bot is None or namespace is None:
        return 0
    query = select(MEMORY).where(MEMORY.c.namespace == namespace.key, due).limit(_BATCH)
    gone = [memory_from_row(row, bot) for row in tx.conn.execute(query).mappings()]
    purge_memories(tx, namespace, gone)
    return len(gone)


def _due(tx: Transaction) -> ColumnElement[bool]:
    now = micros(tx.now)
    return or_(
        and_(MEMORY.c.purge_time.is_not(None), MEMORY.c.purge_time <= now),
        and_(MEMORY.c.expire_time.is_not(None), MEMORY.c.expire_time <= now, MEMORY.c.pinned.is_(False)),
    )
