"""How well memories fit a query: the parts of a score, fused into one, and the order that follows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from memory_service.domain.words import fold, runs

DEPTH = 1_000
"""How many hits deep pages reach."""
_SHALLOW_HITS = 25
_SHALLOW_POOL = 60
_SCORE_DIGITS = 9
_MARGIN = 1e-8
"""More than rounding changes a score."""
_FAINT = 1e-9
"""A best signal below this says nothing, and what is divided by it may overflow."""
_MIN_NAME = 3


class Mode(IntEnum):
    HYBRID = 1
    TEXT = 2
    VECTOR = 3
    SIMILAR = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """Only the ratios of the first five matter. Half-life in seconds."""

    text: float = 0.4
    vector: float = 0.6
    author: float = 0.2
    recency: float = 0.0
    importance: float = 0.0
    half_life_s: float = 30 * 86_400.0


class Signal(NamedTuple):
    """What the indexes say of a memory: its BM25 (0: no word was found) and its cosine (None: no vector)."""

    bm25: float
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that may be a hit. `key` is the store's; times are microseconds since 1970."""

    key: int
    id: str
    author: str
    importance: float
    update_time: int
    happen_time: int
    signal: Signal


@dataclass(frozen=True, slots=True)
class Parts:
    """The weighed parts of a score, which is their sum; ranks are from 1, and 0 for none."""

    text: float = 0.0
    vector: float = 0.0
    author: float = 0.0
    recency: float = 0.0
    importance: float = 0.0
    text_rank: int = 0
    vector_rank: int = 0
    matched_author: str = ""
    rerank: float | None = None


@dataclass(frozen=True, slots=True)
class Scales:
    """What each part of a score is multiplied by, in one search."""

    text: float
    vector: float
    author: float
    recency: float
    importance: float
    half_life_us: float
    named: Collection[str]
    now: int

    def score(self, each: Candidate) -> float:
        signal = each.signal
        score = signal.bm25 * self.text + each.importance * self.importance
        if signal.cosine is not None and signal.cosine > 0:
            score += signal.cosine * self.vector
        if self.author and each.author in self.named:
            score += self.author
        if self.recency:
            score += self._recency(each)
        return min(1.0, round(score, _SCORE_DIGITS))

    def least(self, signals: Iterable[Signal]) -> list[float]:
        """What each signal alone brings to a score."""
        text, vector = self.text, self.vector
        return [
            bm25 * text + cosine * vector if cosine is not None and cosine > 0 else bm25 * text
            for bm25, cosine in signals
        ]

    def parts(self, each: Candidate, text_rank: int = 0, vector_rank: int = 0) -> Parts:
        matched = each.author if self.author and each.author in self.named else ""
        return Parts(
            text=each.signal.bm25 * self.text,
            vector=max(0.0, each.signal.cosine or 0.0) * self.vector,
            author=self.author if matched else 0.0,
            recency=self._recency(each) if self.recency else 0.0,
            importance=each.importance * self.importance,
            text_rank=text_rank,
            vector_rank=vector_rank,
            matched_author=matched,
        )

    def _recency(self, each: Candidate) -> float:
        return self.recency * float(0.5 ** (max(0, self.now - each.happen_time) / self.half_life_us))


@dataclass(frozen=True, slots=True)
class Ranked:
    candidate: Candidate
    score: float
    scales: Scales

    def parts(self, text_rank: int = 0, vector_rank: int = 0) -> Parts:
        """Made when they are asked for: most candidates are on no page."""
        return self.scales.parts(self.candidate, text_rank, vector_rank)


def pool(depth: int) -> int:
    """How many candidates of each index are ranked for pages that end at the hit `depth`."""
    return _SHALLOW_POOL if depth <= _SHALLOW_HITS else DEPTH


