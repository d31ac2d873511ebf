"""What is made of each event besides the log: words to be found by, and what it counts for."""

from typing import NamedTuple

from session_service.domain.usage import Tally

VERSION = 1
"""Of the rules by which events become words and tallies. Another one has everything made anew from the log."""


class Derived(NamedTuple):
    """`tally` None: it counts for nothing. No words: it is not to be found. `role` is who speaks, 0 for nobody."""

    position: int
    session: int
    bot: str
    words: list[str]
    role: int
    day: int
    tally: Tally | None


class Progress(NamedTuple):
    """`position`: everything up to it is derived. `head`: the newest event."""

    position: int
    head: int

    @property
    def backlog(self) -> int:
        return max(0, self.head - self.position)
