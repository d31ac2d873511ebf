"""The states of a message and the moves between them. Values are those of the contract's MessageState and BusyMode."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from chassis.errors import Internal


class MessageState(IntEnum):
    ACCEPTED = 1
    QUEUED = 2
    LEASED = 3
    RUNNING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8
    DEAD_LETTERED = 9
    REJECTED = 10
    NEEDS_DECISION = 11


class BusyMode(IntEnum):
    ENQUEUE = 1
    STEER = 2
    INTERRUPT = 3
    REJECT = 4
    COLLECT = 5


WAITING: Final = frozenset({MessageState.ACCEPTED, MessageState.QUEUED})
LIVE: Final = frozenset({MessageState.LEASED, MessageState.RUNNING})
TERMINAL: Final = frozenset(
    {
        MessageState.SUCCEEDED,
        MessageState.FAILED,
        MessageState.CANCELLED,
        MessageState.EXPIRED,
        MessageState.DEAD_LETTERED,
        MessageState.REJECTED,
    }
)

# A queued message that joins another one's turn is RUNNING from then on, and queued again when that turn is repeated.
# A dead letter that was redriven or discarded is FAILED: its run ended, and the message that carries on is another.
_MOVES: Final[Mapping[MessageState, frozenset[MessageState]]] = {
    MessageState.ACCEPTED: frozenset({MessageState.QUEUED, MessageState.CANCELLED, MessageState.EXPIRED}),
    MessageState.QUEUED: frozenset(
        {MessageState.LEASED, MessageState.RUNNING, MessageState.CANCELLED, MessageState.EXPIRED}
    ),
    MessageState.LEASED: (TERMINAL | {MessageState.QUEUED, MessageState.RUNNING, MessageState.NEEDS_DECISION}),
    MessageState.RUNNING: (TERMINAL | {MessageState.QUEUED, MessageState.NEEDS_DECISION}),
    MessageState.NEEDS_DECISION: frozenset({MessageState.QUEUED, MessageState.CANCELLED, MessageState.EXPIRED}),
    MessageState.DEAD_LETTERED: frozenset({MessageState.FAILED}),
}


def can_move(old: MessageState, new: MessageState) -> bool:
    return new in _MOVES.get(old, ())


def move(old: MessageState, new: MessageState) -> MessageState:
    """Returns `new` if a message may go there from `old`.

    Raises:
        Internal: it may not, which is a defect of the caller.
    """
    if not can_move(old, new):
        raise Internal(f"a message cannot go from {old.name} to {new.name}")
    return new
