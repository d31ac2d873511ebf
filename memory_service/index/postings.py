"""Which memories hold which word, as sorted arrays, with BM25 over the words of one namespace alone."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_K1 = 1.2
_B = 0.75
_TAIL = 8_192
"""How many postings are kept apart before they are sorted in."""
_WEIGHED_AT_ONCE = 32_768
"""Postings of an index whose words are all weighed together: that takes less than a millisecond."""
_WORDS_WORTH = 1_500
"""Postings that are weighed together in the time of one word alone."""
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
        self._weights: Scores | None = None
        """What each posting brings to a score; None while words are weighed one by one."""
        self._reckoned = 0
        """Words weighed one by one since something changed."""
        self._tail: dict[int, list[tuple[int, float]]] = {}
        self._in_tail = 0
        self._mean = 0.0
        self._living = -1
        self._shares: dict[int, tuple[Slots | None, Scores]] = {}
        self._shares_bytes = 0

    @property
    def nbytes(self) -> int:
        """With room for what searches will add to it."""
        weights = self._slots.nbytes if len(self._words) <= _WEIGHED_AT_ONCE else 0
        held = self._words.nbytes + self._slots.nbytes + self._counts.nbytes + weights
        return held + max(self._slots.nbytes, self._shares_bytes) + 120 * self._in_tail

    def changed(self) -> None:
        """What lives is not what it was, so that every word weighs differently."""
        self._living = -1
        self._weights = None
        self._reckoned = 0
        self._forget_shares()

    def add(self, slot: int, counts: Mapping[int, float]) -> None:
        self.changed()
        for word, count in counts.items():
            self._tail.setdefault(word, []).append((slot, count))
        self._in_tail += len(counts)
        if self._in_tail > max(_TAIL, len(self._words) // 8):
            self.settle()

    def settle(self) -> None:
        """Sorts in what was added."""
        if not self._tail:
            return
        tail = [(word, slot, count) for word, late in self._tail.items() for slot, count in late]
        words, slots, counts = zip(*tail, strict=True)
        self._tail.clear()
        self._in_tail = 0
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
        if not self._living or not wanted:
            return scores
        if self._weights is None and self._is_worth_weighing():
            self._weights = self._weigh_all(alive, lengths)
        for word in wanted:
            slots, share = self._shares.get(word) or self._share(word, alive, lengths)
            if slots is None:
                scores += share
            else:
                scores[slots] += share
        return scores

    def _is_worth_weighing(self) -> bool:
        """Whether as much time has gone into single words as all of them would take."""
        count = len(self._words) + self._in_tail
        return count <= _WEIGHED_AT_ONCE and self._reckoned * _WORDS_WORTH >= count

    def _weigh_all(self, alive: NDArray[np.bool_], lengths: NDArray[np.float32]) -> Scores:
        """What `_weigh` says of a word, of all words: one after the other they take many times as long."""
        self._forget_shares()
        self.settle()
        living = alive[self._slots]
        starts = np.flatnonzero(np.diff(self._words, prepend=np.int32(-1)))
        holders = np.add.reduceat(living, starts, dtype=np.int64) if len(starts) else starts
        rarity = np.log(1 + (self._living - holders + 0.5) / (holders + 0.5))
        of_each = np.repeat((rarity * (_K1 + 1)).astype(np.float32), np.diff(starts, append=len(self._words)))
        norm = _K1 * ((1 - _B) + (_B / self._mean) * lengths[self._slots])
        weights: Scores = (of_each * self._counts / (self._counts + norm)).astype(np.float32, copy=False)
        weights[~living] = 0.0
        return weights

    def _share(self, word: int, alive: NDArray[np.bool_], lengths: NDArray[np.float32]) -> tuple[Slots | None, Scores]:
        """What a word brings to the score of the slots that hold it, kept until something changes.

        Without slots, of all of them: that is faster for a word that many hold.
        """
        slots, weighed = self._weigh(word, alive, lengths) if self._weights is None else self._weighed(word)
        share: tuple[Slots | None, Scores] = (slots, weighed)
        if len(slots) * _MANY > len(alive):
            every = np.zeros(len(alive), np.float32)
            every[slots] = weighed
            share = (None, every)
        size = share[1].nbytes + (0 if share[0] is None else share[0].nbytes)
        if self._shares_bytes + size > max(_SHARES, self._slots.nbytes):
            self._forget_shares()
        self._shares[word] = share
        self._shares_bytes += size
        return share

    def _forget_shares(self) -> None:
        self._shares.clear()
        self._shares_bytes = 0

    def _weighed(self, word: int) -> tuple[Slots, Scores]:
        assert self._weights is not None
        start, end = self._place(word)
        return self._slots[start:end], self._weights[start:end]

    def _weigh(self, word: int, alive: NDArray[np.bool_], lengths: NDArray[np.float32]) -> tuple[Slots, Scores]:
        self._reckoned += 1
        slots, counts = self._find(word)
        here = alive[slots]
        slots, counts = slots[here], counts[here]
        rarity = math.log(1 + (self._living - len(slots) + 0.5) / (len(slots) + 0.5))
        norm = _K1 * ((1 - _B) + (_B / self._mean) * lengths[slots])
        return slots, (rarity * (_K1 + 1) * counts / (counts + norm)).astype(np.float32, copy=False)

    def _find(self, word: int) -> tuple[Slots, Scores]:
        start, end = self._place(word)
        slots, counts = self._slots[start:end], self._counts[start:end]
        late = self._tail.get(word)
        if late:
            slots = np.concatenate([slots, np.array([slot for slot, _ in late], np.int32)])
            counts = np.concatenate([counts, np.array([count for _, count in late], np.float32)])
        return slots, counts

    def _place(self, word: int) -> tuple[int, int]:
        """Where the sorted postings of a word begin and end."""
        # Of another type the two would have the whole array made anew as that type.
        start, end = np.searchsorted(self._words, np.array((word, word + 1), np.int32)).tolist()
        return start, end
