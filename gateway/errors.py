"""Errors as the clients read them: one shape, made once from whatever was raised."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis import errors

INVALID_REQUEST = "INVALID_REQUEST"
UNAVAILABLE = "UNAVAILABLE"
FORBIDDEN = "FORBIDDEN"

# What the clients know is coarser than the canonical codes; the fine reason travels in details.reason.
_CLIENT_CODES: Mapping[str, str] = {
    "INVALID_ARGUMENT": INVALID_REQUEST,
    "NOT_FOUND": INVALID_REQUEST,
    "ALREADY_EXISTS": INVALID_REQUEST,
    "FAILED_PRECONDITION": INVALID_REQUEST,
    "ABORTED": INVALID_REQUEST,
    "OUT_OF_RANGE": INVALID_REQUEST,
    "UNIMPLEMENTED": INVALID_REQUEST,
    "PERMISSION_DENIED": FORBIDDEN,
    "RESOURCE_EXHAUSTED": UNAVAILABLE,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
    "CANCELLED": UNAVAILABLE,
}
_RETRYABLE = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})

# A session's resource name within a sentence: clients know sessions by their keys.
_SESSION_NAME = re.compile(r"bots/([a-z0-9_-]+)/sessions/([A-Za-z0-9._:@+=~-]*[A-Za-z0-9])")

_INTERNAL_MESSAGE = "internal error"


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """`error` of a response frame. `retry_after_ms` is in milliseconds."""

    code: str
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    retryable: bool = False
    retry_after_ms: int | None = None

    def to_json(self) -> dict[str, object]:
        shape: dict[str, object] = {"code": self.code, "message": self.message or self.code}
        if self.details:
            shape["details"] = dict(self.details)
        if self.retryable:
            shape["retryable"] = True
        if self.retry_after_ms is not None:
            shape["retryAfterMs"] = self.retry_after_ms
        return shape


class RequestRefused(Exception):
    """A request the edge itself refuses: bad params, unknown method, missing scope."""

    def __init__(self, shape: ErrorShape) -> None:
        super().__init__(shape.message)
        self.shape = shape


def invalid_request(message: str, **details: object) -> RequestRefused:
    return RequestRefused(ErrorShape(INVALID_REQUEST, message, details))


def unknown_method(method: str) -> RequestRefused:
    return invalid_request(f"unknown method: {method[:128]}")


def missing_scope(scope: str) -> RequestRefused:
    details = {"code": "MISSING_SCOPE", "missingScope": scope, "requiredScopes": [scope]}
    return RequestRefused(ErrorShape(FORBIDDEN, f"missing scope: {scope}", details))


def unavailable(message: str, *, retry_after_ms: int | None = None, **details: object) -> RequestRefused:
    return RequestRefused(ErrorShape(UNAVAILABLE, message, details, retryable=True, retry_after_ms=retry_after_ms))


def _message_of(error: errors.AppError) -> str:
    """The sentences clients know by heart, in their words; ours for everything else."""
    metadata = error.metadata
    match error.reason:
        case "BOT_NOT_FOUND":
            return f'Unknown agent id "{metadata.get("bot", "").removeprefix("bots/")}"'
        case "LABEL_IN_USE":
            return f"label already in use: {metadata.get('label', '')}"
        case "SESSION_IS_MAIN":
            verb = "reset" if metadata.get("action") == "reset" else "delete"
            return f"Cannot {verb} the main session ({_key_of(metadata)})."
        case "SESSION_PERSISTENT":
            return (
                f"Cannot reset persistent session {_key_of(metadata)}: its context is protected. "
                "Start another session, or make this one not persistent first."
            )
        case "SESSION_CHANGED" if "session" in metadata:
            return f"Session {_key_of(metadata)} changed since it was read. Retry."
        case _:
            return _SESSION_NAME.sub(r"agent:\1:\2", error.message)


def _key_of(metadata: Mapping[str, str]) -> str:
    name = metadata.get("session", "")
    _, _, rest = name.partition("bots/")
    bot, _, session = rest.partition("/sessions/")
    return f"agent:{bot}:{session}" if session else name


def to_shape(error: errors.AppError) -> ErrorShape:
    """A service's error as a client's: reason in the clients' spelling ("session-persistent"), metadata beside it."""
    code = _CLIENT_CODES.get(error.code)
    if code is None:
        # Internal, data loss, unknown, and our own credentials refused upstream: nothing a client could act on.
        details = {key: value for key, value in error.metadata.items() if key in ("trace_id", "traceId")}
        return ErrorShape(UNAVAILABLE, _INTERNAL_MESSAGE, {"reason": "internal-error", **details})
    details_json: dict[str, object] = {**error.metadata}
    if error.reason:
        details_json["reason"] = error.reason.lower().replace("_", "-")
    if error.violations:
        details_json["violations"] = [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ]
    return ErrorShape(
        code,
        _message_of(error),
        details_json,
        retryable=error.code in _RETRYABLE,
        retry_after_ms=None if error.retry_after_s is None else round(error.retry_after_s * 1000),
    )
