"""What an engine's indexes say of the memories that may fit a query."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memory_service.domain.embedder import VectorSet
from memory_service.domain.ranking import DEPTH, Mode, Signal
from memory_service.domain.search import SearchQuery

TIES = 5 * DEPTH
"""Candidates by word that are as good as the last one are all ranked, but no more than so many."""

MEMORY_OF_AN_ENTRY = 450
"""Bytes that a memory takes in an index that holds signs alone; what decides whether a namespace fits the cache."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. `vector` is the query's (a row of 32-bit floats), `vectors` the set to compare it with; either
    both are there or neither. `size` is how many candidates each index gives."""

    query: SearchQuery
    size: int
    vectors: VectorSet | None = None
    vector: Any = None

    @property
    def by_word(self) -> bool:
        return self.query.mode in (Mode.HYBRID, Mode.TEXT) and bool(self.query.words)

    @property
    def by_meaning(self) -> bool:
        return self.query.mode is not Mode.TEXT and self.vectors is not None


@dataclass(frozen=True, slots=True)
class Signals:
    """By key. The ranks are places among what one index gives, from 1."""

    found: Mapping[int, Signal] = field(default_factory=dict)
    text_ranks: Mapping[int, int] = field(default_factory=dict)
    vector_ranks: Mapping[int, int] = field(default_factory=dict)
    without_vector: int = 0
    notes: tuple[str, ...] = ()
