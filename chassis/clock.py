"""Time and identifiers: the seams through which a service learns what time it is and names new things."""

import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol

_RANDOM_BITS = 74
_RANDOM_MASK = (1 << _RANDOM_BITS) - 1
_RAND_B_BITS = 62
_RAND_B_MASK = (1 << _RAND_B_BITS) - 1


class Clock(Protocol):
    """Tells the time. Always UTC and aware."""

    def now(self) -> datetime: ...


class IdFactory(Protocol):
    """Makes a new unique identifier at each call."""

    def __call__(self) -> str: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FakeClock:
    """A clock that moves only when told to. For tests."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock's time must be aware of its zone")
        self._now = now.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Moves time by `by` (which may be negative) and returns the new time."""
        self._now += by
        return self._now


class Uuid7Ids:
    """An `IdFactory` of UUIDs version 7 (RFC 9562), each greater than the last even when the clock steps back.

    Inside one millisecond the 74 random bits grow by a random step (RFC 9562 section 6.2, method 2).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_ms = -1
        self._last_random = 0

    def __call__(self) -> str:
        ms = int(self._clock.now().timestamp() * 1000)
        entropy = int.from_bytes(os.urandom(10), "big")
        with self._lock:
            if ms > self._last_ms:
                # The top bit starts at zero so that a millisecond has room for 2**40 steps before it runs over.
                random = (entropy & _RANDOM_MASK) >> 1
            else:
                ms = self._last_ms
                random = self._last_random + 1 + (entropy & 0xFFFFFFFF)
                if random > _RANDOM_MASK:
                    ms, random = ms + 1, entropy & 0xFFFFFFFF
            self._last_ms, self._last_random = ms, random
        value = (ms << 80) | (7 << 76) | ((random >> _RAND_B_BITS) << 64) | (2 << 62) | (random & _RAND_B_MASK)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
