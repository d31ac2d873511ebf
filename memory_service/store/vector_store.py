"""Vectors for those who make them: what waits, which set they go into, and storing them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from memory_service.domain.embedder import Model, Shape, VectorSet
from memory_service.store import vectors
from memory_service.store.transaction import Transaction, read_namespace
from memory_service.store.transactions import Transactions
from memory_service.store.vectors import Embedded, Unembedded, VectorStats, engine_form


class VectorStore:
    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._engine = transactions.database.engine_name

    async def begin(self) -> None:
        """At the start of the process, before any search."""
        if self._engine == "sqlite":
            await self._transactions.write(lambda tx: vectors.forget_trail(tx.conn))

    async def find_backlog(self, usable: Collection[str], limit: int) -> list[Unembedded]:
        """Memories without a vector, of namespaces whose model has one of the `usable` fingerprints or that have none
        yet."""
        return await self._transactions.read(lambda conn: vectors.find_backlog(conn, usable, limit))

    async def with_turns_before(self, memories: Sequence[Unembedded]) -> list[Unembedded]:
        before = await self._transactions.read(lambda conn: vectors.turns_before(conn, [each.key for each in memories]))
        return [replace(each, before=before.get(each.key, "")) for each in memories]

    async def ensure_serving(self, bot: str, model: Model) -> VectorSet | None:
        """The set that serves a bot; made for the model when there is none, and None when the bot has no namespace.

        Raises:
            NamespaceErasing
        """

        serving = await self._transactions.read(lambda conn: _serving(conn, bot))
        if serving is not None:
            return serving

        def write(tx: Transaction) -> VectorSet | None:
            namespace = tx.find(bot)
            if namespace is None:
                return None
            serving = vectors.serving_set(tx.conn, namespace.key)
            return serving or vectors.add_set(tx, namespace, model, Shape.NOTES, serving=True)

        return await self._transactions.write(write)

    async def save(self, bot: str, made: VectorSet, memories: Sequence[Unembedded], rows: Sequence[Any]) -> int:
        """Stores the vectors of memories of one bot, unless the set is no more; returns how many were stored.

        Raises:
            NamespaceErasing
        """
        embedded = [
            Embedded(memory.key, memory.text_key, None if row is None else engine_form(self._engine, row))
            for memory, row in zip(memories, rows, strict=True)
        ]

        def write(tx: Transaction) -> int:
            if tx.find(bot) is None:
                return 0
            current = vectors.get_set(tx.conn, made.key)
            return 0 if current is None else vectors.save_vectors(tx, current, embedded)

        return await self._transactions.write(write)

    async def stats(self, bot: str | None) -> VectorStats:
        return await self._transactions.read(lambda conn: vectors.read_vector_stats(conn, bot))

    async def count_backlog(self) -> int:
        return await self._transactions.read(vectors.count_backlog)


def _serving(conn: Connection, bot: str) -> VectorSet | None:
    return vectors.serving_set(conn, read_namespace(conn, bot).key)
