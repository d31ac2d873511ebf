"""Which of a schedule's times are sent, and what comes next. Times are microseconds since 1970, UTC."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MISSED_AFTER_US: Final = 60_000_000
"""A time that passed longer ago than this was missed; one that passed just now is merely looked at late."""
OVERTAKEN_AFTER_US: Final = 5_000_000
"""The same for a time whose next one has passed too: a schedule that runs often was not looked at for a while."""
MAX_RUNS: Final = 100
_MAX_TIMES: Final = 1_000_000


class MissedRuns(IntEnum):
    """What becomes of missed times."""

    SKIP = 1
    RUN_ONCE = 2
    RUN_ALL = 3


@dataclass(frozen=True, slots=True)
class DueTimes:
    """`sent` are the times to send for, oldest first; `next_us` is the first time after now, None for never."""

    sent: tuple[int, ...]
    next_us: int | None


def due_times(times: Iterator[int], now_us: int, missed: MissedRuns) -> DueTimes:
    """Looks at a schedule's times, which grow, from the first one that was not looked at before.

    Of missed times at most the newest 100 are sent for, with RUN_ONCE the newest alone, and not even that if one that
    is not missed stands for them; those that are not missed are all sent for, but no more than 100.
    """
    passed: deque[int] = deque(maxlen=MAX_RUNS)
    following: int | None = None
    for count, at_us in enumerate(times):
        if at_us > now_us or count >= _MAX_TIMES:
            following = at_us
            break
        passed.append(at_us)
    newest_us = passed[-1] if passed else 0
    fresh = [
        at_us for at_us in passed if now_us - at_us <= (MISSED_AFTER_US if at_us == newest_us else OVERTAKEN_AFTER_US)
    ]
    if missed is MissedRuns.RUN_ALL:
        sent = list(passed)
    elif missed is MissedRuns.RUN_ONCE and not fresh:
        sent = list(passed)[-1:]
    else:
        sent = fresh
    return DueTimes(tuple(sent), following)


def interval_times(anchor_us: int, interval_us: int, from_us: int, now_us: int) -> Iterator[int]:
    """The times of an interval that begins at `anchor_us`, from `from_us` on; of passed ones about the newest 100."""
    first = max(from_us, now_us - (MAX_RUNS + 1) * interval_us)
    number = max(1, -((anchor_us - first) // interval_us))
    while True:
        yield anchor_us + number * interval_us
        number += 1
