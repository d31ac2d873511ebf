"""Turns that two sessions take with each other: the guard against two bots that thank each other for ever."""

from mobot.router.v1 import message_pb2
from router_service.domain.errors import TurnLimitReached


def next_turn(answered: message_pb2.MessageDraft, source: str, destination: str) -> int:
    """The turn count of a message from `source` to `destination` that answers `answered`: one more between the same
    two sessions, 0 to or from anybody else."""
    back = answered.source == destination and answered.session == source
    return answered.turn_count + 1 if back else 0


def check_turns(turns: int, limit: int) -> None:
    """Raises TURN_LIMIT_REACHED."""
    if turns > limit:
        raise TurnLimitReached(turns, limit)
