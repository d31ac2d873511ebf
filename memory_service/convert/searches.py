"""Searches, both ways."""

from dataclasses import dataclass, replace
from typing import Literal

from chassis.errors import field_invalid
from memory_service.convert import checks
from memory_service.convert.filters import from_proto_filter
from memory_service.convert.memories import to_proto_memory
from memory_service.convert.names import parse_memory
from memory_service.domain.embedder import Model
from memory_service.domain.errors import QueryEmpty
from memory_service.domain.grant import Reach
from memory_service.domain.ranking import DEPTH, Mode, Weights
from memory_service.domain.search import MAX_QUERY_WORDS, Found, Hit, SearchQuery, excerpt, matched_words
from memory_service.domain.words import query_words
from memory_service.store.memories import MemoryRef
from mobot.memory.v1 import memory_service_pb2, operation_pb2

MAX_QUERY = 4_096
_Weight = Literal["text", "vector", "author", "recency", "importance"]
_WEIGHTS: tuple[_Weight, ...] = ("text", "vector", "author", "recency", "importance")
_MAX_EMBEDDER_NAME = 512
_MAX_DIMENSION = 16_000
_MAX_HALF_LIFE_S = 36_500 * 86_400


@dataclass(frozen=True, slots=True)
class Search:
    """A search as asked for. `similar_to` is set in mode SIMILAR; `notes` say what will be left out and why."""

    query: SearchQuery
    similar_to: MemoryRef | None
    explain: bool
    record_use: bool
    notes: tuple[str, ...]


def from_proto_search(request: memory_service_pb2.SearchMemoriesRequest, *, size: int, skip: int) -> Search:
    checks.text("query", request.query, MAX_QUERY)
    mode = checks.member("mode", Mode, request.mode, Mode.HYBRID)
    if mode is Mode.SIMILAR and request.query:
        raise field_invalid("query", "must be empty in mode SIMILAR")
    if mode is not Mode.SIMILAR and request.similar_to:
        raise field_invalid("similar_to", "must be empty but in mode SIMILAR")
    if mode is not Mode.SIMILAR and not request.query.strip():
        raise QueryEmpty(mode.name)
    similar_to = parse_memory(request.similar_to, "similar_to") if mode is Mode.SIMILAR else None
    wanted = query_words(request.query)
    notes: list[str] = []
    if len(wanted) > MAX_QUERY_WORDS and mode is not Mode.VECTOR:
        notes.append(f"The query has {len(wanted)} words, of which the first {MAX_QUERY_WORDS} were looked for.")
    return Search(
        query=SearchQuery(
            words=tuple(wanted[:MAX_QUERY_WORDS]),
            selected=from_proto_filter(request.filter),
            size=min(size, max(0, DEPTH - skip)),
            skip=skip,
            min_score=checks.between("min_score", request.min_score, 0.0, 1.0),
            text=request.query,
            mode=mode,
            weights=_from_proto_weights(request),
            similar_to=similar_to.id if similar_to else "",
            rerank=request.rerank,
        ),
        similar_to=similar_to,
        explain=request.explain,
        record_use=request.record_use,
        notes=tuple(notes),
    )


def to_proto_hit(hit: Hit, search: Search, reach: Reach | None = None) -> memory_service_pb2.SearchHit:
    message = memory_service_pb2.SearchHit(
        memory=to_proto_memory(hit.memory, reach),
        score=hit.score,
        excerpt=excerpt(hit.memory.content.text, search.query.words),
    )
    if search.explain:
        parts = hit.parts
        message.parts.CopyFrom(
            memory_service_pb2.ScoreParts(
                bm25=hit.bm25,
                cosine=hit.cosine,
                text=parts.text,
                vector=parts.vector,
                author=parts.author,
                recency=parts.recency,
                importance=parts.importance,
                rerank=parts.rerank,
                text_rank=parts.text_rank,
                vector_rank=parts.vector_rank,
                matched_terms=matched_words(hit.memory, search.query.words),
                matched_author=parts.matched_author,
            )
        )
    return message


def to_proto_report(found: Found, search: Search) -> memory_service_pb2.SearchReport:
    explained = search.explain and found.embedder is not None
    return memory_service_pb2.SearchReport(
        mode=memory_service_pb2.SearchMode.ValueType(found.mode),
        vector_backlog_count=found.vector_backlog,
        reranked=found.reranked,
        notes=[*search.notes, *found.notes],
        text_candidate_count=found.text_candidates if search.explain else 0,
        vector_candidate_count=found.vector_candidates if search.explain else 0,
        embedder=to_proto_embedder(found.embedder) if explained else None,
    )


def to_proto_embedder(model: Model | None) -> operation_pb2.Embedder | None:
    if model is None:
        return None
    return operation_pb2.Embedder(
        name=model.name, dimension=model.dimension, fingerprint=model.fingerprint, model=model.model
    )


def from_proto_embedder(field: str, embedder: operation_pb2.Embedder) -> Model:
    return Model(
        name=checks.text(f"{field}.name", embedder.name, _MAX_EMBEDDER_NAME, minimum=1),
        dimension=checks.between(f"{field}.dimension", embedder.dimension, 1, _MAX_DIMENSION),
        fingerprint=checks.text(f"{field}.fingerprint", embedder.fingerprint, _MAX_EMBEDDER_NAME, minimum=1),
        model=checks.text(f"{field}.model", embedder.model, _MAX_EMBEDDER_NAME),
    )


def _from_proto_weights(request: memory_service_pb2.SearchMemoriesRequest) -> Weights:
    """What is left out takes the default."""
    given = {
        name: checks.between(f"weights.{name}", getattr(request.weights, name), 0.0, 10.0)
        for name in _WEIGHTS
        if request.weights.HasField(name)
    }
    half_life = checks.seconds("weights.recency_half_life", request.weights, "recency_half_life", 1, _MAX_HALF_LIFE_S)
    return replace(Weights(), **given, **({} if half_life is None else {"half_life_s": half_life}))
