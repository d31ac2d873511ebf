"""What can be asked of the mail handler, and what it tells about what it did.

An item is filled in by the handler, afresh if a transaction has to be repeated, and read on the loop after the commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chassis.errors import AppError
from chassis.idempotency import RequestKey
from router_service.domain.mail import AskedRun, EndedRun, JoinedMessage, Lease, NewMessage, RetryingRun
from router_service.domain.state import MessageState
from router_service.store.ticket import Ticket


@dataclass(slots=True, eq=False)
class Offer:
    """Room for one lease, set aside at an attached worker before the write that may use it.

    `attachment` is the number of the worker's stream in this process. `lease_us` is the length of a lease that no
    stream keeps alive, 0 for one that a stream does.
    """

    attachment: int
    worker: str
    bot: str
    lease_us: int = 0


@dataclass(slots=True, eq=False)
class Item:
    """`batch` is what the whole transaction's handler did; `ticket` belongs to whoever waits for the item."""

    ticket: Ticket | None = None
    offer: Offer | None = None
    batch: "Batch | None" = None
    # Set instead of a result when the item was refused.
    refusal: AppError | None = None


@dataclass(slots=True, eq=False)
class Send(Item):
    """Puts a message into its mailbox. `draft` is its content for whoever delivers it; the store does not look."""

    message: NewMessage = field(kw_only=True)
    draft: object = None
    # The receipt.
    id: str = ""
    run: str = ""
    session: str = ""
    state: MessageState = MessageState.QUEUED
    duplicate: bool = False
    queue_position: int = 0


@dataclass(slots=True, eq=False)
class Grant(Item):
    """Leases the head of an idle mailbox to the worker of `offer`."""

    session: str = field(kw_only=True)
    bot: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Settle(Item):
    """Ends an attempt. `offer` is for the next message of the same mailbox. `lease` is None when it is not at hand.

    With `succeeded`: `reply_text`, `usage`, `stop_reason`; `reply` goes to the mailbox of reply_to, unless somebody
    still waits for it; `joined_replies` are those to messages that the turn took in, by their ids; `outbox` is other
    mail. Otherwise: the error, and whether another attempt may help, or in `question` what a person is asked.
    """

    session: str = field(kw_only=True)
    run: str = field(kw_only=True)
    epoch: int = field(kw_only=True)
    succeeded: bool = field(kw_only=True)
    attachment: int = 0
    lease: Lease | None = None
    usage: bytes = b""
    stop_reason: str = ""
    reply_text: str = ""
    reply: NewMessage | None = None
    reply_offer: Offer | None = None
    joined_replies: tuple[tuple[str, NewMessage], ...] = ()
    outbox: tuple[NewMessage, ...] = ()
    question: bytes = b""
    error_reason: str = ""
    error_message: str = ""
    retryable: bool = False
    cancelled: bool = False
    retry_delay_us: int | None = None
    state: MessageState = MessageState.QUEUED


@dataclass(slots=True, eq=False)
class Begin(Item):
    """The worker has begun: LEASED becomes RUNNING."""

    session: str = field(kw_only=True)
    run: str = field(kw_only=True)
    epoch: int = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Join(Item):
    """The turn of `run` has taken in the message that was handed to it. `done` says that it is so now."""

    session: str = field(kw_only=True)
    run: str = field(kw_only=True)
    epoch: int = field(kw_only=True)
    message_id: str = field(kw_only=True)
    done: bool = False


@dataclass(slots=True, eq=False)
class Remember(Item):
    """Remembers a step of a run. `duplicate` says that there was one of this name; the first one stands."""

    session: str = field(kw_only=True)
    run: str = field(kw_only=True)
    epoch: int = field(kw_only=True)
    step: str = field(kw_only=True)
    effect: int = field(kw_only=True)
    result: bytes = field(kw_only=True)
    attachment: int = 0
    duplicate: bool = False


