"""When a process that died is started again, and when the supervisor stops trying. Pure: time and chance come in."""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """All times in seconds.

    The n-th restart in a row waits `first_delay_s * 2**n`, at most `longest_delay_s`, shortened by a random part of
    up to half so that processes that died together do not come back together. A process that was healthy for
    `healthy_after_s` starts at the first delay again. `give_up_deaths` within `give_up_window_s` end the attempt.
    """

    first_delay_s: float = 0.2
    longest_delay_s: float = 10.0
    healthy_after_s: float = 30.0
    give_up_deaths: int = 8
    give_up_window_s: float = 60.0
    start_timeout_s: float = 60.0
    """How long a process may take to become ready before it counts as dead."""
    stop_grace_s: float = 10.0
    """How long a process may take to drain before it is killed."""


class Deaths:
    """The deaths of one process."""

    def __init__(self, policy: RestartPolicy, chance: random.Random) -> None:
        self._policy = policy
        self._chance = chance
        self._times: deque[float] = deque(maxlen=policy.give_up_deaths)
        self._in_a_row = 0

    def record(self, now: float, healthy_s: float) -> float | None:
        """Notes a death at `now` (monotonic) after `healthy_s` of service (0 if it never became ready).

        Returns the delay before the next start, or None when there have been too many.
        """
        policy = self._policy
        self._times.append(now)
        if len(self._times) == policy.give_up_deaths and now - self._times[0] <= policy.give_up_window_s:
            return None
        if healthy_s >= policy.healthy_after_s:
            self._in_a_row = 0
        # The exponent is bounded because a process that dies for weeks must not overflow a float.
        delay = min(policy.longest_delay_s, policy.first_delay_s * 2.0 ** min(self._in_a_row, 32))
        self._in_a_row += 1
        return delay * self._chance.uniform(0.5, 1.0)
