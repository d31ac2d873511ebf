"""Labels: names that people give to sessions, so two that a person cannot tell apart must not both exist."""

import unicodedata

from chassis.errors import field_invalid
from session_service.domain import errors

MAX_LABEL_LENGTH = 512

# Control, format (bidi, zero width), private use, unassigned, surrogates, and separators other than the space.
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})
# Variation selectors choose a drawing of the character before them; alone they cannot be seen.
_VARIATION_SELECTORS = dict.fromkeys([*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])


def normalise_label(text: str) -> str:
    """The label as it is stored: NFC, without outer spaces, inner runs of spaces made one.

    Raises:
        LabelConfusable: it holds a character that cannot be seen.
        InvalidArgument: FIELD_INVALID; it is longer than MAX_LABEL_LENGTH characters.
    """
    for character in text:
        if unicodedata.category(character) in _UNSEEN:
            raise errors.LabelConfusable(text, character)
    label = " ".join(unicodedata.normalize("NFC", text).split())
    if len(label) > MAX_LABEL_LENGTH:
        raise field_invalid("session.label", f"must not be longer than {MAX_LABEL_LENGTH} characters")
    return label


def label_key(label: str) -> str:
    """What is unique within a bot: equal for labels that differ in case or form only."""
    folded = unicodedata.normalize("NFKC", label.translate(_VARIATION_SELECTORS)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
