"""Errors of the services in the words and codes of the clients."""

import pytest

from chassis import errors as app
from gateway import scopes
from gateway.errors import missing_scope, to_shape, unknown_method


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (app.InvalidArgument("x"), "INVALID_REQUEST", False),
        (app.NotFound("x"), "INVALID_REQUEST", False),
        (app.AlreadyExists("x"), "INVALID_REQUEST", False),
        (app.FailedPrecondition("x"), "INVALID_REQUEST", False),
        (app.Aborted("x"), "INVALID_REQUEST", False),
        (app.OutOfRange("x"), "INVALID_REQUEST", False),
        (app.Unimplemented("x"), "INVALID_REQUEST", False),
        (app.PermissionDenied("x"), "FORBIDDEN", False),
        (app.ResourceExhausted("x"), "UNAVAILABLE", True),
        (app.Unavailable("x"), "UNAVAILABLE", True),
        (app.DeadlineExceeded("x"), "UNAVAILABLE", True),
        (app.Cancelled("x"), "UNAVAILABLE", True),
    ],
)
def test_each_canonical_code_has_a_code_clients_know(error, code, retryable):
    shape = to_shape(error)

    assert (shape.code, shape.message, shape.retryable) == (code, "x", retryable)


@pytest.mark.parametrize(
    "error", [app.Internal("stack"), app.DataLoss("path"), app.Unknown("?"), app.Unauthenticated("t")]
)
def test_what_a_client_cannot_mend_is_not_told(error):
    shape = to_shape(error)

    assert (shape.code, shape.message, shape.retryable) == ("UNAVAILABLE", "internal error", False)
    assert shape.to_json()["details"] == {"reason": "internal-error"}


def test_reason_metadata_violations_and_waiting_time_are_kept():
    error = app.ResourceExhausted(
        "full", reason="QUEUE_FULL", metadata={"queue": "writer"}, retry_after_s=1.5,
        violations=[app.FieldViolation("key", "too long")],
    )  # fmt: skip

    assert to_shape(error).to_json() == {
        "code": "UNAVAILABLE",
        "message": "full",
        "details": {
            "queue": "writer",
            "reason": "queue-full",
            "violations": [{"field": "key", "description": "too long"}],
        },
        "retryable": True,
        "retryAfterMs": 1500,
    }


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (app.NotFound("x", reason="BOT_NOT_FOUND", metadata={"bot": "bots/nosuch"}), 'Unknown agent id "nosuch"'),
        (app.AlreadyExists("x", reason="LABEL_IN_USE", metadata={"label": "B"}), "label already in use: B"),
        (
            app.Aborted("x", reason="SESSION_CHANGED", metadata={"session": "bots/main/sessions/a"}),
            "Session agent:main:a changed since it was read. Retry.",
        ),
        (
            app.FailedPrecondition("session bots/main/sessions/a:b is archived."),
            "session agent:main:a:b is archived.",
        ),
    ],
)
def test_sentences_clients_know_and_keys_instead_of_names(error, message):
    assert to_shape(error).message == message


def test_unknown_methods_and_missing_scopes():
    assert unknown_method("x" * 500).shape.message == "unknown method: " + "x" * 128
    assert missing_scope("operator.read").shape.to_json() == {
        "code": "FORBIDDEN",
        "message": "missing scope: operator.read",
        "details": {
            "code": "MISSING_SCOPE",
            "missingScope": "operator.read",
            "requiredScopes": ["operator.read"],
        },
    }


@pytest.mark.parametrize(
    ("held", "needed", "allowed"),
    [
        ((), "operator.read", False),
        (("operator.read",), "operator.read", True),
        (("operator.write",), "operator.read", True),
        (("operator.read",), "operator.write", False),
        (("operator.admin",), "operator.approvals", True),
        (("operator.write",), "operator.admin", False),
    ],
)
def test_what_a_scope_allows(held, needed, allowed):
    assert scopes.allows(held, needed) is allowed
