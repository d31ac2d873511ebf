"""Characters that look alike, by the data of Unicode's UTS 39: skeletons of texts, and words of mixed letters."""

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

# Scripts with letters that pass for Latin ones. Others are mixed with Latin as a matter of course, as in Japanese.
_ALPHABETS = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "GEORGIAN", "LISU"})
_WORDS = re.compile(r"[^\W\d_]+")


def skeleton(text: str) -> str:
    """Equal for texts that look alike. Not for the eyes of people, and not stable across versions of the data."""
    prototypes = _prototypes()
    mapped = "".join([prototypes.get(character, character) for character in unicodedata.normalize("NFD", text)])
    return unicodedata.normalize("NFD", mapped)


def mixed_letter(text: str) -> str | None:
    """A letter that passes for one of another script within its own word; None when there is none."""
    for word in _WORDS.findall(text):
        if word.isascii():
            continue
        scripts = {_script(character) for character in word}
        if "LATIN" not in scripts or not scripts & _ALPHABETS:
            continue
        passes_for = {character: _look_alike_scripts().get(skeleton(character), frozenset()) for character in word}
        for character in word:
            if _script(character) in _ALPHABETS and "LATIN" in passes_for[character]:
                return str(character)
        for character in word:
            if _script(character) == "LATIN" and scripts & _ALPHABETS & passes_for[character]:
                return str(character)
    return None


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


@cache
def _prototypes() -> Mapping[str, str]:
    """What each character is replaced by in a skeleton: one and the same for all that look alike."""
    groups = _groups()
    chosen: dict[str, str] = {}
    for group in groups:
        best = min(group, key=lambda member: (len(member) == 1, not member.isascii(), member))
        for member in group:
            if len(member) == 1:
                chosen[member] = best
    # A prototype of several characters ("rn" for "m") is made of prototypes itself.
    return {
        character: "".join([chosen.get(part, part) for part in best]) if len(best) > 1 else best
        for character, best in chosen.items()
    }


@cache
def _look_alike_scripts() -> Mapping[str, frozenset[str]]:
    """The alphabets, the Latin of ASCII among them, that have a letter with this skeleton."""
    found: dict[str, set[str]] = {}
    for character, prototype in _prototypes().items():
        script = _script(character)
        if script in _ALPHABETS or (script == "LATIN" and character.isascii()):
            found.setdefault(prototype, set()).add(script)
    return {prototype: frozenset(scripts) for prototype, scripts in found.items()}


def _groups() -> list[set[str]]:
    """The data names pairs; what is connected looks alike."""
    data = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    group_of: dict[str, set[str]] = {}
    for character, alike in data.items():
        group = group_of.setdefault(character, {character})
        for other in (entry["c"] for entry in alike):
            theirs = group_of.get(other, {other})
            if theirs is not group:
                group |= theirs
                for member in theirs:
                    group_of[member] = group
    return list({id(group): group for group in group_of.values()}.values())
