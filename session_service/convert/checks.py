"""Rules of single fields, and times."""

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import field_invalid

MIN_TIMESTAMP_US = -62_135_596_800_000_000
MAX_TIMESTAMP_US = 253_402_300_799_999_999
UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, breaks of lines, and what turns the direction of the text around. Joined emoji and spaces of any width are
none of these, nor are characters that are younger than the tables of this Python."""

_MICROS = 1_000_000


def check_text(field: str, value: str, maximum: int, *, lines: bool = False) -> str:
    """`value` if it has at most `maximum` characters and none that cannot be shown; `lines` allows line breaks."""
    if len(value) > maximum:
        raise field_invalid(field, f"must not be longer than {maximum} characters (was {len(value)})")
    if "\0" in value if lines else UNSHOWABLE.search(value):
        raise field_invalid(field, "must not contain control characters")
    return value


def check_count(field: str, items: Sequence[object], *, minimum: int = 0, maximum: int) -> None:
    if not minimum <= len(items) <= maximum:
        raise field_invalid(field, f"must have {minimum} to {maximum} items (has {len(items)})")


def check_not_negative(field: str, value: int) -> int:
    if value < 0:
        raise field_invalid(field, f"must not be negative (was {value})")
    return value


def from_timestamp(field: str, time: Timestamp) -> int:
    """Microseconds since 1970, UTC."""
    micros = time.seconds * _MICROS + time.nanos // 1000
    if not MIN_TIMESTAMP_US <= micros <= MAX_TIMESTAMP_US:
        raise field_invalid(field, "must lie between the years 1 and 9999")
    return micros


def to_timestamp(micros: int | None) -> Timestamp | None:
    if micros is None:
        return None
    seconds, rest = divmod(micros, _MICROS)
    return Timestamp(seconds=seconds, nanos=rest * 1000)
