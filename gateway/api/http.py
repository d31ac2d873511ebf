"""The table as REST under /v1: a bearer token, JSON in, JSON out, the services' own errors."""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from chassis import errors
from chassis.telemetry import CURRENT_TRACEPARENT
from gateway import scopes
from gateway.api import messages, openapi
from gateway.api.calls import Calls
from gateway.api.table import Endpoint, pattern_of
from gateway.auth import TokenGate, is_loopback
from gateway.metrics import GatewayMetrics

MAX_BODY_BYTES = 20 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
# As on the socket.
_MISSING_SCOPE = "MISSING_SCOPE"
_NDJSON = "application/x-ndjson"
_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class _Refused(Exception):
    """What HTTP itself refuses: no such path, no such verb, too large a body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RestApi:
    """An ASGI application for everything under /v1."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        calls: Calls,
        gate: TokenGate,
        metrics: GatewayMetrics,
        *,
        require_device: str,
    ) -> None:
        """`require_device` ("remote", "always", "never"): when the token alone grants no scopes, as on the socket."""
        self._require_device = require_device
        self._calls = calls
        self._gate = gate
        self._metrics = metrics
        # A path with a verb behind a colon fits the pattern without it as well: the longer template is asked first.
        rows = sorted(endpoints, key=lambda each: (":" not in each.template.rpartition("}")[2], -len(each.template)))
        self._rows = [(each, *pattern_of(each.template)) for each in rows]
        self._openapi = orjson.dumps(openapi.document(endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        started_s = time.perf_counter()
        name, code = "unknown", "OK"
        try:
            if request.scope["path"] == "/v1/openapi.json" and request.method == "GET":
                return Response(self._openapi, media_type="application/json")
            self._admit(request)
            endpoint, bound = self._find(request)
            name = endpoint.method
            self._check_scope(endpoint, request)
            CURRENT_TRACEPARENT.set(request.headers.get("traceparent", ""))
            return await self._call(endpoint, bound, request)
        except _Refused as refused:
            code = str(refused.status)
            return _json({"error": {"code": refused.status, "message": refused.message}}, refused.status)
        except errors.AppError as error:
            code = error.code
            return _refusal(error)
        finally:
            self._metrics.requests.labels(name, code).inc()
            self._metrics.request_seconds.labels(name).observe(time.perf_counter() - started_s)

    def _admit(self, request: Request) -> None:
        address = request.client.host if request.client else ""
        wait_s = self._gate.retry_after_s(address)
        if wait_s > 0:
            raise errors.ResourceExhausted(
                "too many wrong tokens came from this address", reason=errors.UNAUTHENTICATED, retry_after_s=wait_s
            )
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._gate.matches(token.strip()):
            if token:
                self._gate.wrong(address)
            raise errors.Unauthenticated("a valid bearer token is required")
        self._gate.right(address)

    def _check_scope(self, endpoint: Endpoint, request: Request) -> None:
        """Raises PermissionDenied: the token may not do this from there, or was asked to do less."""
        asked = request.headers.get("mobot-scopes")
        held = scopes.KNOWN if asked is None else frozenset(scopes.granted(re.split(r"[\s,]+", asked)))
        if not scopes.allows(held, endpoint.scope):
            raise errors.PermissionDenied(
                f"missing scope: {endpoint.scope}", reason=_MISSING_SCOPE, metadata={"missingScope": endpoint.scope}
            )
        address = request.client.host if request.client else ""
        if self._require_device == "never" or (self._require_device == "remote" and is_loopback(address)):
            return
        raise errors.PermissionDenied(
            "a request without a device identity is granted no scopes from there; "
            "MOBOT_GATEWAY_REQUIRE_DEVICE=never lets the token alone do everything",
            reason=_MISSING_SCOPE,
            metadata={"missingScope": endpoint.scope},
        )

    def _find(self, request: Request) -> tuple[Endpoint, dict[str, Any]]:
        """The row, and the fields that the path fills."""
        path = request.scope["path"]
        verbs: set[str] = set()
        for endpoint, pattern, fields in self._rows:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if endpoint.verb != request.method:
                verbs.add(endpoint.verb)
                continue
            bound: dict[str, Any] = {}
            for field, value in zip(fields, match.groups(), strict=True):
                bound = messages.merged(bound, messages.nested(field, value))
            return endpoint, bound
        if verbs:
            raise _Refused(405, f"{path} takes {', '.join(sorted(verbs))}")
        raise _Refused(404, f"there is no {path}; GET /v1/openapi.json lists what there is")

    async def _call(self, endpoint: Endpoint, bound: dict[str, Any], request: Request) -> Response:
        query = request.query_params.multi_items()
        if endpoint.rpc == "ImportMemories":
            options = messages.queried(endpoint.message_of("options"), query)
            report = await self._calls.imported(endpoint, messages.merged(options, bound), _lines(request))
            return _json(report)
        given = messages.queried(endpoint.request, query)
        if endpoint.rpc == "ExportMemories":
            return await self._export(endpoint, messages.merged(given, bound))
        if endpoint.body:
            body = messages.parsed(await _body(request))
            given = messages.merged(given, body if endpoint.body == "*" else {endpoint.body: dict(body)})
        key = request.headers.get("idempotency-key")
        if key and "request_id" in endpoint.request.fields_by_name:
            given.setdefault("requestId", key)
        return _json(await self._calls.unary(endpoint, messages.merged(given, bound)))

    async def _export(self, endpoint: Endpoint, given: dict[str, Any]) -> Response:
        frames = self._calls.exported(endpoint, given)
        # What is wrong with the request is told before the answer begins; later the connection can only be cut.
        first = await anext(frames, None)

        async def lines() -> AsyncIterator[bytes]:
            frame: Any = first
            while frame is not None:
                yield "".join(f"{line}\n" for line in frame.lines).encode()
                frame = await anext(frames, None)

        return StreamingResponse(lines(), media_type=_NDJSON)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def _lines(request: Request) -> AsyncIterator[str]:
    left = b""
    number = 0
    async for piece in request.stream():
        *whole, left = (left + piece).split(b"\n")
        if len(left) > MAX_LINE_BYTES:
            raise errors.field_invalid("body", f"line {number + 1} is longer than {MAX_LINE_BYTES} bytes")
        for line in whole:
            number += 1
            yield _decoded(line, number)
    if left:
        yield _decoded(left, number + 1)


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise errors.field_invalid("body", f"line {number} is not UTF-8") from None


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(value),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def _refusal(error: errors.AppError) -> Response:
    status = _STATUS.get(error.code, 500)
    # What is inside us is nobody's business: the trace leads to it.
    message = "internal error" if status == 500 else error.message
    shape: dict[str, Any] = {"code": status, "status": error.code, "message": message}
    if error.reason:
        shape["reason"] = error.reason
    if error.metadata:
        shape["metadata"] = dict(error.metadata)
    if error.violations:
        shape["violations"] = [{"field": each.field, "description": each.description} for each in error.violations]
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json({"error": shape}, status, headers)
