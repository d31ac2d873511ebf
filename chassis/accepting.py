"""Taking calls in: what grpc.aio does once per call for every method that a server has, done for few and many at once.

A grpc.aio server holds one request for the next call of each registered method, waits on all of them together, and asks
for another after it has taken one: five turns of the loop for each call, and a cost that grows with the number of
methods. Measured with 30 methods and 64 callers: 155 us of CPU for an empty call, against 105 us with what is below.
"""

import asyncio
import importlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc
import grpc.aio

from chassis.local_handlers import LocalHandlers

_log = logging.getLogger(__name__)

_inside: Final[Any] = importlib.import_module("grpc._cython.cygrpc")  # has no types
# Calls of one busy method that are let in before the loop comes round again.
_AT_ONCE: Final = 32
# Of grpc.aio's inside; without any of them calls come in one by one, as they do everywhere.
_NEEDED: Final = ("_handle_rpc", "_schedule_rpc_coro", "_RequestCallError")


class Registrar:
    """Stands where a server stands for `add_XServicer_to_server`: registers `busy` methods and finds all others.

    A method that is not registered is looked up by its name when it is called, which costs nothing while it is not.
    """

    def __init__(self, server: grpc.aio.Server, busy: Iterable[str]) -> None:
        """`busy` are full methods, as "/mobot.router.v1.RouterService/SendMessage"."""
        self._server = server
        self._busy = frozenset(busy)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        self._server.add_generic_rpc_handlers(tuple(generic_rpc_handlers))

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        busy = {
            method: handler for method, handler in method_handlers.items() if f"/{service_name}/{method}" in self._busy
        }
        if busy:
            self._server.add_registered_method_handlers(service_name, busy)


class Acceptors:
    """Takes the calls of a server's busy unary methods in, many at a time. Ends by itself when the server stops."""

    def __init__(self, server: grpc.aio.Server, handlers: LocalHandlers, busy: Iterable[str]) -> None:
        """`handlers` are the server's own, behind its interceptors. `server` has started."""
        self._core: Any = getattr(server, "_server", None)
        self._calls: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        if any(not hasattr(_inside, name) for name in _NEEDED) or not hasattr(self._core, "_request_registered_call"):
            _log.info("grpc.aio has changed inside; calls are let in one by one")
            return
        loop = asyncio.get_running_loop()
        for method in busy:
            found = _Found(handlers, method)
            self._tasks.extend(loop.create_task(self._accept(method, found)) for _ in range(_AT_ONCE))

    @property
    def active(self) -> bool:
        """Whether calls are let in many at a time."""
        return any(not task.done() for task in self._tasks)

    async def wait(self) -> None:
        """Returns when the server has stopped and nothing is accepted any more."""
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("calls were not let in", exc_info=result)

    async def _accept(self, method: str, found: "_Found") -> None:
        loop = asyncio.get_running_loop()
        name = method.encode()
        request, calls = self._core._request_registered_call, self._calls
        while True:
            try:
                state = await request(name)
            except _inside._RequestCallError:  # the server is stopping
                return
            # In the order in which grpc.aio itself does it: the call listens for its cancellation before it begins.
            rpc = _inside._handle_rpc(method, found, (), state, loop, False)
            task = loop.create_task(_inside._schedule_rpc_coro(rpc, state, loop, method))
            calls.add(task)
            task.add_done_callback(calls.discard)


class _Found:
    """A resolver that knows its one answer, interceptors included."""

    def __init__(self, handlers: LocalHandlers, method: str) -> None:
        self._handler = handlers.find(method)

    def resolve_handler(self, _details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - a handler of any messages
        return self._handler
