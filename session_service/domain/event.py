"""Events: what callers append, what the service itself adds, and what lies in the log."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from session_service.domain.session import RunOutcome, Session, Usage

OWN_ID_PREFIX = "session/"
"""Ids that begin so belong to the service's own events; no caller may use them."""

MAX_ANSWER_BYTES = 3 * 1024 * 1024
"""Payloads that one answer or frame holds together, unless a single one is larger: a gRPC client that is left as it is
takes messages of 4 MiB, and would get no further than one that is longer."""


class EventKind(IntEnum):
    """What happened. The numbers are those of the contract's oneof fields, and are what the log stores."""

    MESSAGE = 8
    TOOL_CALLED = 9
    TOOL_RETURNED = 10
    RUN_STARTED = 11
    RUN_FINISHED = 12
    RUN_RETRYING = 13
    SESSION_CREATED = 16
    SESSION_UPDATED = 17
    SESSION_RESET = 18
    SESSION_ARCHIVED = 19
    SESSION_UNARCHIVED = 20
    SESSION_DELETED = 21
    SESSION_UNDELETED = 22
    SUMMARY = 23
    EXPIRY_WARNED = 24
    DECISION_REQUESTED = 25
    SESSION_MERGED = 26


APPENDABLE = frozenset(
    {
        EventKind.MESSAGE,
        EventKind.TOOL_CALLED,
        EventKind.TOOL_RETURNED,
        EventKind.RUN_STARTED,
        EventKind.RUN_FINISHED,
        EventKind.RUN_RETRYING,
        EventKind.SUMMARY,
        EventKind.DECISION_REQUESTED,
    }
)
"""Kinds that callers append; all others are the service's own."""

CONTEXT_KINDS = frozenset({EventKind.MESSAGE, EventKind.TOOL_CALLED, EventKind.TOOL_RETURNED})
"""Kinds that a model's context is made of."""

SESSION_KINDS = frozenset(EventKind) - CONTEXT_KINDS - {EventKind.SUMMARY}
"""Lifecycle and run events: those after which a watcher wants to see the session again."""


class Role(IntEnum):
    UNSPECIFIED = 0
    USER = 1
    ASSISTANT = 2
    SYSTEM = 3


class Message(NamedTuple):
    """What the session's row keeps of a message: `text` is its beginning, at most PREVIEW_LENGTH characters."""

    role: Role
    text: str


class RunStart(NamedTuple):
    attempt: int


class RunEnd(NamedTuple):
    outcome: RunOutcome
    error_message: str
    start_time: int | None
    usage: Usage | None


class Summary(NamedTuple):
    through_sequence: int


class NewEvent(NamedTuple):
    """An event to be appended. `payload` is opaque here: the contract's event without the fields the service sets."""

    id: str
    kind: EventKind
    run: str
    payload: bytes
    detail: Message | RunStart | RunEnd | Summary | None = None


class Ensure(NamedTuple):
    """How an append creates a missing session. `created_by` is the appending principal."""

    created_by: str
    created_via: str
    user_created: bool
    parent: str


class Append(NamedTuple):
    """Events for one session, appended together or not at all. `epoch` 0 means without a lease."""

    bot: str
    session_id: str
    events: Sequence[NewEvent]
    epoch: int = 0
    expected_uid: str = ""
    ensure: Ensure | None = None
    return_session: bool = False


class Known(NamedTuple):
    """What the log says about an event id that is already there."""

    sequence: int
    kind: int
    run: str


class StoredEvent(NamedTuple):
    """A line of the log. `position` is its place among the events of all sessions: dense, in commit order.

    `epoch` is the session's mark after the event, known only of events just committed; 0 otherwise.
    """

    position: int
    session: int
    bot: str
    session_id: str
    sequence: int
    uid: str
    kind: int
    run: str
    create_time: int
    payload: bytes
    epoch: int = 0
    detail: Message | RunStart | RunEnd | Summary | None = None


class Appended(NamedTuple):
    """The fate of an append: a sequence for each event and whether it was there before."""

    sequences: Sequence[int]
    duplicates: Sequence[bool]
    session: Session | None
