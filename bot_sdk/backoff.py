"""How long to wait before trying again: capped exponential with jitter, so that many workers do not come at once."""

import random


class Backoff:
    """Delays in seconds; each is random between half and all of a bound that doubles up to `cap_s`."""

    def __init__(self, *, first_s: float = 0.1, cap_s: float = 5.0, generator: random.Random | None = None) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._random = generator or random.Random()
        self._bound_s = first_s

    def next_s(self, at_least_s: float | None = None) -> float:
        """The next delay; never below what the service asked for."""
        delay = self._bound_s * self._random.uniform(0.5, 1.0)
        self._bound_s = min(self._cap_s, self._bound_s * 2)
        return max(delay, at_least_s or 0.0)

    def reset(self) -> None:
        """After something worked."""
        self._bound_s = self._first_s
