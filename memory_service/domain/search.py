"""A search by word: what is asked, what is found, and the part of a text to show."""

from collections.abc import Sequence
from dataclasses import dataclass

from memory_service.domain.memory import Memory
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import fold, words

DEPTH = 1_000
"""How many hits deep pages reach."""
MAX_QUERY_WORDS = 64
CONTEXT_WEIGHT = 0.4
"""What a word in a memory's context counts beside one in its text."""

_EXCERPT_CHARACTERS = 400
_LEAD_CHARACTERS = 120
_SCORE_DIGITS = 9


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """`words` are as `query_words` gives them; `skip` is how many hits earlier pages had."""

    words: tuple[str, ...]
    selected: MemoryFilter
    size: int
    skip: int = 0
    min_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory in which a word was found. `key` is the store's; `update_time` is in its units; `bm25` is positive."""

    key: int
    id: str
    bm25: float
    update_time: int


@dataclass(frozen=True, slots=True)
class Ranked:
    candidate: Candidate
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Hit:
    memory: Memory
    score: float
    bm25: float
    rank: int


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits. `more` says that others follow; `candidates` is how many were ranked in all."""

    hits: tuple[Hit, ...]
    more: bool
    candidates: int
    vector_backlog: int
    revision: int


def rank(candidates: Sequence[Candidate]) -> list[Ranked]:
    """The best `DEPTH`, scores scaled to 0 to 1; of equal scores the later update first, then the id."""
    best = max((candidate.bm25 for candidate in candidates), default=0.0)
    scored = [(round(candidate.bm25 / best, _SCORE_DIGITS) if best > 0 else 1.0, candidate) for candidate in candidates]
    scored.sort(key=lambda each: (-each[0], -each[1].update_time, each[1].id))
    return [Ranked(candidate, score, place) for place, (score, candidate) in enumerate(scored[:DEPTH], 1)]


def matched_words(memory: Memory, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted words that the memory holds, in the order of the query."""
    held = frozenset(words(memory.content.text)) | frozenset(words(memory.content.context))
    return [word for word in wanted if word in held]


def excerpt(text: str, wanted: Sequence[str]) -> str:
    """At most 400 characters of the text, around the first of the wanted words."""
    if len(text) <= _EXCERPT_CHARACTERS:
        return text
    start = max(0, _first_match(text, wanted) - _LEAD_CHARACTERS)
    if start:
        space = text.find(" ", start, start + _LEAD_CHARACTERS // 2)
        start = space + 1 if space >= 0 else start
    start = min(start, len(text) - _EXCERPT_CHARACTERS)
    return text[start : start + _EXCERPT_CHARACTERS]


def _first_match(text: str, wanted: Sequence[str]) -> int:
    """Where the first wanted word stands, as near as folding lets one tell: it may change the length of a text."""
    folded = fold(text)
    places = [place for word in wanted if (place := _place(folded, word)) >= 0]
    return min(places, default=0) * len(text) // max(1, len(folded))


def _place(folded: str, word: str) -> int:
    """Where `word` stands as a whole word, or else as a part of one."""
    place = first = folded.find(word)
    while place >= 0:
        end = place + len(word)
        if not (folded[place - 1 : place].isalnum() or folded[end : end + 1].isalnum()):
            return place
        place = folded.find(word, end)
    return first
