"""Times and spans of the contract to and from microseconds. 0 stands for absent."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import field_invalid

_MAX_SECONDS = 253_402_300_799  # the end of the year 9999, where the contract's Timestamp ends


def set_time(target: Timestamp, us: int) -> None:
    """Sets a time in place; several times as fast as the library's own conversion."""
    target.seconds, rest = divmod(us, 1_000_000)
    target.nanos = rest * 1_000


def to_us(time: Timestamp, field: str) -> int:
    """Microseconds since 1970, at least 1."""
    if not 0 <= time.seconds <= _MAX_SECONDS or not 0 <= time.nanos < 1_000_000_000:
        raise field_invalid(field, "must be a time from 1970 to 9999")
    return max(1, time.seconds * 1_000_000 + time.nanos // 1_000)


def set_span(target: Duration, us: int) -> None:
    target.seconds, rest = divmod(us, 1_000_000)
    target.nanos = rest * 1_000


def span_us(span: Duration, field: str, *, maximum_s: float) -> int:
    """Microseconds, from 0 to `maximum_s`."""
    us = span.seconds * 1_000_000 + span.nanos // 1_000
    if not 0 <= us <= maximum_s * 1e6:
        raise field_invalid(field, f"must be from 0 to {maximum_s:g} s")
    return us
