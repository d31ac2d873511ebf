"""How much is remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, LargeBinary, cast, func, select

from memory_service.domain.memory import Kind, VectorState
from memory_service.models import BLOCK, MEMORY, MEMORY_VERSION, NAMESPACE
from memory_service.store.codec import moment_or_none
from memory_service.store.grants import count_in_force
from memory_service.store.operations import find_unfinished
from memory_service.store.selecting import unexpired


@dataclass(frozen=True, slots=True)
class Stats:
    """`kinds` counts living memories, `grant_count` grants in force; `operation` names the one at work, if any.

    `revision` grows with every change of what was counted.
    """

    kinds: Mapping[Kind, int]
    deleted_count: int
    block_count: int
    version_count: int
    bot_count: int
    text_bytes: int
    backlog_count: int
    backlog_time: datetime | None
    grant_count: int
    operation: str
    revision: int


def read_stats(conn: Connection, bot: str | None, now: datetime) -> Stats:
    """The figures of one bot, or of all with None."""
    namespaces = select(NAMESPACE.c.pk).where(NAMESPACE.c.erasing == "")
    if bot is not None:
        namespaces = namespaces.where(NAMESPACE.c.bot == bot)
    mine = MEMORY.c.namespace.in_(namespaces)
    living = (mine, unexpired(now), MEMORY.c.delete_time.is_(None))
    rows = conn.execute(
        select(MEMORY.c.kind, func.count(), func.sum(_size(conn, MEMORY.c.text) + _size(conn, MEMORY.c.context)))
        .where(*living)
        .group_by(MEMORY.c.kind)
        .order_by(MEMORY.c.kind)
    ).all()
    backlog = conn.execute(
        select(func.count(), func.min(MEMORY.c.create_time)).where(
            *living, MEMORY.c.vector_state == VectorState.PENDING
        )
    ).one()
    revisions = select(func.coalesce(func.sum(NAMESPACE.c.revision), 0)).where(NAMESPACE.c.pk.in_(namespaces))
    return Stats(
        kinds={Kind(kind): count for kind, count, _ in rows},
        deleted_count=_count(conn, mine, unexpired(now), MEMORY.c.delete_time.is_not(None)),
        block_count=_count(conn, BLOCK.c.namespace.in_(namespaces)),
        version_count=_count(conn, MEMORY_VERSION.c.memory.in_(select(MEMORY.c.pk).where(mine))),
        bot_count=conn.execute(select(func.count(MEMORY.c.namespace.distinct())).where(*living)).scalar_one(),
        text_bytes=int(sum(size for _, _, size in rows)),
        backlog_count=backlog[0],
        backlog_time=moment_or_none(backlog[1]),
        grant_count=count_in_force(conn, bot, now),
        operation=_operation(conn, bot),
        revision=int(conn.execute(revisions).scalar_one()),
    )


def _operation(conn: Connection, bot: str | None) -> str:
    """Of the bot; over the whole service the oldest."""
    unfinished = find_unfinished(conn, bot)
    return unfinished[0].name if unfinished else ""


def _count(conn: Connection, *conditions: ColumnElement[bool]) -> int:
    count: int = conn.execute(select(func.count()).where(*conditions)).scalar_one()
    return count


def _size(conn: Connection, text: ColumnElement[str]) -> ColumnElement[int]:
    """In bytes of UTF-8."""
    if conn.dialect.name == "sqlite":
        return func.length(cast(text, LargeBinary))
    return func.octet_length(text)
