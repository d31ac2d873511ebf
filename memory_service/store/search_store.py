"""Searching: candidates of each scope from the engine's indexes, one ranking over all, and the page asked for."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.types import BigInteger

from chassis import direct_sql
from memory_service.domain.embedder import VectorSet
from memory_service.domain.errors import MemoryNotFound
from memory_service.domain.memory import VectorState
from memory_service.domain.ranking import Candidate, Ranked, Scales, contenders, in_order, pool, rank, scales_of
from memory_service.domain.search import Found, Hit, Scope, SearchQuery
from memory_service.models import MEMORY, MEMORY_VECTOR
from memory_service.store import memories, vectors
from memory_service.store.codec import Row, memory_from_row, micros
from memory_service.store.fulltext import is_due, post_due
from memory_service.store.grounds import Ground, Grounds
from memory_service.store.memories import MemoryRef, load_memories
from memory_service.store.rows import rows_of_keys
from memory_service.store.signals import MEMORY_OF_AN_ENTRY, Signals, Wanted
from memory_service.store.transaction import Namespace, Transaction, read_namespace
from memory_service.store.transactions import Transactions

if TYPE_CHECKING:
    from memory_service.index.cache import IndexCache

_FEW_SCOPES = 4
_FEW_ROWS = 64
"""So many memories are read whole before they are ranked; of more only what ranking needs, and then the page."""
_COLUMNS = "pk, memory_id, author, importance, update_time, happen_time"
_DETAILS_SQLITE = (
    f"SELECT {_COLUMNS} FROM memory "
    "WHERE pk IN (SELECT value FROM json_each(?)) AND delete_time IS NULL AND +namespace = ?"
)
_DETAILS = select(
    MEMORY.c.pk,
    MEMORY.c.memory_id,
    MEMORY.c.author,
    MEMORY.c.importance,
    MEMORY.c.update_time,
    MEMORY.c.happen_time,
).where(MEMORY.c.pk.in_(bindparam("keys", type_=BigInteger, expanding=True)), MEMORY.c.delete_time.is_(None))


@dataclass(frozen=True, slots=True)
class Probe:
    """The query as embedded for one scope; without a vector it is looked among by word alone."""

    vectors: VectorSet | None = None
    vector: Any = None
    named: tuple[str, ...] = ()


class SearchStore:
    """`cache_bytes` and `exact_limit` bound the indexes in memory, which only SQLite has."""

    def __init__(self, transactions: Transactions, *, cache_bytes: int, exact_limit: int) -> None:
        self._transactions = transactions
        self._grounds = Grounds(transactions)
        self._cache_bytes = cache_bytes
        self._exact_limit = exact_limit
        self._cache: IndexCache | None = None
        self._making = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """How much memory the indexes take."""
        return 0 if self._cache is None else self._cache.nbytes

    async def ground(self, scopes: Sequence[Scope], query: str) -> list[Ground]:
        """One for each scope; authors are those whom the query names."""
        return await self._grounds.read(scopes, query)

    async def search(self, scopes: Sequence[Scope], probes: Sequence[Probe], query: SearchQuery) -> Found:
        """A page of hits of all scopes together; there is a probe for each.

        Raises:
            MemoryNotFound: the memory to compare with is not there.
        """
        now = self._transactions.now()
        database = self._transactions.database
        # A thread and back takes as long as a whole search among a few thousand memories.
        if database.engine_name == "sqlite" and len(scopes) <= _FEW_SCOPES:
            at_once = await database.glance(lambda conn: self._search(conn, scopes, probes, query, now, at_once=True))
            if at_once is not None:
                return at_once
            if await database.glance(lambda conn: self._lacks_postings(conn, scopes)):
                await self._transactions.write(lambda tx: post_due(tx.conn))
        found = await self._transactions.read(lambda conn: self._search(conn, scopes, probes, query, now))
        assert found is not None
        return found

    async def vector_of(self, ref: MemoryRef) -> tuple[VectorSet | None, Any]:
        """The set that serves a memory's bot, and the memory's vector in it, each if there is one.

        Raises:
            MemoryNotFound
        """
        now = self._transactions.now()
        return await self._transactions.read(lambda conn: _vector_of(conn, ref, now))

    async def record_use(self, scope: Scope, hits: Sequence[Hit]) -> None:
        """Counts memories as used."""
        ids = [hit.memory.id for hit in hits]

        def write(tx: Transaction) -> None:
            namespace = tx.find(scope.bot)
            if namespace is not None:
                mine = select(MEMORY.c.pk).where(MEMORY.c.namespace == namespace.key, MEMORY.c.memory_id.in_(ids))
                memories.record_use(tx, scope.bot, list(tx.conn.execute(mine).scalars()))

        await self._transactions.write(write)

    def _search(
        self,
        conn: Connection,
        scopes: Sequence[Scope],
        probes: Sequence[Probe],
        query: SearchQuery,
        now: datetime,
        *,
        at_once: bool = False,
    ) -> Found | None:
        """None if it was to be done at once and would take too long."""
        size = pool(query.depth)
        places: list[tuple[int, Namespace, Signals]] = []
        revision = 0
        for number, (scope, probe) in enumerate(zip(scopes, probes, strict=True)):
            namespace = read_namespace(conn, scope.bot)
            revision = revision or namespace.revision
            if not namespace.live_count:
                continue
            mine = SearchQuery(query.words, scope.selected, query.size, mode=query.mode)
            wanted = Wanted(mine, size, probe.vectors, probe.vector)
            found = (self._signals_at_once if at_once else self._signals)(conn, namespace, wanted, now)
            if found is None:
                return None
            places.append((number, namespace, found))
        signals = [found for _, _, found in places]
        ranked, homes, rows = _rank(
            conn, places, query, {name for probe in probes for name in probe.named}, micros(now)
        )
        ranked = [each for each in ranked if each.score >= query.min_score]
        page = ranked[query.skip : query.skip + query.size]
        return Found(
            hits=tuple(_hits(conn, page, homes, scopes, signals, rows)),
            more=len(ranked) > query.skip + query.size,
            mode=query.mode,
            text_candidates=sum(len(each.text_ranks) for each in signals),
            vector_candidates=sum(len(each.vector_ranks) for each in signals),
            vector_backlog=sum(each.without_vector for each in signals),
            revision=revision,
            notes=tuple(dict.fromkeys(note for each in signals for note in each.notes)),
        )

    def _signals(self, conn: Connection, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals:
        # The engines' parts come with NumPy, which a process that is never asked need not pay for.
        if conn.dialect.name == "sqlite":
            from memory_service.store import signals_sqlite

            return signals_sqlite.find_signals(conn, self._made_cache(), namespace, wanted, now)
        from memory_service.store import signals_postgres

        return signals_postgres.find_signals(conn, namespace, wanted, now)

    def _signals_at_once(self, conn: Connection, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals | None:
        if self._cache is None:
            return None
        from memory_service.store import signals_sqlite

        return signals_sqlite.find_at_once(conn, self._cache, namespace, wanted, now)

    def _lacks_postings(self, conn: Connection, scopes: Sequence[Scope]) -> bool:
        """Whether the postings in the file are searched, and not whole yet."""
        sizes = [read_namespace(conn, scope.bot).live_count for scope in scopes]
        return max(sizes, default=0) * MEMORY_OF_AN_ENTRY > self._cache_bytes and is_due(conn)

    def _made_cache(self) -> "IndexCache":
        from memory_service.index.cache import IndexCache

        with self._making:
            if self._cache is None:
                self._cache = IndexCache(limit_bytes=self._cache_bytes, exact_limit=self._exact_limit)
            return self._cache


def _rank(
    conn: Connection, places: Sequence[tuple[int, Namespace, Signals]], query: SearchQuery, named: set[str], now: int
) -> tuple[list[Ranked], dict[int, int], dict[int, Row]]:
    """Those that the page can show, the best first; by key the number of the scope where each was found, and the rows
    that were read of them."""
    candidates: list[Candidate] = []
    homes: dict[int, int] = {}
    rows: dict[int, Row] = {}
    scales: Scales | None = None
    if not query.similar_to:
        every = [signal for _, _, found in places for signal in found.found.values()]
        scales = scales_of(every, query.weights, query.mode, named=named, now=now)
    for number, namespace, found in places:
        # One more than the page: whether others follow it.
        keys = list(found.found) if scales is None else contenders(found.found, scales, query.depth + 1)
        for each in _candidates(conn, namespace, found, keys, rows):
            if each.key not in homes and not (query.similar_to and each.id == query.similar_to and number == 0):
                homes[each.key] = number
                candidates.append(each)
    if scales is None:  # without the memory itself, which is the nearest
        return rank(candidates, query.weights, mode=query.mode, named=named, now=now), homes, rows
    return in_order(candidates, scales), homes, rows


def _candidates(
    conn: Connection, namespace: Namespace, found: Signals, keys: list[int], kept: dict[int, Row]
) -> list[Candidate]:
    """With what ranking needs to know; those that are gone are left out. Rows that were read whole are kept."""
    if not keys:
        return []
    if len(keys) <= _FEW_ROWS:
        whole = rows_of_keys(conn, keys)
        living = [row for row in whole if row["delete_time"] is None and row["namespace"] == namespace.key]
        kept.update((row["pk"], row) for row in living)
        return [
            Candidate(
                row["pk"],
                row["memory_id"],
                row["author"],
                row["importance"],
                row["update_time"],
                row["happen_time"],
                found.found[row["pk"]],
            )
            for row in living
        ]
    if conn.dialect.name == "sqlite":
        rows = direct_sql.fetch(conn, _DETAILS_SQLITE, (str(keys), namespace.key))
    else:
        query = _DETAILS.where(MEMORY.c.namespace == namespace.key)
        rows = [tuple(row) for row in conn.execute(query, {"keys": keys})]
    return [Candidate(row[0], row[1], row[2], row[3], row[4], row[5], found.found[row[0]]) for row in rows]


def _hits(
    conn: Connection,
    page: Sequence[Ranked],
    homes: dict[int, int],
    scopes: Sequence[Scope],
    signals: Sequence[Signals],
    rows: dict[int, Row],
) -> list[Hit]:
    loaded = {}
    for number, scope in enumerate(scopes):
        mine = [each.candidate.key for each in page if homes[each.candidate.key] == number]
        loaded.update({key: memory_from_row(rows[key], scope.bot).memory for key in mine if key in rows})
        missing = [key for key in mine if key not in rows]
        if missing:
            loaded.update(load_memories(conn, missing, scope.bot))
    text_ranks = {key: place for each in signals for key, place in each.text_ranks.items()}
    vector_ranks = {key: place for each in signals for key, place in each.vector_ranks.items()}
    hits: list[Hit] = []
    for each in page:
        key, signal = each.candidate.key, each.candidate.signal
        parts = each.parts(text_ranks.get(key, 0), vector_ranks.get(key, 0))
        hits.append(Hit(loaded[key], each.score, parts, signal.bm25, signal.cosine, homes[key]))
    return hits


def _vector_of(conn: Connection, ref: MemoryRef, now: datetime) -> tuple[VectorSet | None, Any]:
    stored = memories.read_memory(conn, ref, now)
    if stored.memory.is_deleted:
        raise MemoryNotFound(ref.name)
    serving = vectors.serving_set(conn, read_namespace(conn, ref.bot).key)
    if serving is None or stored.memory.vector_state is not VectorState.READY:
        return serving, None
    query = select(MEMORY_VECTOR.c.vector).where(
        MEMORY_VECTOR.c.memory == stored.key, MEMORY_VECTOR.c.vector_set == serving.key
    )
    stored_vector = conn.execute(query).scalar_one_or_none()
    return serving, None if stored_vector is None else vectors.from_engine(stored_vector)
