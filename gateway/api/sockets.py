"""The table as `mobot.*` methods: the params are the request of the call, in the contract's JSON form."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from chassis import errors as app_errors
from gateway import errors
from gateway.api import messages
from gateway.api.calls import Calls
from gateway.api.table import Endpoint
from gateway.bots import Bots
from gateway.dispatch import Call, Method

_MAX_LINES = 10_000


class ApiMethods:
    """`agentId` stands for the bot where a request names one, and nothing for the default bot."""

    def __init__(self, endpoints: Sequence[Endpoint], calls: Calls, bots: Bots) -> None:
        self._endpoints = endpoints
        self._calls = calls
        self._bots = bots

    def table(self) -> tuple[Method, ...]:
        return tuple(Method(each.method, each.scope, self._handler(each)) for each in self._endpoints)

    def _handler(self, endpoint: Endpoint) -> Callable[[Call], Awaitable[object]]:
        async def answer(call: Call) -> object:
            given = self._given(
                endpoint, _with_options(call.params) if endpoint.rpc == "ImportMemories" else call.params
            )
            if endpoint.rpc == "ExportMemories":
                return await self._export(endpoint, given)
            if endpoint.rpc == "ImportMemories":
                return await self._import(endpoint, given)
            return await self._calls.unary(endpoint, given)

        return answer

    def _given(self, endpoint: Endpoint, params: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(params)
        bot = given.pop("agentId", None)
        if bot is not None and not isinstance(bot, str):
            raise errors.invalid_request(f"invalid {endpoint.method} params: at /agentId: must be string")
        for field in ("parent", "name"):
            if f"{{{field}=bots/*}}" in endpoint.template and not given.get(field):
                given[field] = f"bots/{bot or self._bots.default_bot}"
        return given

    async def _export(self, endpoint: Endpoint, given: dict[str, Any]) -> object:
        """One frame; `resumeToken` gets the next, and is absent after the last."""
        async for frame in self._calls.exported(endpoint, given):
            return messages.answer(frame)
        return {}

    async def _import(self, endpoint: Endpoint, given: dict[str, Any]) -> object:
        lines = given.pop("lines", None)
        if not isinstance(lines, list) or len(lines) > _MAX_LINES or not all(isinstance(line, str) for line in lines):
            raise app_errors.field_invalid("lines", f"must be a list of at most {_MAX_LINES} strings")

        async def each() -> AsyncIterator[str]:
            for line in lines:
                yield line

        return await self._calls.imported(endpoint, given, each())


def _with_options(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of an import, which stand in `options` or, as in the query of REST, beside the lines."""
    options = params.get("options")
    if options is None:
        return params
    if not isinstance(options, Mapping):
        raise app_errors.field_invalid("options", "must be an object")
    return {**{name: value for name, value in params.items() if name != "options"}, **options}
