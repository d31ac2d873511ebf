"""A tool: one async function with typed parameters, declared once for every brain that calls it.

A call is a step of its turn: it is committed with its result, and a repeated run is handed the committed result.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from bot_sdk.convert import clean
from bot_sdk.model import Effect
from bot_sdk.steps import Json, ToolAnswer, ToolRequest
from bot_sdk.stubs import TRANSIENT
from bot_sdk.turn import Turn
from chassis import errors

MAX_ARGUMENTS_CHARS = 60_000  # at most 256 KiB, and a character has at most 4 bytes


class Params(BaseModel):
    """Parameters of a tool. Written in camelCase by models and clients; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


P = TypeVar("P", bound=Params)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. `key` is the same in every attempt of the run: for idempotency keys and request ids."""

    turn: Turn
    key: str


@dataclass(frozen=True, slots=True)
class Tool(Generic[P]):
    """`function` returns what the brain gets, as JSON; a refusal that it raises becomes an error answer.

    After a tool that `ends_turn` the brain says nothing more.
    """

    name: str
    description: str
    params: type[P]
    function: Callable[[Call, P], Awaitable[Json]]
    effect: Effect = Effect.IDEMPOTENT
    ends_turn: bool = False

    def schema(self) -> dict[str, Any]:
        """JSON schema of the parameters."""
        schema = self.params.model_json_schema(by_alias=True)
        schema.pop("title", None)
        schema.pop("description", None)
        return schema

    async def call(
        self, turn: Turn, arguments: Mapping[str, Json] | str, *, call_id: str = "", step: str = ""
    ) -> ToolAnswer:
        """Makes and commits one call, or gives the committed answer of an earlier attempt.

        `arguments` may be the text a model wrote: what is wrong with it is the answer, so that the model can mend it.
        `step` is given only to make a call again that an earlier attempt left without a result.
        """
        step = step or turn.steps.take_number()
        text = clean(arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()) or "{}"
        if len(text) > MAX_ARGUMENTS_CHARS:
            # Cut, it is no JSON any more, so that it is refused as such; the event must have a legal size.
            text = text[:MAX_ARGUMENTS_CHARS]
        request = ToolRequest(self.name, text, self.effect, call_id, step)
        return await turn.call_tool(request, lambda: self._make(Call(turn, turn.key("tool", step)), text))

    async def _make(self, call: Call, arguments_json: str) -> ToolAnswer:
        try:
            params = self.params.model_validate_json(arguments_json)
        except ValidationError as error:
            return _refusal("ARGUMENTS_INVALID", "; ".join(_problems(error)))
        try:
            answer = await self.function(call, params)
        except TRANSIENT:
            raise  # the run is tried again, and with it this call
        except errors.AppError as error:
            return _refusal(error.reason or error.code, error.message)
        return ToolAnswer(orjson.dumps(answer).decode())


def _refusal(reason: str, message: str) -> ToolAnswer:
    return ToolAnswer(orjson.dumps({"status": "error", "reason": reason, "error": message}).decode(), is_error=True)


def _problems(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, detail['loc'])) or 'arguments'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    ]
