"""Which memories a call is about."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias, assert_never

from memory_service.domain.memory import Kind, Memory, Source

Scalar: TypeAlias = str | float | bool


class TimeField(IntEnum):
    EVENT_TIME = 1
    CREATE_TIME = 2
    UPDATE_TIME = 3
    USE_TIME = 4
    EXPIRE_TIME = 5


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` (inclusive) to `end` (exclusive); None leaves a side open."""

    field: TimeField
    start: datetime | None
    end: datetime | None


class Operator(IntEnum):
    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    LESS_OR_EQUAL = 4
    GREATER = 5
    GREATER_OR_EQUAL = 6
    CONTAINS = 7
    IN = 8
    EXISTS = 9
    NOT_EXISTS = 10


@dataclass(frozen=True, slots=True)
class Condition:
    """`values` holds the one value to compare with, several for IN, and none for EXISTS and NOT_EXISTS."""

    path: tuple[str, ...]
    operator: Operator
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a bot's memory; every set field must hold, and with none of them set it is the whole."""

    kinds: frozenset[Kind] = frozenset()
    tags: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()

    def holds(self, memory: Memory) -> bool:
        """Deleted memories are in no slice: they are their owner's to bring back."""
        content = memory.content
        return (
            not memory.is_deleted
            and (not self.kinds or content.kind in self.kinds)
            and (not self.tags or not self.tags.isdisjoint(content.tags))
            and (not self.sessions or memory.provenance.session in self.sessions)
        )


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """Every set field must hold; the empty filter selects all. `slices`, unless None, must one of them hold it."""

    kinds: frozenset[Kind] = frozenset()
    all_tags: frozenset[str] = frozenset()
    any_tags: frozenset[str] = frozenset()
    authors: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()
    time_ranges: tuple[TimeRange, ...] = ()
    conditions: tuple[Condition, ...] = ()
    pinned: bool | None = None
    min_importance: float = 0.0
    sources: frozenset[Source] = frozenset()
    run_id: str = ""
    slices: tuple[Slice, ...] | None = None


def meets(conditions: tuple[Condition, ...], metadata: str) -> bool:
    """Whether a memory's metadata (JSON text, empty for none) fulfils all conditions."""
    if not conditions:
        return True
    document: object = json.loads(metadata) if metadata else {}
    return all(_holds(condition, document) for condition in conditions)


class _Absent:
    """Not None, which JSON has too."""


_ABSENT = _Absent()


def _holds(condition: Condition, document: object) -> bool:
    found = _at(document, condition.path)
    match condition.operator:
        case Operator.EXISTS:
            return not isinstance(found, _Absent)
        case Operator.NOT_EXISTS:
            return isinstance(found, _Absent)
        case Operator.NOT_EQUAL:
            return not _equal(found, condition.values[0])
        case Operator.EQUAL | Operator.IN:
            return any(_equal(found, value) for value in condition.values)
        case Operator.CONTAINS:
            return _contains(found, condition.values[0])
        case Operator.LESS | Operator.LESS_OR_EQUAL | Operator.GREATER | Operator.GREATER_OR_EQUAL:
            return _in_order(condition.operator, found, condition.values[0])
        case _:
            assert_never(condition.operator)


def _at(document: object, path: tuple[str, ...]) -> object:
    found: object = document
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return _ABSENT
        found = found[key]
    return found


def _kind(value: object) -> type:
    """True is no number here, though it is one to Python."""
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, (int, float)) else type(value)


def _equal(found: object, value: Scalar) -> bool:
    return _kind(found) is _kind(value) and found == value


def _contains(found: object, value: Scalar) -> bool:
    if isinstance(found, list):
        return any(_equal(each, value) for each in found)
    return isinstance(found, str) and isinstance(value, str) and value in found


def _in_order(operator: Operator, found: object, value: Scalar) -> bool:
    if isinstance(found, str) and isinstance(value, str):
        order = (found > value) - (found < value)
    elif _kind(found) is float and _kind(value) is float:
        order = (found > value) - (found < value)  # type: ignore[operator]  # both are numbers
    else:
        return False
    return {
        Operator.LESS: order < 0,
        Operator.LESS_OR_EQUAL: order <= 0,
        Operator.GREATER: order > 0,
        Operator.GREATER_OR_EQUAL: order >= 0,
    }[operator]
