"""The steps of a turn: done once, written down, and handed back to the next attempt instead of being done again.

A step is a tool call and its result in the session's log, under ids derived from the run and the step. A brain whose
next attempt takes the same way again (a plain handler) just does its steps again: each finds its result. A brain whose
way is not repeatable (a model) asks for `committed()` first and goes on behind it.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import orjson

from bot_sdk import convert
from bot_sdk.doubts import SKIP, Doubts
from bot_sdk.errors import Permanent
from bot_sdk.events import EventFactory, event_id
from bot_sdk.meters import TurnMeters
from bot_sdk.model import Effect, Entry, Lease, Said, ToolCall, ToolResult
from mobot.session.v1 import event_pb2

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

MAX_RESULT_CHARS = 200_000
_SKIPPED = "The call was skipped by a person's decision: whether it had an effect is not known."


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool call to make. `step` is set only to make a call again that an earlier attempt left without a result."""

    tool: str
    arguments_json: str
    effect: Effect
    call_id: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool answers; `text` is JSON where it answers with data."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class CommittedCall:
    """A tool call of an earlier attempt; without `result` it is not known whether it was made."""

    request: ToolRequest
    result: ToolAnswer | None


Committed: TypeAlias = Said | CommittedCall
Write = Callable[[Sequence[event_pb2.Event]], Awaitable[int]]


