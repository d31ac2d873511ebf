"""The methods of one service as a LocalChannel finds them: the handlers that its registration function adds to a
server, behind the same interceptors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from chassis.local_context import CallRefused

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = Any  # the class takes parameters only in the eyes of a type checker


class ActiveCall(Protocol):
    """A call in progress, as the drain sees it."""

    def refuse(self) -> None:
        """Ends the call with UNAVAILABLE."""

    async def wait(self) -> None:
        """Until its handler has returned."""


class LocalHandlers:
    """Stands where a server stands: give it to `add_XServicer_to_server`."""

    def __init__(self, service: str, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        """`service` is the short name ("session") that dialers know it by."""
        self.service = service
        self.active: set[ActiveCall] = set()
        self._interceptors = interceptors
        self._registered: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, Handler] = {}
        self._draining = False

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        for method, handler in method_handlers.items():
            self._registered[f"/{service_name}/{method}"] = handler

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._generic.extend(generic_rpc_handlers)

    def find(self, method: str) -> Handler:
        """The handler of "/full.Service/Method" behind the interceptors.

        Raises:
            CallRefused: UNIMPLEMENTED for an unknown method, UNAVAILABLE while draining.
        """
        if self._draining:
            raise CallRefused(grpc.StatusCode.UNAVAILABLE, f"the {self.service} service is draining")
        found = self._found.get(method)
        if found is None:
            found = self._intercepted(method)
            if found is None:
                raise CallRefused(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            self._found[method] = found
        return found

    async def stop(self, grace_s: float) -> None:
        """As a server's: new calls are refused, those in progress have `grace_s` seconds, then they are ended."""
        self._draining = True
        if not self.active:
            return
        await self._wait_for(tuple(self.active), timeout_s=grace_s)
        left = tuple(self.active)
        for call in left:
            call.refuse()
        await self._wait_for(left, timeout_s=grace_s)

    async def _wait_for(self, calls: Sequence[ActiveCall], *, timeout_s: float) -> None:
        waits = [asyncio.ensure_future(call.wait()) for call in calls]
        if not waits:
            return
        _, pending = await asyncio.wait(waits, timeout=timeout_s)
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _intercepted(self, method: str) -> Handler | None:
        details = _Details(method)

        def layer(index: int) -> Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]:
            async def proceed(call: grpc.HandlerCallDetails) -> Handler | None:
                if index == len(self._interceptors):
                    return self._lookup(call)
                return await self._interceptors[index].intercept_service(layer(index + 1), call)

            return proceed

        return _run_now(layer(0)(details))

    def _lookup(self, details: grpc.HandlerCallDetails) -> Handler | None:
        registered = self._registered.get(details.method)
        if registered is not None:
            return registered
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        # Our interceptors choose by method alone, and read the metadata from the call's context.
        self.invocation_metadata = ()


def _run_now(handler: Any) -> Handler | None:  # noqa: ANN401 - a coroutine
    """The result of a coroutine that does not wait: choosing a handler is a look-up."""
    try:
        handler.send(None)
    except StopIteration as done:
        result: Handler | None = done.value
        return result
    handler.close()
    raise RuntimeError("an interceptor waited while choosing a handler; wait in the wrapped handler instead")
