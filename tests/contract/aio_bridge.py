"""grpcio-testing's fake server made sound for async servicers: fake time and any metadata, no socket.

Alone, that server takes the coroutine of an `async def` handler for its response and reports OK without running it.
Here every handler runs on an event loop with a thread of its own, behind the same interceptors as in a real server, so
that codes, reasons and trailing metadata are those a client would see. The server's threads only wait for it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
import grpc_testing
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from chassis.clock import FakeClock
from chassis.identity import Authenticator
from chassis.interceptors import server_chain
from chassis.local_handlers import LocalHandlers
from chassis.server import Service
from chassis.telemetry import Telemetry

T = TypeVar("T")

_END = object()


class AioBridge:
    """One service behind the fake server. Use as a context manager; `run` is for what belongs on the service's loop."""

    def __init__(self, descriptor: ServiceDescriptor, time: grpc_testing.Time, *, secret: str) -> None:
        self.time = time
        self._descriptor = descriptor
        self._secret = secret
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aio-bridge")
        self._calls: set[asyncio.Task[Any]] = set()
        self._server: grpc_testing.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._end_calls())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def host(self, service: Service, clock: FakeClock) -> None:
        """Puts the composed service behind the interceptors and the fake server."""
        chain = server_chain(
            service=service.name, authenticator=Authenticator(self._secret), clock=clock, telemetry=Telemetry.off()
        )
        handlers = LocalHandlers(service.name, chain)
        service.register(service.servicer, handlers)
        blocking = _Blocking(self._descriptor, handlers, self._loop, self._calls)
        self._server = grpc_testing.server_from_dictionary({self._descriptor: blocking}, self.time)

    def unary(self, method: str, request: Any, metadata: Any = (), timeout_s: float | None = None) -> Any:
        """Begins a call; `termination()` of the result gives response, trailing metadata, code and details."""
        return self._fake().invoke_unary_unary(self._method(method), metadata, request, timeout_s)

    def server_stream(self, method: str, request: Any, metadata: Any = (), timeout_s: float | None = None) -> Any:
        """Begins a call; the result has `take_response()`, `cancel()` and `termination()`."""
        return self._fake().invoke_unary_stream(self._method(method), metadata, request, timeout_s)

    def both_streams(self, method: str, metadata: Any = (), timeout_s: float | None = None) -> Any:
        """Begins a call; the result also has `send_request()` and `requests_closed()`."""
        return self._fake().invoke_stream_stream(self._method(method), metadata, timeout_s)

    def _fake(self) -> grpc_testing.Server:
        assert self._server is not None, "host a service first"
        return self._server

    def _method(self, name: str) -> MethodDescriptor:
        return self._descriptor.methods_by_name[name]

    async def _end_calls(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


class _Blocking:
    """The servicer as the fake server wants it: each method blocks, or is an iterator."""

    def __init__(
        self,
        descriptor: ServiceDescriptor,
        handlers: LocalHandlers,
        loop: asyncio.AbstractEventLoop,
        calls: set[asyncio.Task[Any]],
    ) -> None:
        self._descriptor = descriptor
        self._handlers = handlers
        self._loop = loop
        self._calls = calls

    def __getattr__(self, method: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        handler = self._handlers.find(f"/{self._descriptor.full_name}/{method}")
        kind = (handler.request_streaming, handler.response_streaming)
        match kind:
            case (False, False):
                return lambda request, sync: self._one(handler.unary_unary, request, sync)
            case (False, True):
                return lambda request, sync: self._many(handler.unary_stream, request, sync)
            case (True, False):
                return lambda requests, sync: self._one(handler.stream_unary, _arriving(requests), sync)
            case _:
                return lambda requests, sync: self._many(handler.stream_stream, _arriving(requests), sync)

    def _one(self, behavior: Callable[..., Awaitable[Any]], request: Any, sync: grpc.ServicerContext) -> Any:
        return _result(self._start(behavior, request, _Context(sync), sync))

    def _many(self, behavior: Callable[..., Awaitable[Any]], request: Any, sync: grpc.ServicerContext) -> Iterator[Any]:
        context = _Context(sync)
        running = self._start(behavior, request, context, sync)
        while True:
            message = asyncio.run_coroutine_threadsafe(context.written.get(), self._loop).result()
            if message is _END:
                break
            yield message
        _result(running)

    def _start(
        self, behavior: Callable[..., Awaitable[Any]], request: Any, context: "_Context", sync: grpc.ServicerContext
    ) -> Future[Any]:
        async def call() -> Any:
            task = asyncio.current_task()
            assert task is not None
            self._calls.add(task)
            try:
                return await behavior(request, context)
            except grpc.aio.AbortError:
                return None  # the fake server completes with the code and the trailing metadata set by then
            finally:
                self._calls.discard(task)
                context.written.put_nowait(_END)

        running = asyncio.run_coroutine_threadsafe(call(), self._loop)
        # Called when the client cancels, when the fake deadline passes, and harmlessly when all is over.
        sync.add_callback(running.cancel)
        return running


class _Context(grpc.aio.ServicerContext[Any, Any]):
    """What an async handler sees, told by the fake server's blocking context."""

    def __init__(self, sync: grpc.ServicerContext) -> None:
        self._sync = sync
        self._code: grpc.StatusCode | None = None
        self._trailing: tuple[Any, ...] = ()
        # Unbounded: the fake server has no flow control, it takes all there is.
        self.written: asyncio.Queue[Any] = asyncio.Queue()

    def invocation_metadata(self) -> Any:
        return tuple(self._sync.invocation_metadata() or ())

    def time_remaining(self) -> Any:
        return self._sync.time_remaining()

    def peer(self) -> str:
        return "fake:"

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> dict[str, Any]:
        return {}

    def code(self) -> Any:
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code
        self._sync.set_code(code)

    def set_details(self, details: str) -> None:
        self._sync.set_details(details)

    def trailing_metadata(self) -> Any:
        return self._trailing

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = tuple(trailing_metadata)
        self._sync.set_trailing_metadata(self._trailing)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._sync.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Any:
        self.set_trailing_metadata(trailing_metadata)
        self.set_code(code)
        self.set_details(details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: Any) -> Any:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Any:
        raise NotImplementedError("handlers iterate over their requests")

    async def write(self, message: Any) -> None:
        self.written.put_nowait(message)

    def set_compression(self, compression: grpc.Compression) -> None:
        raise NotImplementedError

    def disable_next_message_compression(self) -> None:
        raise NotImplementedError


def _result(running: Future[Any]) -> Any:
    try:
        return running.result()
    except CancelledError:
        return None  # the call has its end already: the client's, or the deadline's


async def _arriving(requests: Iterator[Any]) -> AsyncIterator[Any]:
    """The requests as they come; ends when the client says so, and when the call is over."""

    def take() -> Any:
        try:
            return next(requests, _END)
        except grpc.RpcError:
            return _END

    while (request := await asyncio.to_thread(take)) is not _END:
        yield request
