"""The database's clock, so that replicas agree about when a lease ends, whatever their own clocks say."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# An answer that took longer says little about when it was made.
_MAX_DOUBT_S = 0.25
_MAX_AGE_S = 10.0


class DatabaseClock:
    """A `chassis.clock.Clock` that was told the database's time lately and counts on from there by itself.

    Between two looks the machine's steady clock counts, which does not jump when somebody sets the time of day.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._anchor: datetime | None = None
        self._anchor_s = 0.0

    def now(self) -> datetime:
        if self._anchor is None:
            raise RuntimeError("the database's clock was not read yet")
        return self._anchor + timedelta(seconds=self._monotonic() - self._anchor_s)

    def age_s(self) -> float:
        """Seconds since the last look."""
        return self._monotonic() - self._anchor_s if self._anchor is not None else float("inf")

    def steady_s(self) -> float:
        """To be read before and after asking the database."""
        return self._monotonic()

    def told(self, there: datetime, before_s: float, after_s: float) -> None:
        """The database said `there` at some time between the two readings of `steady_s`."""
        if after_s - before_s > _MAX_DOUBT_S and self.age_s() < _MAX_AGE_S:
            return
        self._anchor, self._anchor_s = there.astimezone(UTC), (before_s + after_s) / 2
