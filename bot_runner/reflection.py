"""Reflection: what a finished run taught is distilled into memories, once per run, by a run of its own.

The task is mail to the bot's own session `reflection`, accepted in the commit that completes the run it is about: it is
neither lost nor doubled, nobody waits for it, and it is tried again like any other. What the brain distilled is a
committed step, and each memory is put under a key made from the run, so a repetition puts nothing twice.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from bot_sdk.memory import Origin
from bot_sdk.model import Entry, Memory, MemorySource
from bot_sdk.steps import Json
from bot_sdk.turn import Turn
from chassis import resource_names

REFLECTION_TYPE = "mobot.reflection"
REFLECTION_SESSION = "reflection"
MAX_FACTS = 16
MAX_FACT_CHARS = 2_000
SAME_FROM = 0.95
"""From this cosine on two texts say the same: only the older stays."""
_SESSION, _RUN = "mobot.session", "mobot.run"

Kind = Literal["fact", "preference", "episode", "task", "procedure"]
KINDS: Sequence[Kind] = ("fact", "preference", "episode", "task", "procedure")
Brain = Callable[[Turn], Awaitable[str | None]]

_log = logging.getLogger("mobot.runner.reflection")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something worth remembering, in a sentence that makes sense on its own. `importance` is 0 to 1."""

    text: str
    kind: Kind = "fact"
    importance: float = 0.5


Distil = Callable[[Turn, Sequence[Entry]], Awaitable[Sequence[Fact]]]


class Reflecting:
    """A brain that reflects on its runs. `distil` finds the facts in what was said and done in one."""

    def __init__(self, brain: Brain, distil: Distil) -> None:
        self._brain = brain
        self._distil = distil

    async def __call__(self, turn: Turn) -> str | None:
        if _is_reflection(turn):
            return await self._reflect(turn)
        return await self._brain(turn)

    async def after_reply(self, turn: Turn) -> None:
        """Has the run reflected on once it is completed."""
        if turn.message.type == REFLECTION_TYPE:
            return
        turn.enclose(
            resource_names.session_name(turn.bot.id, REFLECTION_SESSION),
            f"Reflect on the run {turn.run} of {resource_names.parse_session(turn.session).key}.",
            key=turn.key("reflection"),
            type_=REFLECTION_TYPE,
            metadata={_SESSION: turn.session, _RUN: turn.run},
        )

    async def _reflect(self, turn: Turn) -> str:
        session, run = turn.message.metadata[_SESSION], turn.message.metadata[_RUN]
        talk = await turn.sessions.of_run(session, run)

        async def distilled() -> Json:
            return [[fact.text, fact.kind, fact.importance] for fact in (await self._distil(turn, talk))[:MAX_FACTS]]

        facts = [_fact(row) for row in cast(list[Json], await turn.step("facts", distilled))]
        origin = Origin(session, talk[0].sequence if talk else 0, run)
        learnt: list[Memory] = []
        for number, fact in enumerate(facts):
            memory = await self._remember(turn, fact, origin, str(number))
            if memory is not None:
                learnt.append(memory)
        _log.info("reflected", extra={"bot": turn.bot.name, "run": run, "found": len(facts), "learnt": len(learnt)})
        if not learnt:
            return "Nothing new."
        return "\n".join(["Learnt:", *(f"- [{memory.id}] {memory.text}" for memory in learnt)])

    async def _remember(self, turn: Turn, fact: Fact, origin: Origin, number: str) -> Memory | None:
        """The memory, if it is new."""
        stored = await turn.memory.store(
            fact.text,
            kind=fact.kind,
            importance=fact.importance,
            request_id=turn.key("fact", number),
            source=MemorySource.REFLECTION,
            near_duplicates=3,
            origin=origin,
        )
        if not stored.created:
            return None
        if any(near.similarity >= SAME_FROM for near in stored.near_duplicates):
            await turn.memory.forget(stored.memory.name, request_id=turn.key("forget fact", number))
            return None
        return stored.memory


def _is_reflection(turn: Turn) -> bool:
    """Whether the bot itself ordered this turn: nobody else may say what it is to learn, or from which session."""
    message = turn.message
    return (
        message.type == REFLECTION_TYPE
        and message.sender == turn.bot.name
        and {_SESSION, _RUN} <= set(message.metadata)
    )


def _fact(row: Json) -> Fact:
    text, kind, importance = cast(tuple[str, Kind, float], row)
    return Fact(text, kind, importance)
