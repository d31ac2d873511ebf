"""Streaming calls inside the process: the handler runs in a task of its own, messages pass through bounded pipes."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio

from chassis.local_context import DEADLINE_EXCEEDED, LOCALLY_CANCELLED, STOPPED, LocalCall, LocalContext, Pair
from chassis.local_handlers import Handler, LocalHandlers

# Messages that a writer may be ahead of its reader, in each direction.
PIPE_MESSAGES = 16

_FINISHED = "RPC already finished."
_HALF_CLOSED = 'RPC is half closed after calling "done_writing".'

_log = logging.getLogger("mobot.local")

Requests = AsyncIterable[Any] | Iterable[Any]


class Pipe:
    """One direction of a stream: one writer, one reader, at most PIPE_MESSAGES between them."""

    __slots__ = ("_loop", "_messages", "_reader", "_writer", "closed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self._loop = loop
        self._messages: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    async def put(self, message: Any) -> bool:  # noqa: ANN401 - any message type
        """Waits while the pipe is full. False if the pipe is closed, and the message lost."""
        while len(self._messages) >= PIPE_MESSAGES and not self.closed:
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if self.closed:
            return False
        self._messages.append(message)
        _set(self._reader)
        return True

    async def get(self) -> Any:  # noqa: ANN401 - any message type
        """The next message; `grpc.aio.EOF` after the last."""
        while not self._messages:
            if self.closed:
                return grpc.aio.EOF
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        _set(self._writer)
        return message

    def close(self) -> None:
        """No more messages; those inside can still be read."""
        self.closed = True
        _set(self._reader)
        _set(self._writer)

    def drop(self) -> None:
        """Closes, and forgets what was not read."""
        self._messages.clear()
        self.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any message type
        message = await self.get()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def _set(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class StreamContext(LocalContext):
    """The handler's side of a stream. It outlives the client's call object, never the other way round: a call that
    its client forgot must be collectable, because that is how it gets cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, metadata: Sequence[Pair], timeout_s: float | None) -> None:
        super().__init__(loop, metadata, None if timeout_s is None else loop.time() + timeout_s)
        self.requests = Pipe(loop)
        self.responses = Pipe(loop)
        self.task: asyncio.Task[None] | None = None
        self._timer = None if self.deadline is None else loop.call_at(self.deadline, self.expire)

    async def read(self) -> Any:  # noqa: ANN401 - any message type
        return await self.requests.get()

    async def write(self, message: Any) -> None:  # noqa: ANN401 - any message type
        if self.initial is None:
            await self.send_initial_metadata(())
        if not await self.responses.put(message):
            raise grpc.aio.InternalError("the client is gone")

    def end(self, code: grpc.StatusCode, details: str = "") -> None:
        if self.ended is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        super().end(code, details)
        self.requests.drop()
        self.responses.close()

    def kill(self, code: grpc.StatusCode, details: str) -> bool:
        """Ends the call at once for its client, as a socket would, and cancels the handler."""
        if self.ended is not None:
            return False
        self.end(code, details)
        self.responses.drop()
        # Collection may cancel a forgotten call after its loop is gone.
        if self.task is not None and not self.loop.is_closed():
            self.task.cancel()
        return True

    def expire(self) -> None:
        self.kill(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_EXCEEDED)

    def refuse(self) -> None:
        self.kill(grpc.StatusCode.UNAVAILABLE, STOPPED)

    async def wait(self) -> None:
        if self.task is not None:
            await asyncio.wait([self.task])

    async def serve(self, locate: Callable[[], LocalHandlers], method: str, request: Any) -> None:  # noqa: ANN401
        """Runs the handler to its end. `request` is None when the client streams."""
        active: set[Any] | None = None
        try:
            handlers = locate()
            handler = handlers.find(method)
            active = handlers.active
            active.add(self)
            argument = self.requests if handler.request_streaming else request
            await self._call(handler, argument)
            self.end_as_set()
        except asyncio.CancelledError:
            # By `kill`, which has set the status; or by whoever stops the loop.
            self.end(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - the client gets every failure as a status, as from a socket
            self.end_with_failure(error)
        finally:
            if active is not None:
                active.discard(self)

    async def _call(self, handler: Handler, argument: Any) -> None:  # noqa: ANN401
        if not handler.response_streaming:
            behavior: Any = handler.stream_unary
            self.response = await behavior(argument, self)
            return
        behavior = handler.stream_stream if handler.request_streaming else handler.unary_stream
        outcome = behavior(argument, self)
        if not hasattr(outcome, "__aiter__"):
            await outcome
            return
        try:
            async for message in outcome:
                await self.write(message)
        finally:
            await outcome.aclose()


class LocalStreamCall(LocalCall):
    """The client's side of a stream. Dropped unfinished, it is cancelled."""

    _context: StreamContext

    def __init__(
        self,
        locate: Callable[[], LocalHandlers],
        method: str,
        request: Any,  # noqa: ANN401 - any message type; None when `requests` or `write` feed the call
        metadata: Sequence[Pair],
        timeout_s: float | None,
        *,
        requests: Requests | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        context = self._context = StreamContext(loop, metadata, timeout_s)
        self._iterated = requests is not None
        self._done_writing = False
        # Kept by the context; its end is what `wait` and the drain wait for.
        context.task = loop.create_task(context.serve(locate, method, request))
        if requests is not None:
            pump = loop.create_task(_pump(requests, context))
            context.on_end(lambda: _cancel(pump))

    def __del__(self) -> None:
        context: StreamContext | None = getattr(self, "_context", None)
        if context is not None:
            context.kill(grpc.StatusCode.CANCELLED, "Cancelled upon garbage collection!")

    def cancel(self) -> bool:
        return self._context.kill(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)

    async def _read(self) -> Any:  # noqa: ANN401 - any message type
        context = self._context
        try:
            message = await context.responses.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if message is grpc.aio.EOF:
            self._raise_unless_ok()
        return message

    async def _write(self, request: Any) -> None:  # noqa: ANN401 - any message type
        context = self._context
        if self._iterated:
            raise grpc.aio.UsageError("the requests come from the iterator given to the call")
        if context.ended is not None:
            raise asyncio.InvalidStateError(_FINISHED)
        if self._done_writing:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        try:
            taken = await context.requests.put(request)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if not taken:
            self._raise_unless_ok()

    async def _half_close(self) -> None:
        if not self._done_writing:
            self._done_writing = True
            self._context.requests.close()

    async def _messages(self) -> AsyncIterator[Any]:
        while (message := await self._read()) is not grpc.aio.EOF:
            yield message

    async def _result(self) -> Any:  # noqa: ANN401 - any message type
        context = self._context
        try:
            await context.wait_ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_unless_ok()
        return context.response

    def _raise_unless_ok(self) -> None:
        context = self._context
        if context.ended is grpc.StatusCode.OK:
            return
        if context.cancelled():
            raise asyncio.CancelledError
        raise context.error()


class LocalUnaryStreamCall(LocalStreamCall, grpc.aio.UnaryStreamCall[Any, Any]):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages()

    async def read(self) -> Any:  # noqa: ANN401 - any message type
        return await self._read()


class LocalStreamUnaryCall(LocalStreamCall, grpc.aio.StreamUnaryCall[Any, Any]):
    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def write(self, request: Any) -> None:  # noqa: ANN401 - any message type
        await self._write(request)

    async def done_writing(self) -> None:
        await self._half_close()


class LocalStreamStreamCall(LocalStreamCall, grpc.aio.StreamStreamCall[Any, Any]):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages()

    async def read(self) -> Any:  # noqa: ANN401 - any message type
        return await self._read()

    async def write(self, request: Any) -> None:  # noqa: ANN401 - any message type
        await self._write(request)

    async def done_writing(self) -> None:
        await self._half_close()


async def _pump(requests: Requests, context: StreamContext) -> None:
    """Feeds a call from its client's iterator, no faster than the handler takes."""
    put = context.requests.put
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                if not await put(request):
                    return
        else:
            for request in requests:
                if not await put(request):
                    return
    except Exception:  # noqa: BLE001 - the iterator is the client's; whatever it raises ends its call
        _log.exception("a call's request iterator raised; the call is cancelled")
        context.kill(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)
    context.requests.close()


def _cancel(task: asyncio.Task[None]) -> None:
    if not task.get_loop().is_closed():
        task.cancel()
