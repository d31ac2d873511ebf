"""Answers requests from the table of methods: scope, params, handler, error shape."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from chassis import errors as app_errors
from chassis import status
from chassis.telemetry import CURRENT_TRACEPARENT, current_trace_id
from gateway import errors, frames, params, scopes
from gateway.connection import Connection
from gateway.frames import Request
from gateway.metrics import GatewayMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler."""

    connection: Connection
    request: Request

    @property
    def params(self) -> Mapping[str, Any]:
        return self.request.params

    def respond_early(self, payload: object) -> None:
        """Sends a first response; the handler's result becomes the second with the same id."""
        self.connection.respond(frames.response(self.request.id, frames.dump(payload)))


class SecondResponseFailed(Exception):
    """The final answer of a method that had answered already: an error with a payload beside it."""

    def __init__(self, shape: errors.ErrorShape, payload: object) -> None:
        super().__init__(shape.message)
        self.shape = shape
        self.payload = payload


Handler = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table. The handler returns the payload: anything JSON, or bytes that are JSON already."""

    name: str
    scope: str
    handler: Handler
    rules: params.Rules = field(default_factory=dict)


class Dispatcher:
    """Answers each request exactly once, whatever its handler does (`agent` twice, by contract)."""

    def __init__(self, methods: Iterable[Method], *, metrics: GatewayMetrics) -> None:
        self._methods = {method.name: method for method in methods}
        self._metrics = metrics

    @property
    def method_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._methods))

    async def __call__(self, connection: Connection, request: Request) -> None:
        started_s = time.perf_counter()
        method = self._methods.get(request.method)
        code = "OK"
        try:
            result = await _admitted(method, connection, request)(Call(connection, request))
            payload = result if isinstance(result, bytes) else frames.dump(result)
            connection.respond(frames.response(request.id, payload))
        except SecondResponseFailed as failed:
            code = failed.shape.code
            payload = frames.dump(failed.payload)
            connection.respond(frames.error_response(request.id, failed.shape.to_json(), payload))
        except Exception as error:  # noqa: BLE001 - the outermost frame of a request: whatever it was, it is answered
            shape = _shape_of(error, request.method)
            code = shape.code
            connection.respond(frames.error_response(request.id, shape.to_json()))
        finally:
            name = method.name if method else "unknown"
            self._metrics.requests.labels(name, code).inc()
            self._metrics.request_seconds.labels(name).observe(time.perf_counter() - started_s)


def _admitted(method: Method | None, connection: Connection, request: Request) -> Handler:
    """The handler, once the method exists, the client may call it and the params are right."""
    if method is None:
        raise errors.unknown_method(request.method)
    if not scopes.allows(connection.client.scopes, method.scope):
        raise errors.missing_scope(method.scope)
    params.check(method.name, request.params, method.rules)
    if request.traceparent:
        CURRENT_TRACEPARENT.set(request.traceparent)
    return method.handler


def _shape_of(error: Exception, method: str) -> errors.ErrorShape:
    match error:
        case errors.RequestRefused():
            return error.shape
        case app_errors.AppError():
            return errors.to_shape(error)
        case grpc.aio.AioRpcError():
            return errors.to_shape(status.from_rpc_error(error))
        case _:
            logger.error("request failed", extra={"method": method}, exc_info=error)
            metadata = {"trace_id": current_trace_id()} if current_trace_id() else {}
            return errors.to_shape(app_errors.Internal("internal error", metadata=metadata))
