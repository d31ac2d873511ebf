"""Searches, both ways."""

from dataclasses import dataclass
from enum import IntEnum

from chassis.errors import field_invalid
from memory_service.convert import checks
from memory_service.convert.filters import from_proto_filter
from memory_service.convert.memories import to_proto_memory
from memory_service.convert.names import parse_memory
from memory_service.domain.errors import QueryEmpty
from memory_service.domain.grant import Reach
from memory_service.domain.search import DEPTH, MAX_QUERY_WORDS, Found, Hit, SearchQuery, excerpt, matched_words
from memory_service.domain.words import query_words
from memory_service.store.memories import MemoryRef
from mobot.memory.v1 import memory_service_pb2

MAX_QUERY = 4_096
_WEIGHTS = ("text", "vector", "author", "recency", "importance")
_MAX_HALF_LIFE_S = 36_500 * 86_400


class Mode(IntEnum):
    HYBRID = 1
    TEXT = 2
    VECTOR = 3
    SIMILAR = 4


@dataclass(frozen=True, slots=True)
class Search:
    """A search as asked for. `similar_to` is set in mode SIMILAR; `notes` say what will be left out and why."""

    mode: Mode
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
    _check_weights(request)
    wanted = query_words(request.query)
    return Search(
        mode=mode,
        query=SearchQuery(
            words=tuple(wanted[:MAX_QUERY_WORDS]),
            selected=from_proto_filter(request.filter),
            size=min(size, max(0, DEPTH - skip)),
            skip=skip,
            min_score=checks.between("min_score", request.min_score, 0.0, 1.0),
        ),
        similar_to=parse_memory(request.similar_to, "similar_to") if mode is Mode.SIMILAR else None,
        explain=request.explain,
        record_use=request.record_use,
        notes=tuple(_notes(request, mode, len(wanted))),
    )


def to_proto_hit(hit: Hit, search: Search, reach: Reach | None = None) -> memory_service_pb2.SearchHit:
    message = memory_service_pb2.SearchHit(
        memory=to_proto_memory(hit.memory, reach),
        score=hit.score,
        excerpt=excerpt(hit.memory.content.text, search.query.words),
    )
    if search.explain:
        message.parts.CopyFrom(
            memory_service_pb2.ScoreParts(
                bm25=hit.bm25,
                text=hit.score,
                text_rank=hit.rank,
                matched_terms=matched_words(hit.memory, search.query.words),
            )
        )
    return message


def to_proto_report(found: Found, search: Search) -> memory_service_pb2.SearchReport:
    return memory_service_pb2.SearchReport(
        mode=memory_service_pb2.SEARCH_MODE_TEXT,
        vector_backlog_count=found.vector_backlog,
        notes=search.notes,
        text_candidate_count=found.candidates if search.explain else 0,
    )


def _notes(request: memory_service_pb2.SearchMemoriesRequest, mode: Mode, wanted: int) -> list[str]:
    notes: list[str] = []
    if mode is Mode.HYBRID:
        notes.append("No embedder is configured, so the search went by word alone.")
    if request.HasField("weights"):
        notes.append("The weights were not applied, because a search by word alone has nothing to weigh.")
    if request.rerank:
        notes.append("No reranker is configured, so the hits are in order of score.")
    if wanted > MAX_QUERY_WORDS:
        notes.append(f"The query has {wanted} words, of which the first {MAX_QUERY_WORDS} were looked for.")
    return notes


def _check_weights(request: memory_service_pb2.SearchMemoriesRequest) -> None:
    for name in _WEIGHTS:
        checks.between(f"weights.{name}", getattr(request.weights, name), 0.0, 10.0)
    checks.seconds("weights.recency_half_life", request.weights, "recency_half_life", 1, _MAX_HALF_LIFE_S)
