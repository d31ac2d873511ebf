"""A unary call inside the process. Awaited at once, as nearly all are, it runs in its caller's task."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any

import grpc
import grpc.aio

from chassis.local_context import DEADLINE_EXCEEDED, LOCALLY_CANCELLED, STOPPED, LocalCall, LocalContext, Pair
from chassis.local_handlers import LocalHandlers

_DETAILS = {
    grpc.StatusCode.CANCELLED: LOCALLY_CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED: DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE: STOPPED,
}

# How late a default deadline may be noticed, as a share of its length. It bounds a call that hangs; a caller that
# needs the exact moment gives a timeout of its own and pays for a timer.
_COARSENESS = 0.05


class DefaultDeadlines:
    """The deadlines of all calls that have the same timeout, under one timer instead of one for each.

    Equal timeouts expire in the order in which they began, so only the oldest need be looked at.
    """

    def __init__(self, timeout_s: float) -> None:
        self._interval_s = timeout_s * _COARSENESS
        self._calls: dict[LocalUnaryCall, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: "LocalUnaryCall", deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self._calls[call] = deadline
        if self._timer is None:
            self._timer = loop.call_later(self._interval_s, self._check, loop)

    def discard(self, call: "LocalUnaryCall") -> None:
        self._calls.pop(call, None)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        expired: list[LocalUnaryCall] = []
        for call, deadline in self._calls.items():
            if deadline > now:
                break
            expired.append(call)
        for call in expired:
            self.discard(call)
            call.expire()
        self._timer = loop.call_later(self._interval_s, self._check, loop) if self._calls else None


class LocalUnaryCall(LocalCall, grpc.aio.UnaryUnaryCall[Any, Any]):
    """Starts when awaited, or by itself in the loop's next round, so that calls made together run together.

    A handler that never suspends does not let the loop run either: a loop of nothing but such calls starves others.
    """

    def __init__(
        self,
        locate: Callable[[], LocalHandlers],
        method: str,
        request: Any,  # noqa: ANN401 - any message type
        metadata: Sequence[Pair],
        timeout_s: float | None,
        defaults: DefaultDeadlines | None,
    ) -> None:
        """`defaults` watches over the deadline if `timeout_s` is a default; None means an exact timer."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        self._context = LocalContext(loop, metadata, deadline)
        self._locate = locate
        self._method = method
        self._request = request
        self._defaults = defaults
        self._task: asyncio.Task[Any] | None = None
        # Why we cancelled the task; None while we did not.
        self._cause: grpc.StatusCode | None = None
        self._starter: asyncio.Handle | None = loop.call_soon(self._start_unawaited)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._starter is not None:
            self._starter.cancel()
            self._starter = None
            return self._run().__await__()
        return self._join().__await__()

    def cancelled(self) -> bool:
        return self._cause is grpc.StatusCode.CANCELLED or super().cancelled()

    def cancel(self) -> bool:
        if self._context.ended is not None or self._cause is not None:
            return False
        self._stop(grpc.StatusCode.CANCELLED)
        return True

    def expire(self) -> None:
        """Ends the call with DEADLINE_EXCEEDED."""
        if self._context.ended is None and self._cause is None:
            self._stop(grpc.StatusCode.DEADLINE_EXCEEDED)

    def refuse(self) -> None:
        """Ends the call with UNAVAILABLE: its service stops."""
        if self._context.ended is None and self._cause is None:
            self._stop(grpc.StatusCode.UNAVAILABLE)

    async def wait(self) -> None:
        await self._context.wait_ended()

    def _stop(self, cause: grpc.StatusCode) -> None:
        self._cause = cause
        if self._starter is not None:
            self._starter.cancel()
            self._starter = None
            self._end_by_cause()
        elif self._task is not None:
            self._task.cancel()

    def _end_by_cause(self) -> None:
        cause = self._cause or grpc.StatusCode.CANCELLED
        self._context.end(cause, _DETAILS[cause])

    def _start_unawaited(self) -> None:
        self._starter = None
        # Kept by this object, and this object by its frame; `_join` and the getters wait for its end.
        self._task = self._context.loop.create_task(self._run_unawaited())

    async def _run_unawaited(self) -> None:
        try:
            await self._run()
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            # Kept as the call's status, for whoever will ask for it.
            if self._context.ended is None:
                self._context.end(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)

    async def _join(self) -> Any:  # noqa: ANN401 - any message type
        context = self._context
        try:
            await context.wait_ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if context.ended is grpc.StatusCode.OK:
            return context.response
        if context.ended is grpc.StatusCode.CANCELLED and self._cause is context.ended:
            raise asyncio.CancelledError
        raise context.error()

    async def _run(self) -> Any:  # noqa: ANN401 - any message type
        context = self._context
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a local call needs a running task")
        cancels_before = task.cancelling()
        timer = self._watch_deadline()
        active: set[Any] | None = None
        try:
            handlers = self._locate()
            behavior: Any = handlers.find(self._method).unary_unary
            active = handlers.active
            active.add(self)
            context.response = await behavior(self._request, context)
            if self._cause is None:
                context.end_as_set()
        except asyncio.CancelledError:
            if self._cause is None or task.uncancel() > cancels_before:
                # Not (only) ours: the caller's own task is being cancelled, which cancels the call.
                context.end(grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)
                raise
            self._end_by_cause()
            if self._cause is grpc.StatusCode.CANCELLED:
                raise
        except Exception as error:  # noqa: BLE001 - the client gets every failure as a status, as from a socket
            if self._cause is None:
                context.end_with_failure(error)
        finally:
            if timer is not None:
                timer.cancel()
            elif self._defaults is not None:
                self._defaults.discard(self)
            if active is not None:
                active.discard(self)
        if context.ended is grpc.StatusCode.OK:
            return context.response
        if context.ended is None:
            # The handler answered our cancellation with something else, which nobody waits for any more.
            task.uncancel()
            self._end_by_cause()
            if self._cause is grpc.StatusCode.CANCELLED:
                raise asyncio.CancelledError
        raise context.error()

    def _watch_deadline(self) -> asyncio.TimerHandle | None:
        context = self._context
        deadline = context.deadline
        if deadline is None:
            return None
        if self._defaults is not None:
            self._defaults.add(self, deadline, context.loop)
            return None
        if deadline <= context.loop.time():
            context.end(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_EXCEEDED)
            raise context.error()
        return context.loop.call_at(deadline, self.expire)
