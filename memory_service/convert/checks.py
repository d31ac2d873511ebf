"""The rules that field comments state, each as one function that returns the value or raises FIELD_INVALID."""

import json
import math
from collections.abc import Collection
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from google.protobuf import json_format, struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import field_invalid
from memory_service.domain.errors import MemoryMetadataTooLarge

E = TypeVar("E", bound=IntEnum)
N = TypeVar("N", int, float)

MAX_REQUEST_ID = 128
MAX_ETAG = 128
_METADATA_BYTES = 16 * 1024
_METADATA_LEVELS = 8


class _HasField(Protocol):
    def HasField(self, field_name: Any) -> bool: ...  # noqa: ANN401 - protobuf's own


def text(field: str, value: str, maximum: int, *, minimum: int = 0) -> str:
    """Free text of `minimum` to `maximum` characters; the zero character, which no store keeps, is refused."""
    if not minimum <= len(value) <= maximum:
        rule = f"must be {minimum} to {maximum} characters" if minimum else f"must be at most {maximum} characters"
        raise field_invalid(field, f"{rule} (was {len(value)})")
    return no_nul(field, value)


def no_nul(field: str, value: str) -> str:
    if "\0" in value:
        raise field_invalid(field, "must not contain the character U+0000")
    return value


def text_bytes(field: str, value: str, maximum: int) -> str:
    size = len(value.encode())
    if size > maximum:
        raise field_invalid(field, f"must be at most {maximum} bytes of UTF-8 (was {size})")
    return no_nul(field, value)


def required(field: str, given: object) -> None:
    if not given:
        raise field_invalid(field, "is required")


def between(field: str, value: N, minimum: N, maximum: N) -> N:
    if not math.isfinite(value) or not minimum <= value <= maximum:
        raise field_invalid(field, f"must be {minimum} to {maximum} (was {value})")
    return value


def at_most(field: str, values: Collection[Any], maximum: int) -> None:
    if len(values) > maximum:
        raise field_invalid(field, f"must hold at most {maximum} entries (has {len(values)})")


def texts(field: str, values: Collection[str], count: int, maximum: int) -> tuple[str, ...]:
    """At most `count` texts, none of them empty, each at most `maximum` characters."""
    at_most(field, values, count)
    return tuple(text(f"{field}[{index}]", value, maximum, minimum=1) for index, value in enumerate(values))


def unique(field: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise field_invalid(field, f"must hold each entry once ({twice!a} is there twice)")
    return values


def member(field: str, kind: type[E], number: int, default: E) -> E:
    """The enum's value; 0, which every enum has for "not said", is the default."""
    if number == 0:
        return default
    try:
        return kind(number)
    except ValueError:
        raise field_invalid(field, f"must be a known value (was {number})") from None


def named(field: str, kind: type[E], number: int) -> E:
    """The enum's value; 0 names none and is refused like an unknown one."""
    try:
        return kind(number)
    except ValueError:
        raise field_invalid(field, f"must be a known value (was {number})") from None


def seconds(field: str, message: _HasField, name: str, minimum: float, maximum: float) -> float | None:
    """The duration `message.name` in seconds within bounds; None when it is absent."""
    if not message.HasField(name):
        return None
    duration: Duration = getattr(message, name)
    value = duration.seconds + duration.nanos / 1e9
    if not minimum <= value <= maximum:
        raise field_invalid(field, f"must be {minimum:.12g} s to {maximum:.12g} s (was {value:.12g} s)")
    return value


def time(field: str, message: _HasField, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    if not -62_135_596_800 <= timestamp.seconds <= 253_402_300_799 or not 0 <= timestamp.nanos <= 999_999_999:
        raise field_invalid(field, "is not a valid time")
    return timestamp.ToDatetime(UTC)


def metadata(field: str, message: _HasField, name: str) -> str:
    """The object `message.name` as JSON text; empty when it is absent.

    Raises:
        MemoryMetadataTooLarge: more than 16 KiB, or more than 8 levels.
    """
    if not message.HasField(name):
        return ""
    value: struct_pb2.Struct = getattr(message, name)
    try:
        document = json_format.MessageToDict(value)
        content = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    except (json_format.Error, ValueError, RecursionError):
        raise field_invalid(field, "must be a JSON object with finite numbers") from None
    size = len(content.encode())
    if size > _METADATA_BYTES:
        raise MemoryMetadataTooLarge(field, "bytes", size, _METADATA_BYTES)
    levels = _levels(document)
    if levels > _METADATA_LEVELS:
        raise MemoryMetadataTooLarge(field, "levels", levels, _METADATA_LEVELS)
    return content


def _levels(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((_levels(each) for each in inner), default=0)