@dataclass(slots=True, eq=False)
class Resolve(Item):
    """Answers the question that was asked at `asked_us`; the run goes on at the head of its mailbox."""

    session: str = field(kw_only=True)
    message_id: str = field(kw_only=True)
    run: str = field(kw_only=True)
    asked_us: int = field(kw_only=True)
    decision: bytes = field(kw_only=True)
    explanation: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Extend(Item):
    """Keeps a lease alive until `now + lease_us`, with or without a stream. `expire_us` is the answer."""

    session: str = field(kw_only=True)
    run: str = field(kw_only=True)
    epoch: int = field(kw_only=True)
    lease_us: int = field(kw_only=True)
    expire_us: int = 0
    cancel_requested: bool = False


@dataclass(slots=True, eq=False)
class Cancel(Item):
    """Cancels a run: at once while it waits, else by asking its worker. `done` says whether there was one to cancel."""

    session: str = field(kw_only=True)
    message_id: str = field(kw_only=True)
    reason: str = field(kw_only=True)
    done: bool = False


@dataclass(slots=True, eq=False)
class Due(Item):
    """A message's due time has come. With `hurry` the clock was set back: a time that the router itself had set counts
    as come, because nobody knows how much of it is left."""

    session: str = field(kw_only=True)
    message_id: str = field(kw_only=True)
    hurry: bool = False


@dataclass(slots=True, eq=False)
class LoseLease(Item):
    """Takes the lease of a session away from a worker that is gone, if it still has the one with `epoch`."""

    session: str = field(kw_only=True)
    worker: str = field(kw_only=True)
    epoch: int = field(kw_only=True)


@dataclass(slots=True, eq=False)
class RaiseEpoch(Item):
    """The session's log knows a higher epoch than the lease's: raises it above `mark`, if the lease still lives."""

    session: str = field(kw_only=True)
    lease: Lease = field(kw_only=True)
    mark: int = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Reject(Item):
    """The session's log refuses the message of a lease for good."""

    session: str = field(kw_only=True)
    lease: Lease = field(kw_only=True)
    error_reason: str = field(kw_only=True)
    error_message: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class GiveUp(Item):
    """Takes a message from the dead letters; `successor` carries it on, or nothing does."""

    session: str = field(kw_only=True)
    message_id: str = field(kw_only=True)
    successor: NewMessage | None = None


@dataclass(slots=True, eq=False)
class Logged(Item):
    """The session's log has the ends, retries and questions of these messages."""

    ended: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class StopAsking(Item):
    """Nobody waits for the reply any more. `ended` says that it is there already."""

    session: str = field(kw_only=True)
    message_id: str = field(kw_only=True)
    ended: bool = False


@dataclass(slots=True, eq=False)
class Operation(Item):
    """Several items as one request: done together with the record of its answer, or not at all.

    A request that was answered before gets that answer, and its parts do nothing. `conclude` makes the answer from the
    parts after they are done; with `strict`, the refusal of one part is that of the whole.
    """

    key: RequestKey = field(kw_only=True)
    parts: Sequence[Item] = field(kw_only=True)
    conclude: Callable[[Sequence[Item]], bytes] = field(kw_only=True)
    strict: bool = False
    response: bytes = b""


@dataclass(slots=True, eq=False)
class Leased:
    """A lease was given by means of `offer`; a raised epoch comes as a lease without offer."""

    lease: Lease
    offer: Offer | None


@dataclass(slots=True, eq=False)
class CancelAsked:
    """The worker of the run shall stop it; with `lost` it has lost the lease already."""

    session: str
    run: str
    epoch: int
    reason: str
    lost: bool


@dataclass(slots=True, eq=False)
class Steered:
    """A message is offered to the running turn of `host`, which has the lease with `epoch`."""

    host: str
    epoch: int
    message: JoinedMessage


@dataclass(slots=True, eq=False)
class BoxState:
    """How a transaction left a mailbox: free, and with mail that can be leased now."""

    session: str
    bot: str
    free: bool
    ready: bool


Effect = Leased | EndedRun | RetryingRun | AskedRun | CancelAsked | Steered


@dataclass(slots=True, eq=False)
class Batch:
    """What one call of the handler did: effects in the order in which the sessions' logs must show them."""

    effects: list[Effect] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    boxes: list[BoxState] = field(default_factory=list)
    # Earliest time at which a timer must look at the messages that were written, 0 for none.
    due_us: int = 0
    # Messages that were written, while somebody watches.
    changed: dict[str, None] = field(default_factory=dict)
    applied: bool = False
