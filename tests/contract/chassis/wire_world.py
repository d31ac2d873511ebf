"""A small service with every call kind, reached over a local channel, TCP and a Unix socket alike."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from chassis import errors, policy
from chassis.channel import Dialer
from chassis.identity import caller, mint_token
from chassis.server import Service, ServiceHost
from chassis.telemetry import Telemetry

SECRET = "a deployment's secret"
FULL_NAME = "mobot.test.v1.TestService"
PATIENCE_S = 10.0


def path(method: str) -> str:
    return f"/{FULL_NAME}/{method}"


async def until(condition: Callable[[], bool]) -> None:
    """Polls until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


class Servicer:
    """Messages are bytes. Tests reach in to hand it behaviour and to see what became of a call."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.release = asyncio.Event()
        self.started = 0
        self.finished = 0
        self.cancelled = 0
        self.written = 0
        self.received: list[bytes] = []
        self.metadata: dict[str, Any] = {}
        self.remaining: float | None = None
        self.seen_caller = None
        self.done_callbacks = 0

    async def Echo(self, request: bytes, context) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        self.seen_caller = caller()
        context.set_trailing_metadata((("answered-by", "echo"),))
        return request

    async def Fail(self, request: bytes, context) -> bytes:
        raise self.error

    async def Abort(self, request: bytes, context) -> bytes:
        await context.abort(grpc.StatusCode.ABORTED, "by hand", (("why", "because"),))

    async def Block(self, request: bytes, context) -> bytes:
        self.started += 1
        context.add_done_callback(lambda _: self._called_back())
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return request

    def _called_back(self) -> None:
        self.done_callbacks += 1

    async def Stubborn(self, request: bytes, context) -> bytes:
        """Answers its own cancellation with a normal return."""
        self.started += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
        return request

    async def Count(self, request: bytes, context) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def CountByWriting(self, request: bytes, context) -> None:
        for number in range(int(request)):
            await context.write(b"%d" % number)

    async def FailLate(self, request: bytes, context) -> AsyncIterator[bytes]:
        yield b"first"
        raise self.error

    async def Flood(self, request: bytes, context) -> AsyncIterator[bytes]:
        try:
            while True:
                yield request
                self.written += 1
        finally:
            self.cancelled += 1

    async def Watch(self, request: bytes, context) -> AsyncIterator[bytes]:
        self.started += 1
        try:
            yield b"snapshot"
            await self.release.wait()
            raise errors.Unavailable("draining", reason=errors.DRAINING)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def Collect(self, requests: AsyncIterator[bytes], context) -> bytes:
        return b",".join([request async for request in requests])

    async def CollectByReading(self, requests: AsyncIterator[bytes], context) -> bytes:
        while (request := await context.read()) is not grpc.aio.EOF:
            self.received.append(request)
        return b",".join(self.received)

    async def IgnoreRequests(self, requests: AsyncIterator[bytes], context) -> bytes:
        self.started += 1
        await self.release.wait()
        return b"ignored"

    async def Talk(self, requests: AsyncIterator[bytes], context) -> AsyncIterator[bytes]:
        self.started += 1
        try:
            async for request in requests:
                yield b"re:" + request
        finally:
            self.finished += 1

    async def Greet(self, request: bytes, context) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("hello", "there"),))
        await self.release.wait()
        yield b"late"


_KINDS = {
    "Echo": grpc.unary_unary_rpc_method_handler,
    "Fail": grpc.unary_unary_rpc_method_handler,
    "Abort": grpc.unary_unary_rpc_method_handler,
    "Block": grpc.unary_unary_rpc_method_handler,
    "Stubborn": grpc.unary_unary_rpc_method_handler,
    "Count": grpc.unary_stream_rpc_method_handler,
    "CountByWriting": grpc.unary_stream_rpc_method_handler,
    "FailLate": grpc.unary_stream_rpc_method_handler,
    "Flood": grpc.unary_stream_rpc_method_handler,
    "Watch": grpc.unary_stream_rpc_method_handler,
    "Greet": grpc.unary_stream_rpc_method_handler,
    "Collect": grpc.stream_unary_rpc_method_handler,
    "CollectByReading": grpc.stream_unary_rpc_method_handler,
    "IgnoreRequests": grpc.stream_unary_rpc_method_handler,
    "Talk": grpc.stream_stream_rpc_method_handler,
}


UNARY = tuple(name for name, kind in _KINDS.items() if kind is grpc.unary_unary_rpc_method_handler)


def register(servicer: Servicer, server: Any) -> None:
    handlers = {name: kind(getattr(servicer, name)) for name, kind in _KINDS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FULL_NAME, handlers),))
    server.add_registered_method_handlers(FULL_NAME, handlers)


class Stub:
    """As a generated stub: the multi-callables of one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        makers = {
            grpc.unary_unary_rpc_method_handler: channel.unary_unary,
            grpc.unary_stream_rpc_method_handler: channel.unary_stream,
            grpc.stream_unary_rpc_method_handler: channel.stream_unary,
            grpc.stream_stream_rpc_method_handler: channel.stream_stream,
        }
        for name, kind in _KINDS.items():
            multi = makers[kind](
                path(name), request_serializer=None, response_deserializer=None, _registered_method=True
            )
            setattr(self, name, multi)


@dataclass
class Lifecycle:
    """The order in which a host asks things of its service."""

    steps: list[str] = field(default_factory=list)
    ready: bool = True


@dataclass
class World:
    kind: str
    servicer: Servicer
    lifecycle: Lifecycle
    host: ServiceHost
    target: str
    telemetry: Telemetry
    dialers: list[Dialer] = field(default_factory=list)

    def channel(self, *, token: str | None = None, actor: str | None = None, policies=policy.DEFAULT):
        token = mint_token(SECRET, "services/router") if token is None else token
        dialer = Dialer({"test": self.target}, token=token, actor=actor, policies=policies)
        dialer.add_handlers(self.host.local_handlers)
        self.dialers.append(dialer)
        return dialer.dial("test")

    def stub(self, **options: Any) -> Stub:
        return Stub(self.channel(**options))


def make_service(servicer: Servicer, lifecycle: Lifecycle) -> Service:
    async def ready() -> bool:
        lifecycle.steps.append("ready")
        return lifecycle.ready

    async def end_watches() -> None:
        lifecycle.steps.append("end_watches")
        servicer.release.set()

    async def close() -> None:
        lifecycle.steps.append("close")

    return Service("test", FULL_NAME, servicer, register, ready, end_watches, close)
