"""A search from the query as asked to the page of hits: what embeds it, what may be left out, and who reranks."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chassis.errors import field_invalid
from memory_service.domain.embedder import VectorSet
from memory_service.domain.embedder_errors import (
    EmbedderMismatch,
    EmbedderRefused,
    EmbedderUnavailable,
    VectorPending,
)
from memory_service.domain.ranking import Mode, without_names
from memory_service.domain.search import Found, Scope, SearchQuery
from memory_service.embedding.choice import Embedders
from memory_service.recall.reranker import Reranker
from memory_service.store.grounds import Ground
from memory_service.store.memories import MemoryRef
from memory_service.store.search_store import Probe, SearchStore

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Embedder

_KEPT_QUERIES = 256

_log = logging.getLogger("mobot.memory")


class Searcher:
    """Remembers the vectors of the last queries, since pages of one search ask for the same."""

    def __init__(self, store: SearchStore, embedders: Embedders, reranker: Reranker | None) -> None:
        self._store = store
        self._embedders = embedders
        self._reranker = reranker
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()

    @property
    def can_rerank(self) -> bool:
        return self._reranker is not None

    async def search(self, scopes: Sequence[Scope], query: SearchQuery) -> Found:
        """A page of the hits of all scopes together.

        Raises:
            MemoryNotFound: the memory to compare with is not there.
            EmbedderMismatch, EmbedderUnavailable, VectorPending: in modes that cannot do without vectors.
        """
        notes: tuple[str, ...] = ()
        if query.mode is Mode.SIMILAR:
            probes = await self._probes_of_memory(scopes, query)
        else:
            grounds = await self._store.ground(scopes, query.text)
            probes, notes = await self._probes(scopes, grounds, query)
        if query.mode is Mode.HYBRID and not any(probe.vectors for probe in probes):
            query = replace(query, mode=Mode.TEXT)
        reranker = self._reranker if query.rerank and query.skip < self._rerank_depth() else None
        found = await self._store.search(scopes, probes, self._deeper(query) if reranker else query)
        model = next((probe.vectors.model for probe in probes if probe.vectors), None)
        found = replace(found, notes=(*notes, *found.notes), embedder=model)
        if reranker is not None:
            found = await reranker.rerank(query, found)
        return found

    async def record_use(self, scopes: Sequence[Scope], found: Found) -> None:
        """Counts the hits as used, in the scopes that are given."""
        for number, scope in enumerate(scopes):
            hits = [hit for hit in found.hits if hit.scope == number]
            if hits:
                await self._store.record_use(scope, hits)

    def _rerank_depth(self) -> int:
        return 0 if self._reranker is None else self._reranker.top

    def _deeper(self, query: SearchQuery) -> SearchQuery:
        """The first hits, all that are reranked, whatever page was asked for."""
        return replace(query, skip=0, size=max(query.depth, self._rerank_depth()))

    async def _probes(
        self, scopes: Sequence[Scope], grounds: Sequence[Ground], query: SearchQuery
    ) -> tuple[list[Probe], tuple[str, ...]]:
        named = {name for ground in grounds for name in ground.authors}
        probes: list[Probe] = []
        notes: dict[str, None] = {}
        for scope, ground in zip(scopes, grounds, strict=True):
            probe = Probe(named=ground.authors)
            if query.mode is not Mode.TEXT and (ground.live_count or query.mode is Mode.VECTOR):
                try:
                    vectors, vector = await self._embedded(scope, ground, without_names(query.text, named))
                except (EmbedderUnavailable, EmbedderMismatch, EmbedderRefused) as error:
                    if query.mode is Mode.VECTOR:
                        if isinstance(error, EmbedderRefused):
                            raise field_invalid("query", f"is refused by {error.message}") from error
                        raise
                    notes[f"The search went by word alone: {error.message}."] = None
                else:
                    probe = Probe(vectors, vector, ground.authors)
                    if vectors is None and ground.live_count:
                        notes["The search went by word alone: no memory has a vector yet."] = None
            probes.append(probe)
        return probes, tuple(notes)

    async def _embedded(self, scope: Scope, ground: Ground, text: str) -> tuple[VectorSet | None, Any]:
        default = self._embedders.default
        if default is None:
            raise EmbedderUnavailable("none", "no embedder is configured")
        if ground.vectors is None:
            return None, None
        embedder = self._embedders.of(ground.vectors.model)
        if embedder is None:
            raise EmbedderMismatch(scope.bot, ground.vectors.model.fingerprint, default.model.fingerprint)
        return ground.vectors, await self._embed(embedder, text)

    async def _embed(self, embedder: "Embedder", text: str) -> Any:  # noqa: ANN401 - a row of floats
        key = (embedder.model.fingerprint, text)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        vector = self._kept[key] = (await embedder.embed([text], query=True))[0]
        if len(self._kept) > _KEPT_QUERIES:
            self._kept.popitem(last=False)
        return vector

    async def _probes_of_memory(self, scopes: Sequence[Scope], query: SearchQuery) -> list[Probe]:
        ref = MemoryRef(scopes[0].bot, query.similar_to)
        vectors, vector = await self._store.vector_of(ref)
        if self._embedders.default is None and vector is None:
            raise EmbedderUnavailable("none", "no embedder is configured")
        if vectors is None or vector is None:
            raise VectorPending(ref.name)
        grounds = await self._store.ground(scopes, "")
        same = vectors.model.fingerprint
        return [
            Probe(ground.vectors, vector)
            if ground.vectors is not None and ground.vectors.model.fingerprint == same
            else Probe()
            for ground in grounds
        ]
