"""A session: its identity, the fields people edit, and the head that every append moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from string import hexdigits

MAIN_SESSION_ID = "main"


def is_color_code(color: str) -> bool:
    """Whether it is #rrggbb."""
    return len(color) == 7 and color[0] == "#" and all(digit in hexdigits for digit in color[1:])


class SessionState(IntEnum):
    """Whether a session can be used. The numbers are the contract's."""

    ACTIVE = 1
    ARCHIVED = 2
    DELETED = 3


class SessionStatus(IntEnum):
    """What a session is doing. The numbers are the contract's."""

    IDLE = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5
    NEEDS_DECISION = 6


class RunOutcome(IntEnum):
    """How a run ended. The numbers are the contract's."""

    UNSPECIFIED = 0
    SUCCEEDED = 1
    FAILED = 2
    CANCELLED = 3
    EXPIRED = 4
    DEAD_LETTERED = 5
    REJECTED = 6


@dataclass(frozen=True, slots=True)
class Usage:
    """What models consumed. `cost_micros` is in millionths of a US dollar."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    request_count: int = 0
    tool_call_count: int = 0
    cost_micros: int = 0

    def plus(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.request_count + other.request_count,
            self.tool_call_count + other.tool_call_count,
            self.cost_micros + other.cost_micros,
        )


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a session remembers of its newest run."""

    run: str
    outcome: RunOutcome = RunOutcome.UNSPECIFIED
    error_message: str = ""
    start_time: int | None = None
    end_time: int | None = None


@dataclass(frozen=True, slots=True)
class ForkOrigin:
    session: str
    session_uid: str
    sequence: int


@dataclass(slots=True)
class Head:
    """The part of a session that appends move. Loaded, moved and written back inside one transaction.

    `mark` is the highest lease epoch that wrote. `transcript` and `pk` are the store's keys.
    """

    pk: int
    bot: str
    session_id: str
    uid: str
    transcript: int
    state: SessionState
    mark: int = 0
    last_sequence: int = 0
    start_sequence: int = 0
    last_activity_time: int = 0
    status: SessionStatus = SessionStatus.IDLE
    active_runs: tuple[str, ...] = ()
    last_run: RunSummary | None = None
    message_count: int = 0
    usage: Usage = NO_USAGE
    title: str = ""
    preview: str = ""
    summary_sequence: int = 0
    summary_through: int = 0

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/sessions/{self.session_id}"


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that an update may change."""

    label: str = ""
    display_name: str = ""
    persistent: bool = False
    description: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    icon: str = ""
    color: str = ""
    pinned: bool = False
    unread: bool = False
    model: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    expire_time: int | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a session came from; written once."""

    created_by: str
    created_via: str = "operator"
    user_created: bool = False
    parent: str = ""
    lineage: tuple[str, ...] = ()
    spawn_depth: int = 0
    fork_origin: ForkOrigin | None = None
    template: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A whole session. `version` counts changes of `fields` and of the state; it is the etag.

    `expiry_warned` is the expiry that was last warned of; for that one the session is archived at `archive_due`.
    """

    head: Head
    fields: Fields
    provenance: Provenance
    version: int
    create_time: int
    update_time: int
    previous_uid: str = ""
    pin_time: int | None = None
    mark_unread_time: int | None = None
    last_read_time: int | None = None
    archive_time: int | None = None
    delete_time: int | None = None
    purge_time: int | None = None
    expiry_warned: int | None = None
    archive_due: int | None = None

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def etag(self) -> str:
        return f"W{self.version}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A session to be created."""

    bot: str
    session_id: str
    fields: Fields
    provenance: Provenance
