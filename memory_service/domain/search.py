"""A search: what is asked, what is found, and the part of a text to show."""

from collections.abc import Sequence
from dataclasses import dataclass

from memory_service.domain.embedder import Model
from memory_service.domain.memory import Memory
from memory_service.domain.ranking import Mode, Parts, Weights
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import fold, words

MAX_QUERY_WORDS = 64
CONTEXT_WEIGHT = 0.4
"""What a word in a memory's context counts beside one in its text."""

_EXCERPT_CHARACTERS = 400
_LEAD_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """`text` is the query as asked and `words` those of it to look for, as `query_words` gives them; `skip` is how many
    hits earlier pages had. `similar_to` is the id of the memory to compare with, in mode SIMILAR."""

    words: tuple[str, ...]
    selected: MemoryFilter
    size: int
    skip: int = 0
    min_score: float = 0.0
    text: str = ""
    mode: Mode = Mode.TEXT
    weights: Weights = Weights()  # noqa: RUF009 - frozen
    similar_to: str = ""
    rerank: bool = False

    @property
    def depth(self) -> int:
        return self.skip + self.size


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of one bot's memory to look among. What a filter selects lies in it."""

    bot: str
    selected: MemoryFilter


@dataclass(frozen=True, slots=True)
class Hit:
    """`scope` is the number of the scope it was found in; `bm25` and `cosine` are as the indexes say."""

    memory: Memory
    score: float
    parts: Parts
    bm25: float
    cosine: float | None
    scope: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits. `more` says that others follow; the counts are of candidates by word and by meaning."""

    hits: tuple[Hit, ...]
    more: bool
    mode: Mode
    text_candidates: int = 0
    vector_candidates: int = 0
    vector_backlog: int = 0
    revision: int = 0
    reranked: bool = False
    notes: tuple[str, ...] = ()
    embedder: Model | None = None


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
