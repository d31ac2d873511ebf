"""How often two sessions answered each other, counted from what is stored and not from what is said."""

from functools import partial

from chassis.identity import Caller
from mobot.router.v1 import message_pb2
from router_service.convert.turns import check_turns, next_turn
from router_service.domain.limits import MAIN_SESSION
from router_service.store import messages
from router_service.store.router_store import RouterStore


class Exchange:
    """Counts the turns of messages that answer others."""

    def __init__(self, store: RouterStore, *, max_turns: int) -> None:
        self._store = store
        self._max_turns = max_turns

    async def counted(self, given: message_pb2.MessageDraft, caller: Caller) -> message_pb2.MessageDraft:
        """The draft with its turn count.

        Raises:
            FailedPrecondition: TURN_LIMIT_REACHED.
        """
        turns = given.turn_count
        if given.in_reply_to:
            stored = await self._store.read(partial(messages.find_message, message_id=given.in_reply_to))
            if stored is not None:
                answered = message_pb2.MessageDraft.FromString(stored.row["draft"])
                destination = given.session or f"{given.bot}/sessions/{MAIN_SESSION}"
                turns = next_turn(answered, given.source or caller.actor, destination)
        check_turns(turns, self._max_turns)
        if turns == given.turn_count:
            return given
        draft = message_pb2.MessageDraft()
        draft.CopyFrom(given)
        draft.turn_count = turns
        return draft
