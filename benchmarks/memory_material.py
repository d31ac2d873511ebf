"""Texts and vectors for the memory benchmarks, the same in every process. Needs NumPy alone."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
_WORDS = 8_000
_TOPICS = 64


class Material:
    """Texts of 12 words, some common and most rare, and vectors that gather around topics, as real texts' do."""

    def __init__(self, seed: int = 1) -> None:
        self._dice = np.random.default_rng(seed)
        self._topics = self._dice.normal(size=(_TOPICS, DIMENSION)).astype(np.float32)
        weights = 1 / np.arange(3, _WORDS + 3)
        self._weights = weights / weights.sum()

    def items(self, count: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Texts, each once, with their vectors."""
        for number in range(count):
            yield f"{self._words(12)} item{number}", self._vector()

    def queries(self, count: int) -> list[tuple[str, NDArray[np.float32]]]:
        return [(self._words(6), self._vector()) for _ in range(count)]

    def _words(self, count: int) -> str:
        return " ".join(f"w{number}" for number in self._dice.choice(_WORDS, count, p=self._weights))

    def _vector(self) -> NDArray[np.float32]:
        near = self._topics[self._dice.integers(_TOPICS)] + self._dice.normal(size=DIMENSION).astype(np.float32)
        vector: NDArray[np.float32] = near / np.linalg.norm(near)
        return vector
