"""Ids of messages."""

import os

from chassis.clock import Clock

_ENTROPY_BYTES = 4_096
_STEP_BITS = 40


class MessageIds:
    """UUIDs of version 7 (RFC 9562), each greater than the last one of this process.

    As `chassis.clock.Uuid7Ids`, with entropy taken from the system by the page: an id is made for every message, and
    asking the system each time cost more than all the rest of making it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entropy = b""
        self._place = 0
        self._last_ms = -1
        self._last_random = 0

    def __call__(self) -> str:
        place = self._place
        if place + 9 > len(self._entropy):
            self._entropy, place = os.urandom(_ENTROPY_BYTES), 0
        self._place = place + 9
        drawn = int.from_bytes(self._entropy[place : place + 9], "big")
        ms = int(self._clock.now().timestamp() * 1_000)
        if ms > self._last_ms:
            random = drawn  # 72 of 74 bits: room to count up within the millisecond
        else:
            ms = self._last_ms
            random = self._last_random + 1 + (drawn & ((1 << _STEP_BITS) - 1))
            if random >> 74:
                ms, random = ms + 1, drawn
        self._last_ms, self._last_random = ms, random
        value = (ms << 80) | (7 << 76) | ((random >> 62) << 64) | (2 << 62) | (random & ((1 << 62) - 1))
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
