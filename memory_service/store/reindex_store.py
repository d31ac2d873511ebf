"""Making a bot's vectors and postings anew, in pieces that each are one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select, update

from memory_service.domain.embedder import Model, Shape, VectorSet
from memory_service.domain.errors import OperationInProgress
from memory_service.domain.operation import Operation, OperationKind
from memory_service.models import MEMORY
from memory_service.store import operations, vectors
from memory_service.store.codec import memory_from_row
from memory_service.store.fulltext import Entry, renew_entries
from memory_service.store.ledger import Ticket
from memory_service.store.operation_store import recall_operation, record_operation
from memory_service.store.transaction import Transaction
from memory_service.store.transactions import Transactions
from memory_service.store.vectors import Embedded, Unembedded, engine_form

_TEXTS_AT_ONCE = 200


class ReindexStore:
    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._engine = transactions.database.engine_name

    async def start(self, bot: str, by: str, ticket: Ticket, arguments: Mapping[str, Any]) -> Operation:
        """The operation, on record.

        Raises:
            OperationInProgress: another one works on the bot's memory.
        """

        def write(tx: Transaction) -> Operation:
            namespace = tx.ensure(bot)
            for other in operations.find_unfinished(tx.conn, bot):
                raise OperationInProgress(other.name, other.kind.name)
            return operations.add_operation(
                tx, bot, OperationKind.REINDEX, by, arguments, total_count=namespace.live_count
            )

        return await self._transactions.once(write, ticket, record_operation, recall_operation)

    async def begin(self, operation: Operation, model: Model, shape: Shape | None) -> Operation:
        """Makes the new set. Without a shape it has that of the set that serves."""

        def write(tx: Transaction) -> Operation:
            namespace = tx.ensure(operation.bot)
            serving = vectors.serving_set(tx.conn, namespace.key)
            wanted = shape or (serving.shape if serving else Shape.NOTES)
            made = vectors.add_set(tx, namespace, model, wanted, serving=False)
            progress = {
                "set": made.key,
                "after": 0,
                "failed": 0,
                "old": asdict(serving.model) if serving else None,
                "phase": "vectors",
            }
            return operations.save_progress(
                tx, operation, done_count=0, total_count=namespace.live_count, phase="vectors", progress=progress
            )

        return await self._transactions.write(write)

    async def find_unmade(self, operation: Operation, limit: int) -> tuple[VectorSet | None, list[Unembedded]]:
        """The set in the making and the next memories for it."""

        def read(conn: Connection) -> tuple[VectorSet | None, list[Unembedded]]:
            made = vectors.get_set(conn, int(operation.progress["set"]))
            if made is None:
                return None, []
            return made, vectors.find_unmade(conn, made, int(operation.progress["after"]), limit)

        return await self._transactions.read(read)

    async def save(
        self, operation: Operation, made: VectorSet, memories: Sequence[Unembedded], rows: Sequence[Any]
    ) -> Operation:
        """A piece: these vectors are in the set, and the next piece begins after them."""
        embedded = [
            Embedded(memory.key, memory.text_key, None if row is None else engine_form(self._engine, row))
            for memory, row in zip(memories, rows, strict=True)
        ]

        def write(tx: Transaction) -> Operation:
            namespace = tx.ensure(operation.bot)
            vectors.save_vectors(tx, made, embedded)
            done = operation.done_count + len(memories)
            failed = int(operation.progress["failed"]) + sum(row is None for row in rows)
            progress = {**operation.progress, "after": memories[-1].key, "failed": failed}
            total = max(done, namespace.live_count)
            return operations.save_progress(
                tx, operation, done_count=done, total_count=total, phase="vectors", progress=progress
            )

        return await self._transactions.write(write)

    async def take_over(self, operation: Operation, made: VectorSet) -> Operation:
        """The new set serves. Memories that came meanwhile wait for a vector like any others."""

        def write(tx: Transaction) -> Operation:
            vectors.take_over(tx, tx.ensure(operation.bot), made)
            if operation.arguments.get("include_text"):
                progress = {**operation.progress, "phase": "text", "after": 0}
                return operations.save_progress(
                    tx,
                    operation,
                    done_count=operation.done_count,
                    total_count=operation.total_count,
                    phase="text",
                    progress=progress,
                )
            return _succeed(tx, operation, made)

        return await self._transactions.write(write)

    async def renew_texts(self, operation: Operation) -> Operation:
        """A piece: the next postings are made anew; after the last the operation has succeeded."""

        def write(tx: Transaction) -> Operation:
            namespace = tx.ensure(operation.bot)
            query = (
                select(MEMORY)
                .where(MEMORY.c.namespace == namespace.key, MEMORY.c.delete_time.is_(None))
                .where(MEMORY.c.pk > int(operation.progress["after"]))
                .order_by(MEMORY.c.pk)
                .limit(_TEXTS_AT_ONCE)
            )
            stored = [memory_from_row(row, operation.bot) for row in tx.conn.execute(query).mappings()]
            if not stored:
                made = vectors.get_set(tx.conn, int(operation.progress["set"]))
                return _succeed(tx, operation, made)
            entries = [(each.key, Entry(each.memory.content)) for each in stored]
            renew_entries(tx.conn, namespace, entries)
            for before, (key, entry) in zip(stored, entries, strict=True):
                if before.word_count != entry.length:
                    tx.conn.execute(update(MEMORY).where(MEMORY.c.pk == key).values(word_count=entry.length))
                    namespace.word_count += entry.length - before.word_count
            tx.mark_changed(namespace)
            return operations.save_progress(
                tx,
                operation,
                done_count=operation.done_count,
                total_count=operation.total_count,
                phase="text",
                progress={**operation.progress, "after": stored[-1].key},
            )

        return await self._transactions.write(write)


def undo_reindex(tx: Transaction, operation: Operation) -> None:
    """The set in the making is dropped; the one that serves was never touched."""
    key = operation.progress.get("set")
    made = None if key is None else vectors.get_set(tx.conn, int(key))
    if made is not None and not made.serving:
        vectors.drop_set(tx, made)


def _succeed(tx: Transaction, operation: Operation, made: VectorSet | None) -> Operation:
    progress = operation.progress
    result = {
        "embedded_count": operation.done_count - int(progress["failed"]),
        "failed_count": int(progress["failed"]),
        "old_embedder": progress["old"],
        "new_embedder": None if made is None else asdict(made.model),
    }
    return operations.succeed(tx, operation, result)
