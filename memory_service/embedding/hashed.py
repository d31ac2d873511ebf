"""Vectors from hashes of words, for tests: texts that share words are near, and nothing has to be installed."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory_service.domain.embedder import Model
from memory_service.domain.words import query_words

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Vectors

_DIMENSION = 64

MODEL = Model("hash", _DIMENSION, f"hash-{_DIMENSION}-1", "hashes of words")


class Hashed:
    def encode(self, texts: Sequence[str]) -> "Vectors":
        import numpy as np

        vectors: Vectors = np.zeros((len(texts), _DIMENSION), np.float32)
        for place, text in enumerate(texts):
            for word in query_words(text):
                digest = hashlib.blake2b(word.encode(), digest_size=_DIMENSION // 8).digest()
                bits = np.unpackbits(np.frombuffer(digest, np.uint8))
                vectors[place] += bits.astype(np.float32) * 2 - 1
        vectors[:, 0] += 1e-3  # a text without words has a direction too
        lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / lengths
