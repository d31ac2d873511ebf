"""Labels: names that people give to sessions, so two that a person cannot tell apart must not both exist.

The nickname profile of PRECIS (RFC 8266) says what a label may hold and which labels are the same; the skeletons of
Unicode's UTS 39 say which ones look the same.
"""

import unicodedata
from functools import cache

from precis_i18n import get_profile

from chassis.errors import field_invalid
from session_service.domain import errors, look_alikes

MAX_LABEL_LENGTH = 512

# Variation selectors choose a drawing of the symbol before them; PRECIS knows none, people type them with emoji.
_VARIATION_SELECTORS = dict.fromkeys([*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])


def normalise_label(text: str) -> str:
    """The label as it is stored: NFKC, without outer spaces, inner runs of spaces made one.

    Raises:
        LabelConfusable: it holds a character that cannot be seen or has no meaning, or a word that mixes letters of
            several scripts which look alike.
        InvalidArgument: FIELD_INVALID; it is longer than MAX_LABEL_LENGTH characters.
    """
    if len(text) > MAX_LABEL_LENGTH:
        raise field_invalid("session.label", f"must not be longer than {MAX_LABEL_LENGTH} characters")
    if text.isascii():
        label = " ".join(text.split(" ")).strip(" ") if text.isprintable() else _enforced(text)
        return " ".join(label.split())
    bare = _enforced(text.translate(_VARIATION_SELECTORS))
    mixed = look_alikes.mixed_letter(bare)
    if mixed is not None:
        raise errors.LabelConfusable(text, mixed, f"mixes letters of several scripts that look alike in {bare!r}")
    return " ".join(unicodedata.normalize("NFKC", _with_drawn_symbols(text)).split())


def label_key(label: str) -> str:
    """What is unique within a bot: equal for labels that differ in case or form only."""
    bare = label.translate(_VARIATION_SELECTORS)
    folded = unicodedata.normalize("NFKC", bare).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def label_skeleton(label: str) -> str:
    """Equal for labels that look alike, whatever they are made of and whatever their case."""
    bare = unicodedata.normalize("NFKC", label.translate(_VARIATION_SELECTORS))
    return look_alikes.skeleton(look_alikes.skeleton(bare).casefold())


def _enforced(text: str) -> str:
    """`text` as the nickname profile wants it, "" for nothing but spaces."""
    if not text.strip():
        return ""
    try:
        return str(_profile().enforce(text))
    except UnicodeEncodeError as refusal:
        character = text[min(refusal.start, len(text) - 1)]
        raise errors.LabelConfusable(text, character, f"must not contain U+{ord(character):04X}") from None


def _with_drawn_symbols(text: str) -> str:
    """Without variation selectors that do not stand behind a symbol: there they would tell equal labels apart."""
    kept: list[str] = []
    for character in text:
        if ord(character) in _VARIATION_SELECTORS and not (kept and unicodedata.category(kept[-1]) == "So"):
            continue
        kept.append(character)
    return "".join(kept)


@cache
def _profile():  # type: ignore[no-untyped-def]  # noqa: ANN202 - the library has no types
    return get_profile("NicknameCasePreserved")
