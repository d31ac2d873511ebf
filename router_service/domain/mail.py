"""Messages and leases as the router holds them in memory. Times are microseconds since 1970, UTC."""

from dataclasses import dataclass

from router_service.domain.state import BusyMode, MessageState


@dataclass(slots=True, eq=False)
class NewMessage:
    """A checked message on its way into a mailbox.

    `draft` is the serialised contract message with defaults filled in. `content_hash` is empty for a message without a
    key of its sender's own. `internal` messages (replies, outboxes) are accepted even by a full mailbox. `origin_id`
    and `origin_run` name the dead letter that a redriven message carries on, else they are empty.
    """

    id: str
    run: str
    session: str
    bot: str
    draft: bytes
    sender: str
    source: str
    content_hash: str = ""
    correlation_id: str = ""
    rank: int = 0
    mode: BusyMode = BusyMode.ENQUEUE
    max_attempts: int = 5
    not_before_us: int = 0
    expire_us: int = 0
    ask_until_us: int = 0
    internal: bool = False
    origin_id: str = ""
    origin_run: str = ""


@dataclass(slots=True, eq=False)
class JoinedMessage:
    """A message that is worked on in the turn of another, or offered to it."""

    message_id: str
    run: str
    session: str
    sender: str
    create_us: int
    origin_id: str
    origin_run: str


@dataclass(slots=True, eq=False)
class Lease:
    """One attempt of a run in a worker's hands. `epoch` may be raised before delivery, everything else is fixed.

    `joined` are further messages of this turn, in order.
    """

    message_id: str
    run: str
    session: str
    bot: str
    worker: str
    epoch: int
    attempt: int
    max_attempts: int
    start_us: int
    create_us: int
    sender: str
    asked: bool
    origin_id: str
    origin_run: str
    expire_us: int
    pulled_until_us: int = 0
    joined: tuple[JoinedMessage, ...] = ()


@dataclass(slots=True, eq=False)
class EndedRun:
    """A run that reached its terminal state. `epoch` is what its last event is appended with, 0 for no fence."""

    message_id: str
    run: str
    session: str
    bot: str
    state: MessageState
    attempts: int
    epoch: int
    start_us: int
    end_us: int
    error_reason: str
    error_message: str
    usage: bytes
    stop_reason: str
    sender: str
    origin_id: str
    origin_run: str


@dataclass(slots=True, eq=False)
class RetryingRun:
    """A run whose attempt ended and that will be tried again at `next_attempt_us`."""

    message_id: str
    run: str
    session: str
    bot: str
    attempt: int
    epoch: int
    next_attempt_us: int
    error_reason: str
    error_message: str


@dataclass(slots=True, eq=False)
class AskedRun:
    """A run that waits for a person. `request` is the serialised question."""

    message_id: str
    run: str
    session: str
    bot: str
    attempt: int
    sender: str
    request: bytes
