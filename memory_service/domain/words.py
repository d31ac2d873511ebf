"""Texts as words: how they are cut and folded, the same for every index and every query, in any language.

The engines' own tokenizers differ from one another and between versions, so they are given words that are ready: runs
of letters, marks and digits, in one form of Unicode, without case and Latin accents. Scripts written without spaces are
cut into single characters and pairs.
"""

import re
import unicodedata
from collections.abc import Iterator

MAX_WORD = 128
"""Longer runs are cut off; texts and queries alike, so that they still meet."""

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Thai, Lao, Myanmar, Khmer, kana, Han and Hangul.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
# Words that say nothing alone: they would make every memory a hit of every question.
# fmt: off
_STOP_WORDS = frozenset({
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "he", "her", "him", "his", "how", "i", "if", "in", "into",
    "is", "it", "its", "me", "my", "no", "not", "of", "on", "or", "our", "s", "she", "should", "so", "t",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "up", "us",
    "was", "we", "were", "what", "when", "where", "which", "who", "whom", "why", "will", "with", "would", "you",
    "your",
})
# fmt: on


def words(text: str) -> list[str]:
    """The words of a text as an index holds them, in order, with repetitions."""
    if text.isascii():
        return [word if len(word) <= MAX_WORD else word[:MAX_WORD] for word in _ASCII_WORD.findall(text.lower())]
    found: list[str] = []
    for run in _runs(fold(text)):
        for span, unspaced in _spans(run):
            if unspaced:
                found.extend(span)
                found.extend(_pairs(span))
            else:
                found.append(span[:MAX_WORD])
    return found


def query_words(query: str) -> list[str]:
    """The words to look for, each once; without stop words unless there is nothing else."""
    found: dict[str, None] = {}
    for run in _runs(fold(query)):
        for span, unspaced in _spans(run):
            for word in _pairs(span) or [span] if unspaced else [span[:MAX_WORD]]:
                found[word] = None
    telling = [word for word in found if word not in _STOP_WORDS]
    return telling or list(found)


def runs(text: str) -> list[str]:
    """The runs of letters, marks and digits of a text, folded."""
    return list(_runs(fold(text)))


def fold(text: str) -> str:
    """Without differences of case, of compatibility forms, and of Latin, Greek and Cyrillic accents."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", folded))


def _runs(folded: str) -> Iterator[str]:
    if folded.isascii():
        yield from _ASCII_WORD.findall(folded)
        return
    run: list[str] = []
    for character in folded:
        if unicodedata.category(character)[0] in "LMN":
            run.append(character)
        elif run:
            yield "".join(run)
            run = []
    if run:
        yield "".join(run)


def _spans(run: str) -> Iterator[tuple[str, bool]]:
    """The parts of a run, each with whether its script goes without spaces."""
    if run.isascii():
        yield run, False
        return
    end = 0
    for match in _UNSPACED.finditer(run):
        if match.start() > end:
            yield run[end : match.start()], False
        yield match[0], True
        end = match.end()
    if end < len(run):
        yield run[end:], False


def _pairs(span: str) -> list[str]:
    return [span[index : index + 2] for index in range(len(span) - 1)]
