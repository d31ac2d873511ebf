"""Texts as words, the same for the index and for what is looked for, on every engine: runs of letters, marks and digits
without differences of case and of accents. Scripts that are written without spaces are cut into single characters."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

MAX_WORD = 64
"""Longer runs are cut off, in texts and in queries alike, so that they still meet."""

MAX_INDEXED = 262_144
"""Characters of one event that are indexed."""

MAX_QUERY_WORDS = 32
EXCERPT_LENGTH = 400
MATCH_START, MATCH_END = "\x02", "\x03"

_WINDOW = 320
_BEFORE = 80
_MAX_MARKS = 30
_SEARCHED = 200_000

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_RUN = re.compile(r"[^\W_]+")
# Thai, Lao, Myanmar, Khmer, kana, Han and Hangul.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3134F),
)


def words_of(text: str) -> list[str]:
    """The words of a text in order, with repetitions; of a long one those of its first MAX_INDEXED characters."""
    return _words(text[:MAX_INDEXED])


def query_words(query: str) -> list[str]:
    """What to look for, each word once; at most MAX_QUERY_WORDS of them. Quotes and operators are no words."""
    return list(dict.fromkeys(_words(query)))[:MAX_QUERY_WORDS]


def excerpt(text: str, wanted: frozenset[str]) -> str:
    """The part of `text` around the first of the wanted words, on one line, each found word between MATCH_START and
    MATCH_END; the beginning when there is none. At most EXCERPT_LENGTH characters."""
    text = text.replace(MATCH_START, " ").replace(MATCH_END, " ")
    first = next((start for start, _ in _matches(text[:_SEARCHED], wanted)), 0)
    start = max(0, first - _BEFORE)
    if start:
        space = text.find(" ", start, first)
        start = space + 1 if space >= 0 else start
    window = text[start : start + _WINDOW]
    pieces = ["…"] if start else []
    end = 0
    for number, (begin, stop) in enumerate(_matches(window, wanted)):
        if number == _MAX_MARKS:
            break
        pieces += (window[end:begin], MATCH_START, window[begin:stop], MATCH_END)
        end = stop
    pieces.append(window[end:])
    if start + _WINDOW < len(text):
        pieces.append("…")
    return " ".join("".join(pieces).split())


def _matches(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, int]]:
    for run in _RUN.finditer(text):
        found = run.group()
        if found.isascii():
            if found.lower()[:MAX_WORD] in wanted:
                yield run.span()
        elif any(_is_unspaced(character) for character in found):
            for offset, character in enumerate(found, run.start()):
                if _is_unspaced(character) and not wanted.isdisjoint(_words(character)):
                    yield offset, offset + 1
        elif not wanted.isdisjoint(_words(found)):
            yield run.span()


def _words(text: str) -> list[str]:
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        found = "".join(map(_letter, folded)).split()
    return [word[:MAX_WORD] for word in found]


@lru_cache(maxsize=16_384)
def _letter(character: str) -> str:
    """What becomes of a folded character: itself, nothing for an accent, a space for what separates words."""
    if unicodedata.combining(character) and "\u0300" <= character <= "\u036f":
        return ""
    if unicodedata.category(character)[0] not in "LMN":
        return " "
    return f" {character} " if _is_unspaced(character) else character


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= _UNSPACED[0][0] and any(first <= code <= last for first, last in _UNSPACED)
