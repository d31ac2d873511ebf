"""How alike two texts are by their words, for offering near-duplicates before and without vectors."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from memory_service.domain.memory import Memory
from memory_service.domain.words import words

LEAST = 0.6
"""The least likeness that is offered: below it texts share a subject rather than a statement."""
_MAX_WORDS = 2_000
_EXCERPT_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A memory that says nearly the same as another; `similarity` is 0 to 1."""

    memory: Memory
    similarity: float

    @property
    def excerpt(self) -> str:
        return self.memory.content.text[:_EXCERPT_CHARACTERS]


class Shape:
    """A text as counts of its words and of its pairs of neighbours, which say in what order they come."""

    __slots__ = ("_counts", "_length")

    def __init__(self, text: str) -> None:
        found = words(text)[:_MAX_WORDS]
        self._counts = Counter[str | tuple[str, str]](found)
        self._counts.update(pairwise(found))
        self._length = math.sqrt(sum(count * count for count in self._counts.values()))

    def likeness(self, other: "Shape") -> float:
        """The cosine of the counts."""
        if not self._length or not other._length:
            return 0.0
        few, many = sorted((self._counts, other._counts), key=len)
        shared = sum(count * many[key] for key, count in few.items() if key in many)
        return min(1.0, shared / (self._length * other._length))


def nearest(text: str, others: Iterable[Memory], limit: int) -> list[NearDuplicate]:
    """Those of the others that are alike enough, the most alike first, ties by name."""
    shape = Shape(text)
    found = [
        NearDuplicate(other, round(likeness, 6))
        for other in others
        if (likeness := shape.likeness(Shape(other.content.text))) >= LEAST
    ]
    found.sort(key=lambda each: (-each.similarity, each.memory.name))
    return found[:limit]
