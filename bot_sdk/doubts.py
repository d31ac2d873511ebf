"""Calls that an earlier attempt began, whose end nobody knows and which must not be made twice: a person decides.

An answer is good for one making. Were the worker to die in the call that a person had it make again, the next attempt
would find the same answer and make it a third time; so a note says first that the answer is spent, and the doubt after
that is another question.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection

from bot_sdk.errors import NeedsDecision
from bot_sdk.model import Decision, Lease

RETRY, SKIP = "retry", "skip"
_NOTE = "mobot.made-again"
_MAX_READABLE = 64


class Doubts:
    """Of one attempt. `notes` are those of earlier ones, `note` leaves one more and returns when it is durable."""

    def __init__(
        self,
        lease: Lease,
        decision: Decision | None,
        *,
        notes: Collection[str],
        note: Callable[[Lease, str], Awaitable[None]],
    ) -> None:
        self._lease = lease
        self._decision = decision
        self._notes = set(notes)
        self._note = note

    async def resolve(self, tool: str, call_id: str) -> str | None:
        """What a person says came of the call (SKIP: nobody knows), or None to make it again.

        Raises:
            NeedsDecision: nobody has said yet.
        """
        making = 2
        while (note := _note_of(call_id, making)) in self._notes:
            making += 1
        question = call_id if making == 2 else f"{call_id}~{making}"
        decision = self._decision
        if decision is None or decision.call_id != question:
            raise NeedsDecision(
                f"The call of {tool} was begun and its end is not known. Make it again?",
                choices=(RETRY, SKIP),
                call_id=question,
                reason="TOOL_IN_DOUBT",
            )
        if decision.answer != RETRY:
            return decision.answer
        await self._note(self._lease, note)
        self._notes.add(note)
        return None


def _note_of(call_id: str, making: int) -> str:
    name = call_id if len(call_id) <= _MAX_READABLE else hashlib.sha256(call_id.encode()).hexdigest()
    return f"{_NOTE}/{making}/{name}"
