"""The tokens that BERT's uncased models read: words, cut into the longest pieces that the vocabulary holds."""

import gzip
import hashlib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_VOCABULARY = Path(__file__).with_name("wordpiece_vocab.txt.gz")
# The vocabulary of bert-base-uncased (Apache-2.0), unpacked.
_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_BEGIN, _END, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_MAX_WORD = 100
# Scripts of which every character is a word of its own.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPieces:
    """Reads its vocabulary when it is made, which takes some 20 ms."""

    def __init__(self) -> None:
        raw = gzip.decompress(_VOCABULARY.read_bytes())
        if hashlib.sha256(raw).hexdigest() != _SHA256:
            raise ValueError(f"{_VOCABULARY.name} is not the vocabulary that the model was trained with")
        self._ids = {token: number for number, token in enumerate(raw.decode().splitlines())}
        self._unknown = self._ids[_UNKNOWN]
        self._known: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str, limit: int) -> list[int]:
        """The numbers of at most `limit` tokens, the marks of begin and end included."""
        found = [self._ids[_BEGIN]]
        for word in _words(text):
            found.extend(self._pieces(word))
            if len(found) >= limit:
                del found[limit - 1 :]
                break
        found.append(self._ids[_END])
        return found

    def _pieces(self, word: str) -> tuple[int, ...]:
        known = self._known.get(word)
        if known is None:
            known = tuple(self._cut(word))
            if len(self._known) >= 20_000:
                self._known.clear()
            self._known[word] = known
        return known

    def _cut(self, word: str) -> list[int]:
        if len(word) > _MAX_WORD:
            return [self._unknown]
        pieces: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(f"##{word[start:end]}" if start else word[:end])
                if piece is not None:
                    pieces.append(piece)
                    start = end
                    break
            else:
                return [self._unknown]
        return pieces


def _words(text: str) -> Iterator[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFD", text.lower())
    word: list[str] = []
    for character in text.lower():
        if character.isalnum() and character.isascii():
            word.append(character)
            continue
        category = unicodedata.category(character)
        if category == "Mn" or (category[0] == "C" and character not in "\t\n\r"):
            continue
        alone = _is_punctuation(character, category) or _is_ideograph(character)
        if not alone and not character.isspace():
            word.append(character)
            continue
        if word:
            yield "".join(word)
            word = []
        if alone:
            yield character
    if word:
        yield "".join(word)


def _is_punctuation(character: str, category: str) -> bool:
    return category[0] == "P" or (character.isascii() and not character.isalnum() and not character.isspace())


def _is_ideograph(character: str) -> bool:
    code = ord(character)
    return code >= 0x3400 and any(first <= code <= last for first, last in _IDEOGRAPHS)
