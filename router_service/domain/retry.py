"""What follows an attempt that ended badly."""

from collections.abc import Callable
from dataclasses import dataclass

from router_service.domain.state import MessageState


@dataclass(frozen=True, slots=True)
class Backoff:
    """Capped exponential backoff with full jitter; waits in microseconds."""

    initial_us: int = 1_000_000
    maximum_us: int = 60_000_000

    def ceiling_us(self, failures: int) -> int:
        """The longest wait after `failures` (from 1) failed attempts."""
        # Shifting further would only make numbers that the cap cuts off anyway.
        return min(self.initial_us << min(failures - 1, 40), self.maximum_us)

    def delay_us(self, failures: int, random: Callable[[], float]) -> int:
        """A wait between 0 and the ceiling; `random` gives numbers from 0 up to 1."""
        return int(self.ceiling_us(failures) * random())


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """`retry_delay_us` is the worker's own wish, None for the backoff."""

    attempts: int
    max_attempts: int
    retryable: bool
    cancelled: bool
    retry_delay_us: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` is QUEUED when another attempt follows after `delay_us`."""

    state: MessageState
    delay_us: int = 0


def judge(attempt: FailedAttempt, *, cancel_requested: bool, backoff: Backoff, random: Callable[[], float]) -> Verdict:
    """What becomes of a message after a failed attempt. A cancelled run is never tried again."""
    if attempt.cancelled or cancel_requested:
        return Verdict(MessageState.CANCELLED)
    if not attempt.retryable:
        return Verdict(MessageState.FAILED)
    if attempt.attempts >= attempt.max_attempts:
        return Verdict(MessageState.DEAD_LETTERED)
    delay_us = attempt.retry_delay_us
    if delay_us is None:
        delay_us = backoff.delay_us(attempt.attempts, random)
    return Verdict(MessageState.QUEUED, max(0, delay_us))