class Steps:
    """The steps of one attempt."""

    def __init__(
        self,
        lease: Lease,
        events: EventFactory,
        *,
        write: Write,
        earlier: Callable[[], Awaitable[Sequence[Entry]]],
        doubts: Doubts,
        meters: TurnMeters,
    ) -> None:
        """`write` queues events and gives what awaits their commit; `earlier` fetches what the run has committed."""
        self._lease = lease
        self._events = events
        self._write = write
        self._earlier = earlier
        self._doubts = doubts
        self._meters = meters
        self._known: dict[str, Entry] | None = None
        self._next = 1

    def take_number(self) -> str:
        """The number of the brain's next step."""
        number = str(self._next)
        self._next += 1
        return number

    async def committed(self) -> tuple[Committed, ...]:
        """What earlier attempts said and called, oldest first. New steps are counted behind it."""
        known = await self._entries()
        results = {entry.call_id: entry for entry in known.values() if isinstance(entry, ToolResult)}
        steps: list[Committed] = []
        for entry in known.values():
            number = _number_of(self._lease.run, entry.event_id)
            if number is None:
                continue
            self._next = max(self._next, number + 1)
            if isinstance(entry, Said):
                steps.append(entry)
            elif isinstance(entry, ToolCall):
                result = results.get(entry.call_id)
                steps.append(
                    CommittedCall(
                        ToolRequest(entry.tool, entry.arguments_json, entry.effect, entry.call_id, str(number)),
                        None if result is None else ToolAnswer(result.text, result.is_error),
                    )
                )
        return tuple(steps)

    async def call(self, request: ToolRequest, make: Callable[[], Awaitable[ToolAnswer]]) -> ToolAnswer:
        """Makes the call and commits call and result, or gives the result that is committed already.

        Raises:
            NeedsDecision: an earlier attempt began the call, its end is not known, and it must not be made twice.
            Permanent: the same step of an earlier attempt was another call (STEP_CHANGED).
        """
        step = request.step or self.take_number()
        call_id = request.call_id or f"{self._lease.run}/{step}"
        known = await self._entries()
        called = known.get(event_id(self._lease.run, "step", step, "called"))
        returned = known.get(event_id(self._lease.run, "step", step, "returned"))
        if isinstance(called, ToolCall):
            _check_same(called, request, step)
            call_id = called.call_id
        if isinstance(returned, ToolResult):
            return ToolAnswer(returned.text, returned.is_error)

        if called is None:
            begun = self._events.called(
                step,
                call_id=call_id,
                tool=request.tool,
                arguments_json=request.arguments_json,
                effect=request.effect,
            )
            # First it is written down, then it is done: a call that nobody knows of would be done again otherwise.
            await self._write([begun])
        elif request.effect is not Effect.IDEMPOTENT:
            decided = await self._doubts.resolve(request.tool, call_id)
            if decided is not None:
                return await self._returned(step, call_id, request.tool, _answer_of(decided))
        return await self._returned(step, call_id, request.tool, await self._made(request.tool, make))

    async def remember(self, name: str, make: Callable[[], Awaitable[Json]], effect: Effect) -> Json:
        """The value of the step `name`, made once per run and handed back to later attempts.

        Raises:
            ValueError: `name` is a number, empty or longer than 128 characters; or the value is not JSON.
        """
        if not name or name.isdigit() or len(name) > 128:
            raise ValueError(f"a step's name is 1 to 128 characters and not a number (was {name!r})")
        known = await self._entries()
        returned = known.get(event_id(self._lease.run, "step", name, "returned"))
        if isinstance(returned, ToolResult):
            return cast(Json, orjson.loads(returned.text))
        called = self._events.called(name, call_id=name, tool=name, arguments_json="{}", effect=effect)
        if effect is Effect.IDEMPOTENT:
            # Nothing is lost by doing it again, so one commit tells it all.
            value = await make()
            await self._write([called, self._value(name, value)])
            return value
        if event_id(self._lease.run, "step", name, "called") in known:
            decided = await self._doubts.resolve(name, name)
            if decided is not None:
                value = _answer_of(decided).text
                await self._write([self._value(name, value)])
                return value
        else:
            await self._write([called])
        value = await make()
        await self._write([self._value(name, value)])
        return value

    async def _made(self, tool: str, make: Callable[[], Awaitable[ToolAnswer]]) -> ToolAnswer:
        began, outcome = time.perf_counter(), "raised"
        try:
            answer = await make()
            outcome = "error" if answer.is_error else "ok"
        finally:
            self._meters.tool_called(tool, outcome, time.perf_counter() - began)
        return answer

    async def _returned(self, step: str, call_id: str, tool: str, answer: ToolAnswer) -> ToolAnswer:
        text = answer.text
        if len(text) > MAX_RESULT_CHARS:
            text = text[:MAX_RESULT_CHARS] + "… (cut)"
        kept = ToolAnswer(text, answer.is_error)
        parts = convert.text_parts(text)
        await self._write(
            [self._events.returned(step, call_id=call_id, tool=tool, parts=parts, is_error=kept.is_error)]
        )
        return kept

    def _value(self, name: str, value: Json) -> event_pb2.Event:
        try:
            encoded = orjson.dumps(value)
        except TypeError as error:
            raise ValueError(f"the value of step {name!r} is not JSON") from error
        return self._events.returned(name, call_id=name, tool=name, parts=[convert.json_part(encoded)], is_error=False)

    async def _entries(self) -> dict[str, Entry]:
        if self._known is None:
            # A first attempt has nothing behind it, and need not ask.
            earlier = await self._earlier() if self._lease.attempt > 1 else ()
            self._known = {entry.event_id: entry for entry in earlier}
        return self._known


def _number_of(run: str, written_id: str) -> int | None:
    """The number of a counted step; None for the inbound message, the reply and named steps."""
    prefix = event_id(run, "step") + "/"
    if not written_id.startswith(prefix):
        return None
    number = written_id.removeprefix(prefix).partition("/")[0]
    return int(number) if number.isdigit() else None


def _answer_of(decided: str) -> ToolAnswer:
    return ToolAnswer(_SKIPPED, is_error=True) if decided == SKIP else ToolAnswer(decided)


def _check_same(called: ToolCall, request: ToolRequest, step: str) -> None:
    if called.tool != request.tool:
        raise Permanent(
            f"step {step} of the run was a call of {called.tool} and is now one of {request.tool}",
            reason="STEP_CHANGED",
        )
