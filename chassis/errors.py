"""The errors a service raises: one class per canonical gRPC code, each with a machine-readable reason.

Pure: nothing of gRPC here, so domain code may raise these. The wire form is in chassis.status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

# Reasons the chassis itself raises; each service's ErrorReason enum contains them too.
UNAUTHENTICATED = "UNAUTHENTICATED"
CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
FIELD_INVALID = "FIELD_INVALID"
PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
RESOURCE_NAME_INVALID = "RESOURCE_NAME_INVALID"
QUEUE_FULL = "QUEUE_FULL"
DRAINING = "DRAINING"
SCHEMA_STALE = "SCHEMA_STALE"
INTERNAL_ERROR = "INTERNAL_ERROR"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule. `field` is a field path ("message.text"), or a quota's subject ("bots/main")."""

    field: str
    description: str


class AppError(Exception):
    """An error meant for the caller.

    `message` is one sentence naming the value and the way out; `reason` is UPPER_SNAKE_CASE and stable;
    `metadata` holds the values in the message for machines; `retry_after_s` is in seconds.
    `domain` names the service an error came from; it is set only on errors restored from the wire.
    """

    code: ClassVar[str] = "UNKNOWN"
    reason: str = ""
    domain: str = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
        quota: Sequence[FieldViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata) if metadata else {}
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        self.retry_after_s = retry_after_s
        self.quota: tuple[FieldViolation, ...] = tuple(quota)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, reason={self.reason!r})"


class InvalidArgument(AppError):
    code = "INVALID_ARGUMENT"


class NotFound(AppError):
    code = "NOT_FOUND"


class AlreadyExists(AppError):
    code = "ALREADY_EXISTS"


class PermissionDenied(AppError):
    code = "PERMISSION_DENIED"
    reason = CALLER_NOT_ALLOWED


class Unauthenticated(AppError):
    code = "UNAUTHENTICATED"
    reason = UNAUTHENTICATED


class FailedPrecondition(AppError):
    code = "FAILED_PRECONDITION"


class Aborted(AppError):
    code = "ABORTED"


class OutOfRange(AppError):
    code = "OUT_OF_RANGE"


class ResourceExhausted(AppError):
    code = "RESOURCE_EXHAUSTED"


class Unavailable(AppError):
    code = "UNAVAILABLE"


class Draining(Unavailable):
    """The server is stopping; another replica takes the call, or this one after its restart."""

    reason = DRAINING

    def __init__(self, message: str = "the service is stopping; call again") -> None:
        super().__init__(message, retry_after_s=0.5)


class DeadlineExceeded(AppError):
    code = "DEADLINE_EXCEEDED"


class Cancelled(AppError):
    """The call was cancelled by its caller. Not asyncio.CancelledError, which is how a handler learns of it."""

    code = "CANCELLED"


class Unimplemented(AppError):
    code = "UNIMPLEMENTED"


class Internal(AppError):
    code = "INTERNAL"
    reason = INTERNAL_ERROR


class DataLoss(AppError):
    code = "DATA_LOSS"


class Unknown(AppError):
    code = "UNKNOWN"


def field_invalid(field: str, rule: str, **metadata: str) -> InvalidArgument:
    """A request field (by path) that breaks a rule; `rule` says what is allowed ("must be 1 to 64 characters")."""
    return InvalidArgument(
        f"{field}: {rule}",
        reason=FIELD_INVALID,
        metadata={"field": field, **metadata},
        violations=(FieldViolation(field, rule),),
    )
