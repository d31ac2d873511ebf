"""Numbers for words, shared by all indexes of a process."""

import threading


class Vocabulary:
    """Grows only; what bounds it is the cache, which begins anew with a new one when it has grown too large."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def nbytes(self) -> int:
        return 140 * len(self._numbers)

    def numbers(self, word: str) -> int:
        """The number of the word; a new one if it had none."""
        found = self._numbers.get(word)
        if found is None:
            with self._lock:
                found = self._numbers.setdefault(word, len(self._numbers))
        return found

    def find(self, word: str) -> int | None:
        return self._numbers.get(word)
