"""What every call passes through on its way to a handler, local or from a socket:
trace -> access log -> error mapping -> deadline -> caller identity.

The five are one interceptor with one coroutine around the handler, not five around each other: this is the hot path
of every call, and each layer of its own would cost more than its work. Wrapped handlers are kept per method.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from chassis import errors, status
from chassis.clock import Clock
from chassis.delegation import Delegation
from chassis.identity import ACTOR, CURRENT_CALLER, Authenticator, Caller, not_allowed
from chassis.policy import DEFAULT, MethodPolicy, policy_for
from chassis.telemetry import (
    CURRENT_TRACEPARENT,
    TRACEPARENT,
    RpcMetrics,
    Telemetry,
    current_trace_id,
    new_trace_id,
    traceparent_of_current_span,
)

Context = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Awaitable[Any]]
if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = Any  # the class takes parameters only in the eyes of a type checker

SLOW_S = 0.25

_HEALTH = "/grpc.health.v1.Health/"
# Where a dependency's failure is our caller's to act upon: wait, back off, or come again. Any other failure of a
# dependency that a servicer did not translate is a bug of ours.
_PASSED_ON = (errors.Unavailable, errors.ResourceExhausted, errors.DeadlineExceeded)

_QUIET = frozenset({"OK", "CANCELLED"})

_log = logging.getLogger("mobot.rpc")


def server_chain(
    *,
    service: str,
    authenticator: Authenticator,
    clock: Clock,
    telemetry: Telemetry,
    policies: Mapping[str, MethodPolicy] = DEFAULT,
    slow_s: float = SLOW_S,
    delegation: Delegation | None = None,
    workers_may: Collection[str] | None = None,
) -> Sequence[grpc.aio.ServerInterceptor]:
    """The interceptors of one service. `service` is its short name ("session"); its error domain is "session.mobot".

    Calls that fail or take longer than `slow_s` are logged at INFO, all others at DEBUG. Health needs no caller.

    `delegation` knows for which bots a worker may act with a token of its own (None: for none). `workers_may` names the
    methods that it may call for itself (None: all); every other one it must call for a bot.
    """
    return (_Chain(service, authenticator, clock, telemetry, policies, slow_s, delegation, workers_may),)


class _Chain(grpc.aio.ServerInterceptor):
    def __init__(
        self,
        service: str,
        authenticator: Authenticator,
        clock: Clock,
        telemetry: Telemetry,
        policies: Mapping[str, MethodPolicy],
        slow_s: float,
        delegation: Delegation | None,
        workers_may: Collection[str] | None,
    ) -> None:
        self._service = service
        self._domain = f"{service}.mobot"
        self._authenticator = authenticator
        self._clock = clock
        self._telemetry = telemetry
        self._policies = policies
        self._slow_s = slow_s
        self._delegation = delegation
        self._workers_may = workers_may
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        # The handler is compared because one chain may stand before several servers, each with its own health.
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = self._wrap(method, handler)
        self._wrapped[method] = (handler, wrapped)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        rpc = self._telemetry.rpc(self._service, method)
        behavior, make = _kind_of(handler)
        if handler.response_streaming:
            # A watch that lived for hours is not a slow call.
            guarded = self._guard(method, _writing(behavior, rpc), rpc, default_timeout_s=None, slow_s=inf)
        else:
            timeout_s = None if handler.request_streaming else policy_for(method, self._policies).timeout_s
            guarded = self._guard(method, behavior, rpc, default_timeout_s=timeout_s, slow_s=self._slow_s)
        parse = _parsing(handler.request_deserializer, streaming=handler.request_streaming)
        return make(guarded, parse, handler.response_serializer)

    def _guard(
        self, method: str, behavior: Behavior, rpc: RpcMetrics, *, default_timeout_s: float | None, slow_s: float
    ) -> Behavior:
        open_to_all = method.startswith(_HEALTH)
        authenticate = self._authenticator.authenticate
        start_span = None if open_to_all else self._telemetry.start_span

        async def guarded(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message type
            started = perf_counter()
            metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
            traceparent = metadata.get(TRACEPARENT, "")
            span = start_span(method, traceparent) if start_span is not None else None
            trace_token = CURRENT_TRACEPARENT.set(traceparent if span is None else traceparent_of_current_span())
            # Nobody, until proven: a local call runs in its caller's context and must not inherit that one's caller.
            caller_token = CURRENT_CALLER.set(None)
            rpc.active += 1
            code = "OK"
            reason = ""
            try:
                if not open_to_all:
                    who = authenticate(metadata)
                    if not who.root and who.principal.startswith("workers/"):
                        await self._admit_worker(who, method)
                    CURRENT_CALLER.set(who)
                del metadata  # a stream may last for hours
                if type(request) is errors.InvalidArgument:
                    raise request  # noqa: TRY301 - a function of its own would cost each call
                if default_timeout_s is not None and context.time_remaining() is None:
                    return await _within(default_timeout_s, behavior, request, context)
                return await behavior(request, context)
            except errors.AppError as error:
                code, reason = error.code, error.reason
                await self._abort(context, error)
            except asyncio.CancelledError:
                code = _code_of_cancellation(context)
                raise
            except grpc.aio.AbortError:
                code = _code_of_abort(context)
                raise
            except grpc.aio.InternalError:
                # The transport took no more messages: the client went away before the handler could learn of it.
                code = "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001 - the one place that turns any failure into a status
                public = self._translate(method, error, context)
                code, reason = public.code, public.reason
                await self._abort(context, public)
            finally:
                elapsed = perf_counter() - started
                rpc.active -= 1
                rpc.observe(code, elapsed)
                if code not in _QUIET or elapsed > slow_s:
                    self._log_call(logging.INFO, method, code, reason, elapsed)
                elif _log.isEnabledFor(logging.DEBUG):
                    self._log_call(logging.DEBUG, method, code, reason, elapsed)
                if span is not None:
                    span.end(code)
                CURRENT_CALLER.reset(caller_token)
                CURRENT_TRACEPARENT.reset(trace_token)

        return guarded

    async def _admit_worker(self, who: Caller, method: str) -> None:
        if not who.delegated:
            if self._workers_may is not None and method.rpartition("/")[2] not in self._workers_may:
                raise errors.PermissionDenied(
                    f"{who.principal} may call this only for a bot that it serves: set the metadata {ACTOR!r}",
                    metadata={"principal": who.principal, "actor": who.actor},
                )
        elif self._delegation is None:
            raise not_allowed(who.principal, who.actor)
        else:
            await self._delegation.check(who)

    def _translate(self, method: str, error: Exception, context: Context) -> errors.AppError:
        if isinstance(error, NotImplementedError) and _code_of_abort(context) == "UNIMPLEMENTED":
            # The generated base class says so of a call that the servicer leaves to it.
            return errors.Unimplemented(
                f"{method} is not served by this version", reason="METHOD_UNIMPLEMENTED", metadata={"method": method}
            )
        if isinstance(error, grpc.aio.AioRpcError):
            upstream = status.from_rpc_error(error)
            if isinstance(upstream, _PASSED_ON):
                return upstream
        trace_id = current_trace_id() or new_trace_id()
        _log.error("rpc raised", exc_info=error, extra={"method": method, "failure_trace_id": trace_id})
        return errors.Internal("internal error", metadata={"trace_id": trace_id})

    async def _abort(self, context: Context, error: errors.AppError) -> NoReturn:
        wire = status.to_status(error, domain=self._domain)
        details = (status.DETAILS_KEY, wire.SerializeToString())
        trailing = (*(context.trailing_metadata() or ()), details)
        await context.abort(status.to_grpc_code(error), wire.message, trailing)

    def _log_call(self, level: int, method: str, code: str, reason: str, elapsed_s: float) -> None:
        fields: dict[str, Any] = {
            "method": method,
            "code": code,
            "duration_ms": round(elapsed_s * 1e3, 3),
            "start_time": (self._clock.now() - timedelta(seconds=elapsed_s)).isoformat(timespec="milliseconds"),
        }
        if reason:
            fields["reason"] = reason
        who = CURRENT_CALLER.get()
        if who is not None:
            fields["principal"] = who.principal
        _log.log(level, "rpc finished" if code == "OK" else "rpc failed", extra=fields)


def _kind_of(handler: Handler) -> tuple[Any, Callable[..., Handler]]:
    """The handler's coroutine or async generator function, and gRPC's constructor for its call kind."""
    if handler.request_streaming:
        if handler.response_streaming:
            return handler.stream_stream, grpc.stream_stream_rpc_method_handler
        return handler.stream_unary, grpc.stream_unary_rpc_method_handler
    if handler.response_streaming:
        return handler.unary_stream, grpc.unary_stream_rpc_method_handler
    return handler.unary_unary, grpc.unary_unary_rpc_method_handler


def _parsing(deserialize: Callable[[bytes], Any] | None, *, streaming: bool) -> Callable[[bytes], Any] | None:
    """Bytes that are no message become a refusal: gRPC itself would tell the caller UNKNOWN and a class of ours."""
    if deserialize is None:
        return None

    def parse(data: bytes) -> Any:  # noqa: ANN401 - any message type
        try:
            return deserialize(data)
        except DecodeError:
            refusal = errors.InvalidArgument("what was sent is not a message of this call", reason=errors.FIELD_INVALID)
            if streaming:
                raise refusal from None  # comes out where the handler reads
            return refusal  # raised behind the authentication, with its status and its log line

    return parse


def _writing(behavior: Any, rpc: RpcMetrics) -> Behavior:  # noqa: ANN401 - either of two function kinds
    """A streaming handler as a coroutine: an async generator's messages are written to the context."""
    if not inspect.isasyncgenfunction(behavior):
        return behavior  # type: ignore[no-any-return]  # writes to the context itself

    async def write_all(request: Any, context: Context) -> None:  # noqa: ANN401 - any message type
        messages: AsyncGenerator[Any, None] = behavior(request, context)
        write = context.write
        try:
            async for message in messages:
                await write(message)
                rpc.messages_sent += 1
                del message  # the next one may be hours away
        finally:
            # A cancelled write leaves the generator suspended; its own `finally` must run now, not at collection.
            await messages.aclose()

    return write_all


async def _within(timeout_s: float, behavior: Behavior, request: Any, context: Context) -> Any:  # noqa: ANN401
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            return await behavior(request, context)
    except TimeoutError as error:
        if deadline.expired():
            raise errors.DeadlineExceeded(f"the call took longer than {timeout_s:g} s") from error
        raise


def _code_of_cancellation(context: Context) -> str:
    remaining: float | None = context.time_remaining()
    return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"


def _code_of_abort(context: Context) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
