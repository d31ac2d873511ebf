"""The indexes of the namespaces that were searched lately, bounded by bytes; the longest unused goes first."""

import threading
from collections import OrderedDict

from memory_service.index.namespace_index import NamespaceIndex
from memory_service.index.vocabulary import Vocabulary


class IndexCache:
    """Used from several threads. An index that was evicted is still good for whoever holds it."""

    def __init__(self, *, limit_bytes: int, exact_limit: int) -> None:
        self._limit = limit_bytes
        self._exact_limit = exact_limit
        self._lock = threading.Lock()
        self._vocabulary = Vocabulary()
        self._held: OrderedDict[int, NamespaceIndex] = OrderedDict()
        self._sizes: dict[int, int] = {}

    @property
    def limit_bytes(self) -> int:
        return self._limit

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(self._sizes.values()) + self._vocabulary.nbytes

    def get(self, namespace: int, *, vector_set: int, dimension: int) -> NamespaceIndex:
        """The namespace's index with the vectors of that set (0: of any or none); an empty one, not built yet, when
        none is held."""
        with self._lock:
            found = self._held.get(namespace)
            if found is None or (found.built and not found.serves(vector_set)) or found.is_worn:
                found = NamespaceIndex(self._vocabulary, dimension=dimension, exact_limit=self._exact_limit)
                self._held[namespace] = found
                self._sizes[namespace] = 0
            self._held.move_to_end(namespace)
            return found

    def find(self, namespace: int, *, vector_set: int) -> NamespaceIndex | None:
        """The same, if it is there and built."""
        with self._lock:
            found = self._held.get(namespace)
            if found is None or not found.built or not found.serves(vector_set) or found.is_worn:
                return None
            self._held.move_to_end(namespace)
            return found

    def note(self, namespace: int, index: NamespaceIndex) -> None:
        """The index has changed in size; others may have to make room for it, or itself when it alone is too large."""
        with self._lock:
            if self._held.get(namespace) is not index:
                return
            self._sizes[namespace] = index.nbytes
            total = sum(self._sizes.values()) + self._vocabulary.nbytes
            while total > self._limit and self._held:
                oldest, _ = self._held.popitem(last=False)
                total -= self._sizes.pop(oldest)
            if not self._held and self._vocabulary.nbytes * 2 > self._limit:
                self._vocabulary = Vocabulary()

    def holds(self, namespace: int) -> bool:
        with self._lock:
            return namespace in self._held

    def forget(self, namespace: int) -> None:
        with self._lock:
            self._held.pop(namespace, None)
            self._sizes.pop(namespace, None)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._sizes.clear()
            self._vocabulary = Vocabulary()
