"""What sessions consumed, by day (UTC)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from session_service.domain.session import NO_USAGE, Usage

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums. `run_time` in microseconds. Copies that a fork or a merge made count nowhere: they were paid for once."""

    message_count: int = 0
    run_count: int = 0
    run_time: int = 0
    usage: Usage = NO_USAGE

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            self.message_count + other.message_count,
            self.run_count + other.run_count,
            self.run_time + other.run_time,
            self.usage.plus(other.usage),
        )


NOTHING = Tally()


def day_of(time: int) -> int:
    """Days since 1970 of a time in microseconds."""
    return time // DAY_US


def day_name(day: int) -> str:
    """ "2026-11-21"."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