def rank(
    candidates: Sequence[Candidate], weights: Weights, *, mode: Mode, named: Collection[str] = (), now: int = 0
) -> list[Ranked]:
    """The candidates, the best first, scaled among themselves; see `scales_of` and `in_order`."""
    return in_order(candidates, scales_of([each.signal for each in candidates], weights, mode, named=named, now=now))


def in_order(candidates: Iterable[Candidate], scales: Scales) -> list[Ranked]:
    """The best first; of equal scores the later update first, then the id."""
    scored = [(scales.score(each), each) for each in candidates]
    scored.sort(key=lambda each: (-each[0], -each[1].update_time, each[1].id))
    return [Ranked(candidate, score, scales) for score, candidate in scored[:DEPTH]]


def contenders(signals: Mapping[int, Signal], scales: Scales, depth: int) -> list[int]:
    """The keys that may be among the first `depth`, whatever else is known of them."""
    if len(signals) <= depth or scales.importance:
        return list(signals)
    least = scales.least(signals.values())
    bar = sorted(least, reverse=True)[depth - 1] - scales.author - scales.recency - _MARGIN
    return [key for key, score in zip(signals, least, strict=True) if score >= bar]


def scales_of(
    signals: Sequence[Signal], weights: Weights, mode: Mode, *, named: Collection[str] = (), now: int = 0
) -> Scales:
    """Words and meaning are each scaled by the best of the signals, so that a score hangs on no others.

    `named` are the authors whom the query names. A part that cannot be had takes its weight with it.
    """
    best_text = max([bm25 for bm25, _ in signals], default=0.0)
    best_cosine = max([cosine or 0.0 for _, cosine in signals], default=0.0)
    by_text = weights.text / best_text if mode in (Mode.HYBRID, Mode.TEXT) and best_text > _FAINT else 0.0
    by_vector = weights.vector / best_cosine if mode is not Mode.TEXT and best_cosine > _FAINT else 0.0
    by_author = weights.author if named else 0.0
    total = (
        (weights.text if mode in (Mode.HYBRID, Mode.TEXT) else 0.0)
        + (weights.vector if mode is not Mode.TEXT else 0.0)
        + by_author
        + weights.recency
        + weights.importance
    )
    if total <= 0:
        by_text, by_vector, total = (1 / best_text if best_text > _FAINT else 0.0), 0.0, 1.0
    return Scales(
        text=by_text / total,
        vector=by_vector / total,
        author=by_author / total,
        recency=weights.recency / total,
        importance=weights.importance / total,
        half_life_us=weights.half_life_s * 1e6,
        named=frozenset(named),
        now=now,
    )


def named_authors(query: str, authors: Iterable[str]) -> tuple[str, ...]:
    """The authors whom the query names: by all words of their name, or by a first name that no other author has."""
    asked = runs(query)
    words = frozenset(asked)
    firsts: dict[str, set[str]] = {}
    found: dict[str, None] = {}
    for author in authors:
        name = runs(author)
        if not name:
            continue
        if len(name[0]) >= _MIN_NAME:
            firsts.setdefault(name[0], set()).add(author)
        if any(asked[start : start + len(name)] == name for start in range(len(asked) - len(name) + 1)):
            found[author] = None
    for first, several in firsts.items():
        if len(several) == 1 and first in words:
            found.update(dict.fromkeys(several))
    return tuple(found)


def without_names(query: str, authors: Iterable[str]) -> str:
    """The query as it is embedded: a name draws towards whoever is spoken to, not towards who speaks.

    The query itself when nothing would be left.
    """
    names = {word for author in authors for word in runs(author)}
    if not names:
        return query
    kept = [word for word in query.split() if not _is_name(word, names)]
    return " ".join(kept) if any(runs(word) for word in kept) else query


def _is_name(word: str, names: Collection[str]) -> bool:
    folded = fold(word).strip("\"'`.,;:!?()[]{}\u2018\u2019\u201c\u201d")
    for ending in ("'s", "\u2019s"):
        folded = folded.removesuffix(ending)
    return folded in names
