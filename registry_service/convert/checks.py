"""The rules that field comments state, each as one function that returns the value or raises FIELD_INVALID."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import orjson
from google.protobuf import json_format, struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import field_invalid

N = TypeVar("N", int, float)

_LABEL_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
_CAPABILITY_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_JSON_BYTES = 16 * 1024
_MAX_LABELS = 64
_MAX_LABEL_VALUE = 128


class _HasField(Protocol):
    def HasField(self, field_name: Any) -> bool: ...  # noqa: ANN401 - protobuf's own


def text(field: str, value: str, maximum: int, *, minimum: int = 0) -> str:
    """Free text of `minimum` to `maximum` characters; the zero character, which no store keeps, is refused."""
    if not minimum <= len(value) <= maximum:
        rule = f"must be {minimum} to {maximum} characters" if minimum else f"must be at most {maximum} characters"
        raise field_invalid(field, f"{rule} (was {len(value)})")
    if "\0" in value:
        raise field_invalid(field, "must not contain the character U+0000")
    return value


def printable(field: str, value: str, maximum: int) -> str:
    """A line for people: no control characters, no line breaks."""
    if not text(field, value, maximum).isprintable():
        raise field_invalid(field, "must hold printable characters only")
    return value


def text_bytes(field: str, value: str, maximum: int) -> str:
    size = len(value.encode())
    if size > maximum:
        raise field_invalid(field, f"must be at most {maximum} bytes of UTF-8 (was {size})")
    return text(field, value, maximum)


def required(field: str, given: object) -> None:
    if not given:
        raise field_invalid(field, "is required")


def between(field: str, value: N, minimum: N, maximum: N) -> N:
    if not minimum <= value <= maximum or not math.isfinite(value):
        raise field_invalid(field, f"must be {minimum} to {maximum} (was {value})")
    return value


def not_negative(field: str, value: int) -> int:
    if value < 0:
        raise field_invalid(field, f"must not be negative (was {value})")
    return value


def at_most(field: str, values: Collection[Any], maximum: int) -> None:
    if len(values) > maximum:
        raise field_invalid(field, f"must hold at most {maximum} entries (has {len(values)})")


def unique(field: str, values: Iterable[str]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for value in values:
        if value in seen:
            raise field_invalid(field, f"must hold each entry once ({value} is there twice)")
        seen[value] = None
    return tuple(seen)


def texts(field: str, values: Collection[str], count: int, maximum: int) -> tuple[str, ...]:
    """At most `count` texts, none of them empty, each at most `maximum` characters."""
    at_most(field, values, count)
    return tuple(text(f"{field}[{index}]", value, maximum, minimum=1) for index, value in enumerate(values))


def labels(field: str, values: Mapping[str, str], *, count: int = _MAX_LABELS) -> dict[str, str]:
    at_most(field, values, count)
    for key, value in values.items():
        if not _LABEL_KEY.fullmatch(key):
            raise field_invalid(
                field, f"keys must match ^{_LABEL_KEY.pattern}$ (was {key[:80]!a})", key=ascii(key[:80])
            )
        text(f"{field}.{key}", value, _MAX_LABEL_VALUE)
    return dict(values)


def capability_id(field: str, value: str) -> str:
    return _matching(field, value, _CAPABILITY_ID)


def environment_name(field: str, value: str) -> str:
    """The name of an environment variable, or nothing. Whoever puts a key here shall not see it in the message."""
    if value and not _ENVIRONMENT_NAME.fullmatch(value):
        raise field_invalid(
            field,
            f"must be the NAME of an environment variable, matching ^{_ENVIRONMENT_NAME.pattern}$, never a secret",
        )
    return value


def set_name(field: str, value: str) -> str:
    return _matching(field, value, _SET_NAME) if value else value


def seconds(field: str, message: _HasField, name: str, minimum: float, maximum: float) -> float | None:
    """The duration `message.name` in seconds within bounds; None when it is absent."""
    if not message.HasField(name):
        return None
    duration: Duration = getattr(message, name)
    if not -315_576_000_000 <= duration.seconds <= 315_576_000_000 or abs(duration.nanos) > 999_999_999:
        raise field_invalid(field, "is not a valid duration")
    value = duration.seconds + duration.nanos / 1e9
    if not minimum <= value <= maximum:
        raise field_invalid(field, f"must be {minimum:g} s to {maximum:g} s (was {value:g} s)")
    return value


def span(field: str, message: _HasField, name: str, maximum: timedelta) -> timedelta | None:
    """The duration `message.name`, 0 to `maximum`; None when it is absent."""
    value = seconds(field, message, name, 0, maximum.total_seconds())
    return None if value is None else timedelta(seconds=value)


def time(field: str, message: _HasField, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    if not -62_135_596_800 <= timestamp.seconds <= 253_402_300_799 or not 0 <= timestamp.nanos <= 999_999_999:
        raise field_invalid(field, "is not a valid time")
    return timestamp.ToDatetime(UTC)


def struct(field: str, message: _HasField, name: str) -> dict[str, Any] | None:
    """The object `message.name`, at most 16 KiB as JSON; None when it is absent."""
    if not message.HasField(name):
        return None
    value: struct_pb2.Struct = getattr(message, name)
    try:
        document: dict[str, Any] = json_format.MessageToDict(value)
    except (json_format.Error, ValueError, RecursionError):
        raise field_invalid(field, "must be a JSON object with finite numbers") from None
    size = len(orjson.dumps(document))
    if size > _JSON_BYTES:
        raise field_invalid(field, f"must be at most {_JSON_BYTES} bytes as JSON (was {size})")
    return document


def _matching(field: str, value: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(value):
        raise field_invalid(field, f"must match ^{pattern.pattern}$ (was {value[:80]!a})")
    return value
