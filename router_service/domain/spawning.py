"""Spawned children as the router holds them in memory."""

from dataclasses import dataclass
from enum import IntEnum


class SpawnState(IntEnum):
    """From the wish to the tidying up; values as stored."""

    WISHED = 1
    ACTIVE = 2
    ENDED = 3
    DONE = 4


class Cleanup(IntEnum):
    """What becomes of a child when its run has ended."""

    KEEP = 1
    ARCHIVE = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class SpawnLimits:
    """`depth`: generations below a session that nobody spawned. `fan_out`: children of one session at work at once."""

    depth: int = 5
    fan_out: int = 16


@dataclass(frozen=True, slots=True)
class NewSpawn:
    """A checked wish. `spawn` is the serialised contract message; `parent` is empty for an operator's."""

    id: str
    run: str
    fingerprint: str
    parent: str
    session: str
    announce: bool
    cleanup: Cleanup
    sender: str
    spawn: bytes


@dataclass(frozen=True, slots=True)
class OpenSpawn:
    """A child whose task is in its mailbox or being worked on."""

    id: str
    run: str
    message_id: str
    session: str
    parent: str
    announce: bool
    cleanup: Cleanup
