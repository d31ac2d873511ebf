"""The two ends of a call that never leaves the process: the handler's context, and how the call ended."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Never

import grpc
import grpc.aio

PEER = "local:"
LOCALLY_CANCELLED = "Locally cancelled by application!"
DEADLINE_EXCEEDED = "Deadline Exceeded"
STOPPED = "Cancelling all calls"

Pair = tuple[str, str | bytes]


class CallRefused(Exception):
    """The call reached no handler: the method is unknown, or its service is not there (yet, or any more)."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """What the handler sees of the call; also keeps the call's status, which is what the client sees.

    `deadline` is in the loop's time. Once `ended` is set the status is final and nothing changes it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, metadata: Sequence[Pair], deadline: float | None) -> None:
        self.loop = loop
        self.deadline = deadline
        self.ended: grpc.StatusCode | None = None
        self.response: Any = None
        self.initial: tuple[Pair, ...] | None = None
        self._metadata = metadata
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Sequence[Pair] = ()
        self._aborted = False
        self._callbacks: list[Callable[[], None]] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    # What the handler may ask and say.

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - pairs, as grpc.aio really gives; its stub says Metadata
        return self._metadata

    def time_remaining(self) -> Any:  # noqa: ANN401 - None without a deadline, which the stub does not say
        return None if self.deadline is None else max(0.0, self.deadline - self.loop.time())

    def peer(self) -> str:
        return PEER

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def cancelled(self) -> bool:
        return self.ended is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self.ended is not None

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:  # noqa: ANN401 - Metadata or pairs
        self._trailing = tuple(trailing_metadata)

    def code(self) -> Any:  # noqa: ANN401 - None until set, which the stub does not say
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:  # noqa: ANN401 - pairs, as grpc.aio really gives
        return self._trailing

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is serialised, so nothing is compressed."""

    def disable_next_message_compression(self) -> None:
        """Nothing is serialised, so nothing is compressed."""

    def add_done_callback(self, callback: Any) -> None:  # noqa: ANN401 - grpc's private callback type
        self.on_end(lambda: callback(self))

    async def send_initial_metadata(self, initial_metadata: Any) -> None:  # noqa: ANN401 - Metadata or pairs
        if self.initial is not None:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        self.initial = tuple(initial_metadata)
        self._wake()

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Any = (),  # noqa: ANN401 - Metadata or pairs
    ) -> Never:
        if self._aborted:
            raise grpc.aio.UsageError("Abort already called!")
        self._aborted = True
        self._code = code
        self._details = details or self._details
        self._trailing = tuple(trailing_metadata) or self._trailing
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> Never:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def read(self) -> Any:  # noqa: ANN401 - any message type
        raise grpc.aio.UsageError("a unary request is the handler's first argument")

    async def write(self, message: Any) -> None:  # noqa: ANN401, ARG002 - any message type
        raise grpc.aio.UsageError("a unary response is the handler's return value")

    # How the call ends.

    def end(self, code: grpc.StatusCode, details: str = "") -> None:
        """Makes the status final, unless it is. Wakes the client."""
        if self.ended is not None:
            return
        self.ended = code
        self._details = details
        if self._callbacks is not None or self._waiters is not None:
            self._announce()

    def end_as_set(self) -> None:
        """Ends with what the handler set; OK if it set nothing."""
        self.end(self._code or grpc.StatusCode.OK, self._details)

    def end_with_failure(self, error: Exception) -> None:
        """Ends as grpc.aio does when a handler raises and no interceptor maps it."""
        if isinstance(error, grpc.aio.AbortError) and self._aborted:
            self.end_as_set()
        elif isinstance(error, CallRefused):
            self.end(error.code, error.details)
        else:
            self.end(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")

    def error(self) -> grpc.aio.AioRpcError:
        """The ended call's status as the client gets it."""
        return grpc.aio.AioRpcError(
            self.ended or grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(*(self.initial or ())),
            grpc.aio.Metadata(*self._trailing),
            details=self._details,
        )

    def on_end(self, callback: Callable[[], None]) -> None:
        if self.ended is not None:
            callback()
            return
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    async def wait_ended(self) -> None:
        while self.ended is None:
            await self._wait()

    async def wait_initial(self) -> None:
        """Until the handler sent its initial metadata, on its own or with the first message or the status."""
        while self.initial is None and self.ended is None:
            await self._wait()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _announce(self) -> None:
        self._wake()
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()


class LocalCall(grpc.aio.Call):
    """The parts of a client's call object that are the same for all four kinds."""

    _context: LocalContext

    def done(self) -> bool:
        return self._context.ended is not None

    def cancelled(self) -> bool:
        return self._context.ended is grpc.StatusCode.CANCELLED

    def time_remaining(self) -> float | None:
        remaining: float | None = self._context.time_remaining()
        return remaining

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._context.on_end(lambda: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._context.wait_initial()
        return grpc.aio.Metadata(*(self._context.initial or ()))

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._context.wait_ended()
        return grpc.aio.Metadata(*self._context.trailing_metadata())

    async def code(self) -> grpc.StatusCode:
        await self._context.wait_ended()
        return self._context.ended or grpc.StatusCode.UNKNOWN

    async def details(self) -> str:
        await self._context.wait_ended()
        return self._context.details()

    async def wait_for_connection(self) -> None:
        """There is nothing to connect to."""
