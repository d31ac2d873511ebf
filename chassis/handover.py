"""Lets the threads of a store have their turn when the event loop is saturated.

CPython hands its lock to a waiting thread only when the holder sleeps or has kept it for a whole switch interval. A
saturated loop does neither: it lets go for the microsecond of an empty poll and takes the lock back before the other
thread has woken. Measured on 2 cores with a loop that never rests: a commit that takes 0.2 ms waited 300 to 1,500 ms.
With the pauses below the same commit takes 4 ms, for 15 % of the loop's time, and nothing at all while the loop rests.
"""

import asyncio
import time

_PERIOD_S = 0.001
_PAUSE_S = 0.0002
_SATURATED_SHARE = 0.5


class Handover:
    """Counts the work that threads have in hand; pauses the loop briefly when it is overdue and the loop never rests.

    All methods belong to the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outstanding = 0
        self._progress = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A thread has been given work."""
        self._outstanding += 1
        if self._timer is None:
            self._arm()

    def end(self) -> None:
        """A thread has handed its work back."""
        self._outstanding -= 1
        self._progress += 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._seen = self._progress
        self._wall_s, self._cpu_s = time.monotonic(), time.thread_time()
        self._timer = self._loop.call_later(_PERIOD_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._outstanding:
            return
        if self._progress == self._seen:
            busy_s, passed_s = time.thread_time() - self._cpu_s, time.monotonic() - self._wall_s
            if busy_s > _SATURATED_SHARE * passed_s:
                time.sleep(_PAUSE_S)  # blocking is the purpose: only a sleeping holder gives the lock away
        self._arm()
