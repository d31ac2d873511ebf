"""Which memories hold which word, as sorted arrays, with BM25 over the words of one namespace alone."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_K1 = 1.2
_B = 0.75
_TAIL = 8_192
"""How many postings are kept unsorted before they are sorted in."""
_MANY = 8
"""A word that one memory in so many holds is kept as an array over all of them."""
_SHARES = 65_536
"""Bytes that the shares of words may take in any index; in a large one, as much as the slots."""

Slots = NDArray[np.int32]
Scores = NDArray[np.float32]


class Postings:
    """Slots are places in the index; words are numbers of the vocabulary that all namespaces share."""

    def __init__(self) -> None:
        self._words = np.empty(0, np.int32)
        self._slots = np.empty(0, np.int32)
        self._counts = np.empty(0, np.float32)
        self._tail: list[tuple[int, int, float]] = []
        self._mean = 0.0
        self._living = -1
        self._shares: dict[int, tuple[Slots | None, Scores]] = {}
        self._shares_bytes = 0

    @property
    def nbytes(self) -> int:
        held = self._words.nbytes + self._slots.nbytes + self._counts.nbytes + self._shares_bytes
        return held + 120 * len(self._tail)

    def changed(self) -> None:
        """What lives is not what it was, so that every word weighs differently."""
        self._living = -1
        self._shares.clear()
        self._shares_bytes = 0

    def add(self, slot: int, counts: Mapping[int, float]) -> None:
        self.changed()
        self._tail.extend((word, slot, count) for word, count in counts.items())
        if len(self._tail) > max(_TAIL, len(self._words) // 8):
            self.settle()

    def settle(self) -> None:
        """Sorts in what was added."""
        if not self._tail:
            return
        words, slots, counts = zip(*self._tail, strict=True)
        self._tail.clear()
        new_words = np.concatenate([self._words, np.array(words, np.int32)])
        order = np.argsort(new_words, kind="stable")
        self._words = new_words[order]
        self._slots = np.concatenate([self._slots, np.array(slots, np.int32)])[order]
        self._counts = np.concatenate([self._counts, np.array(counts, np.float32)])[order]

    def score(self, wanted: Sequence[int], alive: NDArray[np.bool_], lengths: NDArray[np.float32]) -> Scores:
        """BM25 of each slot; 0 where no word was found."""
        scores = np.zeros(len(alive), np.float32)
        if self._living < 0:
            self._living = int(np.count_nonzero(alive))
            self._mean = max(1.0, float(lengths[alive].sum()) / max(1, self._living))
        if not self._living:
            return scores
        for word in wanted:
            slots, share = self._shares.get(word) or self._share(word, alive, lengths)
            if slots is None:
                scores += share
            else:
                scores[slots] += share
        return scores

    def _share(self, word: int, alive: NDArray[np.bool_], lengths: NDArray[np.float32]) -> tuple[Slots | None, Scores]:
        """What a word brings to the score of the slots that hold it, kept until something changes.

        Without slots, of all of them: that is faster for a word that many hold.
        """
        slots, counts = self._find(word)
        here = alive[slots]
        slots, counts = slots[here], counts[here]
        rarity = math.log(1 + (self._living - len(slots) + 0.5) / (len(slots) + 0.5))
        norm = _K1 * ((1 - _B) + (_B / self._mean) * lengths[slots])
        weighed = (rarity * (_K1 + 1) * counts / (counts + norm)).astype(np.float32, copy=False)
        share: tuple[Slots | None, Scores] = (slots, weighed)
        if len(slots) * _MANY > len(alive):
            every = np.zeros(len(alive), np.float32)
            every[slots] = weighed
            share = (None, every)
        size = share[1].nbytes + (0 if share[0] is None else share[0].nbytes)
        if self._shares_bytes + size > max(_SHARES, self._slots.nbytes):
            self._shares.clear()
            self._shares_bytes = 0
        self._shares[word] = share
        self._shares_bytes += size
        return share

    def _find(self, word: int) -> tuple[Slots, Scores]:
        # Of another type the two would have the whole array made anew as that type.
        start, end = np.searchsorted(self._words, np.array((word, word + 1), np.int32))
        slots, counts = self._slots[start:end], self._counts[start:end]
        late = [(slot, count) for number, slot, count in self._tail if number == word]
        if late:
            slots = np.concatenate([slots, np.array([slot for slot, _ in late], np.int32)])
            counts = np.concatenate([counts, np.array([count for _, count in late], np.float32)])
        return slots, counts
