"""The index of one namespace: its words and its vectors, searched whole.

Vectors are compared one by one as long as there are not too many. Beyond that only their signs are held; the memories
whose signs agree most with the query's are the candidates, and the store compares those in full.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memory_service.domain.search import CONTEXT_WEIGHT
from memory_service.index.postings import Postings
from memory_service.index.vocabulary import Vocabulary

T = TypeVar("T", bound=np.generic)

_FIRST_SLOTS = 64
_BYTES_OF_A_KEY = 120
SIGN_CANDIDATES = 400
"""How many of the memories with the most like signs are compared in full."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How far in the database's own numbering the index has got."""

    vector_set: int = 0
    last_key: int = 0
    gone: int = 0
    vector: int = 0


class NamespaceIndex:
    """Whoever uses it holds `lock` meanwhile."""

    def __init__(self, vocabulary: Vocabulary, *, dimension: int, exact_limit: int) -> None:
        self.lock = threading.Lock()
        self.marks = Marks()
        self.built = False
        self.keys = np.zeros(_FIRST_SLOTS, np.int64)
        self._vocabulary = vocabulary
        self._dimension = dimension
        self._exact_limit = exact_limit
        self._count = 0
        self._dead = 0
        self._slots: dict[int, int] = {}
        self._alive = np.zeros(_FIRST_SLOTS, np.bool_)
        self._lengths = np.zeros(_FIRST_SLOTS, np.float32)
        self._postings = Postings()
        self._has_vector = np.zeros(_FIRST_SLOTS, np.bool_)
        self._vectors: NDArray[np.float32] | None = np.zeros((_FIRST_SLOTS, dimension), np.float32)
        self._signs: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def is_exact(self) -> bool:
        return self._vectors is not None

    def serves(self, vector_set: int) -> bool:
        """Whether it has the vectors of that set; 0 stands for a search that needs none."""
        return vector_set in (0, self.marks.vector_set)

    @property
    def vector_bytes(self) -> int:
        """What a comparison of all vectors reads."""
        return self._count * self._dimension * 4

    @property
    def is_worn(self) -> bool:
        """Whether so much of it is dead that it is better made anew."""
        return self._dead > 1_000 and self._dead * 4 > self._count

    @property
    def nbytes(self) -> int:
        held = (self.keys, self._alive, self._lengths, self._has_vector, self._vectors, self._signs)
        arrays = sum(each.nbytes for each in held if each is not None)
        return arrays + self._postings.nbytes + _BYTES_OF_A_KEY * len(self._slots)

    def add(self, key: int, text: str, context: str) -> None:
        """A memory, with its words as the store has them: ready, and with one space between any two."""
        if key in self._slots:
            self.remove(key)
        slot = self._take_slot()
        in_text, in_context = text.split(), context.split()
        numbers = self._vocabulary.numbers
        counts: dict[int, float] = {}
        for word, count in Counter(in_text).items():
            counts[numbers(word)] = float(count)
        for word, count in Counter(in_context).items():
            number = numbers(word)
            counts[number] = counts.get(number, 0.0) + CONTEXT_WEIGHT * count
        self._postings.add(slot, counts)
        self.keys[slot] = key
        self._alive[slot] = True
        self._lengths[slot] = len(in_text) + len(in_context)
        self._slots[key] = slot

    def remove(self, key: int) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._alive[slot] = False
            self._has_vector[slot] = False
            self._dead += 1
            self._postings.changed()

    def add_vectors(self, vectors: Iterable[tuple[int, bytes | None]]) -> None:
        """Vectors by key; of those that the index does not hold nothing is kept."""
        known = [(self._slots[key], blob) for key, blob in vectors if blob is not None and key in self._slots]
        if not known:
            return
        slots = np.array([slot for slot, _ in known])
        rows = np.frombuffer(b"".join(blob for _, blob in known), np.float32).reshape(len(known), self._dimension)
        if self._vectors is not None:
            self._vectors[slots] = rows
        if self._signs is not None:
            self._signs[slots] = np.packbits(rows > 0, axis=1)
        self._has_vector[slots] = True

    def settle(self) -> None:
        self._postings.settle()

    def mask(self, *, only: Sequence[int] | None, without: Sequence[int]) -> NDArray[np.bool_] | None:
        """Which slots are looked among: `only` those of these keys (None: all that live), `without` those.

        None for all that live.
        """
        if only is None and not without:
            return None
        if only is None:
            allowed = self._alive[: self._count].copy()
        else:
            allowed = np.zeros(self._count, np.bool_)
            allowed[[self._slots[key] for key in only if key in self._slots]] = True
        allowed[[self._slots[key] for key in without if key in self._slots]] = False
        return allowed

    def score_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        """BM25 of each slot. How rare a word is and how long texts are is reckoned over the whole namespace."""
        known = [number for word in words if (number := self._vocabulary.find(word)) is not None]
        return self._postings.score(known, self._alive[: self._count], self._lengths[: self._count])

    def compare(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine of each slot; where only signs are held, how alike they are. -2 without a vector."""
        if self._vectors is not None:
            found = self._vectors[: self._count] @ query
        else:
            assert self._signs is not None
            signs = np.packbits(query > 0)
            differing = np.bitwise_count(self._signs[: self._count] ^ signs).sum(axis=1, dtype=np.int32)
            found = (1 - 2 * differing / self._dimension).astype(np.float32)
        there = self._has_vector[: self._count]
        if not there.all():
            found[~there] = -2.0
        scores: NDArray[np.float32] = found
        return scores

    def count_without_vector(self) -> int:
        return len(self._slots) - int(np.count_nonzero(self._has_vector & self._alive))

    def slots_of(self, keys: Sequence[int]) -> Mapping[int, int]:
        return {key: self._slots[key] for key in keys if key in self._slots}

    def _take_slot(self) -> int:
        slot = self._count
        if slot == len(self.keys):
            self._grow(2 * slot)
        if self._vectors is not None and slot >= self._exact_limit:
            self._keep_signs_only()
        self._count += 1
        return slot

    def _grow(self, size: int) -> None:
        self.keys = _grown(self.keys, size)
        self._alive = _grown(self._alive, size)
        self._lengths = _grown(self._lengths, size)
        self._has_vector = _grown(self._has_vector, size)
        if self._vectors is not None:
            self._vectors = _grown(self._vectors, size)
        if self._signs is not None:
            self._signs = _grown(self._signs, size)

    def _keep_signs_only(self) -> None:
        assert self._vectors is not None
        self._signs = np.packbits(self._vectors > 0, axis=1)
        self._vectors = None


def _grown(array: NDArray[T], size: int) -> NDArray[T]:
    grown = np.zeros((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
