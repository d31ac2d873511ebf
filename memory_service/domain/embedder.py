"""What a maker of vectors is, and what it embeds of a memory."""

import sys
from array import array
from dataclasses import dataclass
from enum import IntEnum


class Shape(IntEnum):
    """NOTES: each text alone. DIALOGUE: each text, and each with the turn before it; the vector is their mean."""

    NOTES = 1
    DIALOGUE = 2


@dataclass(frozen=True, slots=True)
class Model:
    """`fingerprint` tells its vectors from any other's; vectors of two are never mixed."""

    name: str
    dimension: int
    fingerprint: str
    model: str = ""


def floats(vector: bytes) -> "array[float]":
    """The numbers of a vector that is stored or sent as little-endian 32-bit floats."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


@dataclass(frozen=True, slots=True)
class VectorSet:
    """The vectors of one namespace by one model. One set serves; another may be in the making."""

    key: int
    namespace: int
    model: Model
    shape: Shape
    serving: bool
