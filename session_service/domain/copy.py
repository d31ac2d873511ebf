"""Copies of events in another session: what a fork and a merge are made of.

A copy keeps what was said and who said it, names the original it came from, and belongs to no run. Its id follows from
the original, so that the same original never comes twice into one session.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.event import NewEvent

ID_PREFIX = "origin/"


class Origin(NamedTuple):
    """The original of a copy: the session and transcript it was first said in, its sequence there, and when."""

    session: str
    uid: str
    sequence: int
    time: int


class Copy(NamedTuple):
    """An event to be appended to another session.

    `at` is its sequence in the session it is copied from. `covers` is what a summary covers up to there, in sequences
    of that session; None for what is no summary.
    """

    origin: Origin
    at: int
    event: NewEvent
    covers: int | None = None


def copy_id(origin: Origin) -> str:
    content = f"{origin.session}\0{origin.uid}\0{origin.sequence}"
    return ID_PREFIX + hashlib.sha256(content.encode()).hexdigest()[:40]


def in_order(sources: Sequence[Sequence[Copy]]) -> list[Copy]:
    """The copies of several sessions as one sequence: by time, each session in its own order, each original once.

    The order of `sources` does not matter: equal times are ordered by the originals' sessions.
    """
    keyed: list[tuple[tuple[int, str, int], Copy]] = []
    for copies in sources:
        latest = 0
        for place, copy in enumerate(copies):
            # Clocks may go backwards; what was said later in one session stays later.
            latest = max(latest, copy.origin.time)
            keyed.append(((latest, copy.origin.session, place), copy))
    keyed.sort(key=lambda pair: (pair[0], pair[1].origin))
    seen: dict[str, Copy] = {}
    for _, copy in keyed:
        seen.setdefault(copy.event.id, copy)
    return list(seen.values())
