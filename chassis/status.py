"""The one table between chassis.errors and what gRPC carries, in both directions (AIP-193).

On the wire an error is a canonical code, a message and, in the trailing metadata, a google.rpc.Status with
ErrorInfo (always), BadRequest, RetryInfo and QuotaFailure (where they apply).
"""

from collections.abc import Mapping

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from chassis import errors

DETAILS_KEY = "grpc-status-details-bin"

# A status travels in HTTP/2 trailers, whose size is limited; past these bounds the call would fail with a
# transport error and hide the very error it tries to report.
_MAX_MESSAGE_CHARS = 4_000
_MAX_VIOLATIONS = 64

_CLASSES: Mapping[str, type[errors.AppError]] = {
    cls.code: cls
    for cls in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.AlreadyExists,
        errors.PermissionDenied,
        errors.Unauthenticated,
        errors.FailedPrecondition,
        errors.Aborted,
        errors.OutOfRange,
        errors.ResourceExhausted,
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.Unimplemented,
        errors.Internal,
        errors.DataLoss,
        errors.Unknown,
    )
}
_GRPC_CODES: Mapping[str, grpc.StatusCode] = {name: grpc.StatusCode[name] for name in _CLASSES}


def to_grpc_code(error: errors.AppError) -> grpc.StatusCode:
    return _GRPC_CODES[error.code]


def to_status(error: errors.AppError, *, domain: str) -> status_pb2.Status:
    """The wire form. `domain` is "<service>.mobot"; an error restored from another service keeps that one's domain."""
    status = status_pb2.Status(code=to_grpc_code(error).value[0], message=error.message[:_MAX_MESSAGE_CHARS])
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason or error.code, domain=error.domain or domain, metadata=error.metadata
        )
    )
    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:_MAX_VIOLATIONS]:
            bad_request.field_violations.add(field=violation.field, description=violation.description)
        status.details.add().Pack(bad_request)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    if error.quota:
        quota = error_details_pb2.QuotaFailure()
        for violation in error.quota[:_MAX_VIOLATIONS]:
            quota.violations.add(subject=violation.field, description=violation.description)
        status.details.add().Pack(quota)
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.AppError:
    """The error the service raised: same class, reason, metadata, violations, retry and `.domain`.

    An error without details (a lost connection, a deadline that passed on the client's side) keeps its code and
    message and has no reason.
    """
    cls = _CLASSES.get(error.code().name, errors.Unknown)
    status = _status_of(error)
    if status is None:
        # A class's own default reason would claim more than the wire said.
        return cls(error.details() or error.code().name, reason="")
    return _from_status(cls, status)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def _from_status(cls: type[errors.AppError], status: status_pb2.Status) -> errors.AppError:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    quota = error_details_pb2.QuotaFailure()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(quota.DESCRIPTOR):
            detail.Unpack(quota)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    restored = cls(
        status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=[errors.FieldViolation(v.field, v.description) for v in bad_request.field_violations],
        retry_after_s=retry_after_s,
        quota=[errors.FieldViolation(v.subject, v.description) for v in quota.violations],
    )
    restored.domain = info.domain
    return restored
