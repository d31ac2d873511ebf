"""Sessions on their way out of a store and into one: whole, with every transcript and every line of the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from session_service.domain.session import Session


class Transcript(NamedTuple):
    """`kept` is what was written down when it was left (JSON), None for the present one."""

    uid: str
    start_sequence: int
    create_time: int
    kept: str | None


class Line(NamedTuple):
    """A line of the log as it lies there. `uid` is its transcript's; times in microseconds."""

    sequence: int
    uid: str
    event_id: str
    kind: int
    run: str
    create_time: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A whole session. The store's keys in its head have no meaning. `lines` are in order, from 1, without a gap."""

    session: Session
    transcripts: Sequence[Transcript]
    lines: Sequence[Line]


class Arrival(NamedTuple):
    """What became of a parcel. `label_refused`: why it was stored without its label, empty when it has it."""

    event_count: int
    label_refused: str = ""


class Problem(NamedTuple):
    """Something that was skipped. `location` is where in the import, `reason` one of the contract's."""

    location: str
    message: str
    reason: str


LINE_UNREADABLE = "IMPORT_LINE_UNREADABLE"
LINE_TOO_LONG = "IMPORT_LINE_TOO_LONG"
SESSION_REFUSED = "IMPORT_SESSION_REFUSED"
