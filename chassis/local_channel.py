"""A channel to a service in the same process: the same generated stubs, handlers and interceptors, and no socket.

Messages pass by reference: a servicer converts a request at once, and neither side keeps or changes a message it
gave or got. Errors, deadlines, cancellation, metadata and flow control are as on the wire.
"""

from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from chassis.local_handlers import LocalHandlers
from chassis.local_stream import LocalStreamStreamCall, LocalStreamUnaryCall, LocalUnaryStreamCall
from chassis.local_unary import DefaultDeadlines, LocalUnaryCall
from chassis.outgoing import Outgoing

Requests = AsyncIterable[Any] | Iterable[Any]


class LocalChannel(grpc.aio.Channel):
    """Stubs accept it as it is. Serialisers are ignored, and so are call credentials, compression and waiting."""

    def __init__(self, handlers: LocalHandlers | Callable[[], LocalHandlers], outgoing: Outgoing) -> None:
        """`handlers` may be a function, asked at each call, for a service that is added after its stubs were made."""
        self._locate: Callable[[], LocalHandlers] = (
            (lambda: handlers) if isinstance(handlers, LocalHandlers) else handlers
        )
        self._outgoing = outgoing
        self._defaults: dict[float, DefaultDeadlines] = {}

    def unary_unary(self, method: str, *_: Any, **__: Any) -> "_UnaryUnary":  # noqa: ANN401 - serialisers, not used
        timeout_s = self._outgoing.timeout_s(method)
        defaults = None
        if timeout_s is not None:
            defaults = self._defaults.setdefault(timeout_s, DefaultDeadlines(timeout_s))
        return _UnaryUnary(self._locate, method, self._outgoing, timeout_s, defaults)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> "_UnaryStream":  # noqa: ANN401 - serialisers, not used
        return _UnaryStream(self._locate, method, self._outgoing)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> "_StreamUnary":  # noqa: ANN401 - serialisers, not used
        return _StreamUnary(self._locate, method, self._outgoing)

    def stream_stream(self, method: str, *_: Any, **__: Any) -> "_StreamStream":  # noqa: ANN401 - serialisers, not used
        return _StreamStream(self._locate, method, self._outgoing)

    async def close(self, grace: float | None = None) -> None:
        """Nothing to close: calls end with their handlers, and those with their service's drain."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        if last_observed_state is grpc.ChannelConnectivity.READY:
            raise grpc.aio.UsageError("a local channel is always READY")

    async def channel_ready(self) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(
        self,
        locate: Callable[[], LocalHandlers],
        method: str,
        outgoing: Outgoing,
        default_timeout_s: float | None,
        defaults: DefaultDeadlines | None,
    ) -> None:
        self._locate = locate
        self._method = method
        self._outgoing = outgoing
        self._default_timeout_s = default_timeout_s
        self._defaults = defaults

    def __call__(
        self,
        request: Any,  # noqa: ANN401 - any message type
        *,
        timeout: float | None = None,
        metadata: Any = None,  # noqa: ANN401 - Metadata or pairs
        **_: Any,  # noqa: ANN401 - credentials, compression, wait_for_ready: of sockets only
    ) -> LocalUnaryCall:
        pairs = self._outgoing.metadata(metadata)
        if timeout is None:
            return LocalUnaryCall(self._locate, self._method, request, pairs, self._default_timeout_s, self._defaults)
        return LocalUnaryCall(self._locate, self._method, request, pairs, timeout, None)


class _Stream:
    def __init__(self, locate: Callable[[], LocalHandlers], method: str, outgoing: Outgoing) -> None:
        self._locate = locate
        self._method = method
        self._outgoing = outgoing


class _UnaryStream(_Stream, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    def __call__(
        self,
        request: Any,  # noqa: ANN401 - any message type
        *,
        timeout: float | None = None,
        metadata: Any = None,  # noqa: ANN401 - Metadata or pairs
        **_: Any,  # noqa: ANN401 - of sockets only
    ) -> LocalUnaryStreamCall:
        return LocalUnaryStreamCall(self._locate, self._method, request, self._outgoing.metadata(metadata), timeout)


class _StreamUnary(_Stream, grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Any = None,  # noqa: ANN401 - Metadata or pairs
        *_: Any,  # noqa: ANN401 - of sockets only
        **__: Any,  # noqa: ANN401 - of sockets only
    ) -> LocalStreamUnaryCall:
        pairs = self._outgoing.metadata(metadata)
        return LocalStreamUnaryCall(self._locate, self._method, None, pairs, timeout, requests=request_iterator)


class _StreamStream(_Stream, grpc.aio.StreamStreamMultiCallable[Any, Any]):
    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Any = None,  # noqa: ANN401 - Metadata or pairs
        *_: Any,  # noqa: ANN401 - of sockets only
        **__: Any,  # noqa: ANN401 - of sockets only
    ) -> LocalStreamStreamCall:
        pairs = self._outgoing.metadata(metadata)
        return LocalStreamStreamCall(self._locate, self._method, None, pairs, timeout, requests=request_iterator)
