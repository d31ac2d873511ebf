"""Errors cross the wire whole, and nothing crosses it that should not."""

import logging

import grpc
import grpc.aio
import pytest

from chassis import errors, status

_CLASSES = [cls for cls in errors.AppError.__subclasses__() if cls.__module__ == "chassis.errors"]


def test_there_is_a_class_for_each_code_but_ok():
    assert {cls.code for cls in _CLASSES} == {code.name for code in grpc.StatusCode} - {"OK"}


async def _failure(stub) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Fail(b"")
    return caught.value


@pytest.mark.parametrize("cls", [cls for cls in _CLASSES if cls is not errors.Cancelled])
async def test_an_error_arrives_as_it_was_raised(stub, world, cls):
    world.servicer.error = cls(
        "session bots/main/sessions/x is persistent; delete it instead",
        reason="SESSION_PERSISTENT",
        metadata={"session": "bots/main/sessions/x"},
        violations=[errors.FieldViolation("session.name", "must be kept")],
        retry_after_s=1.5,
        quota=[errors.FieldViolation("bots/main", "10 sessions")],
    )
    error = await _failure(stub)
    restored = status.from_rpc_error(error)
    assert error.code().name == cls.code
    assert type(restored) is cls
    assert restored.message == "session bots/main/sessions/x is persistent; delete it instead"
    assert restored.reason == "SESSION_PERSISTENT"
    assert restored.metadata == {"session": "bots/main/sessions/x"}
    assert restored.violations == (errors.FieldViolation("session.name", "must be kept"),)
    assert restored.retry_after_s == 1.5
    assert restored.quota == (errors.FieldViolation("bots/main", "10 sessions"),)
    assert restored.domain == "test.mobot"


async def test_an_invalid_field_says_which_and_why(stub, world):
    world.servicer.error = errors.field_invalid("message.text", "must not be empty", length="0")
    restored = status.from_rpc_error(await _failure(stub))
    assert isinstance(restored, errors.InvalidArgument)
    assert restored.reason == errors.FIELD_INVALID
    assert restored.metadata == {"field": "message.text", "length": "0"}
    assert restored.violations == (errors.FieldViolation("message.text", "must not be empty"),)


async def test_a_message_beyond_ascii_arrives_whole(stub, world):
    world.servicer.error = errors.NotFound("nobody is called “žluťoučký kůň” 🐴")
    assert status.from_rpc_error(await _failure(stub)).message == "nobody is called “žluťoučký kůň” 🐴"


async def test_an_error_too_long_for_trailers_is_shortened_not_lost(stub, world):
    violations = [errors.FieldViolation(f"items[{number}]", "must not be empty") for number in range(500)]
    world.servicer.error = errors.InvalidArgument("x" * 100_000, violations=violations)
    restored = status.from_rpc_error(await _failure(stub))
    assert isinstance(restored, errors.InvalidArgument)
    assert 0 < len(restored.violations) < 500


async def test_an_unknown_exception_is_hidden(stub, world, caplog):
    world.servicer.error = ZeroDivisionError("the password is swordfish")
    with caplog.at_level(logging.INFO, logger="mobot.rpc"):
        error = await _failure(stub)
    restored = status.from_rpc_error(error)
    assert isinstance(restored, errors.Internal)
    assert (restored.message, restored.reason) == ("internal error", errors.INTERNAL_ERROR)
    assert "swordfish" not in repr(error)
    ours = next(record for record in caplog.records if record.getMessage() == "rpc raised")
    assert ours.failure_trace_id == restored.metadata["trace_id"]
    assert "swordfish" in str(ours.exc_info)


async def test_a_dependency_s_unavailability_is_passed_on(stub, world):
    world.servicer.error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "connection refused"
    )
    assert isinstance(status.from_rpc_error(await _failure(stub)), errors.Unavailable)


async def test_a_dependency_s_refusal_of_ours_is_our_bug(stub, world):
    world.servicer.error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "no such row"
    )
    restored = status.from_rpc_error(await _failure(stub))
    assert isinstance(restored, errors.Internal)
    assert restored.message == "internal error"


async def test_failures_are_logged_at_info_and_successes_at_debug(stub, world, caplog):
    world.servicer.error = errors.NotFound("no such bot", reason="BOT_MISSING")
    with caplog.at_level(logging.DEBUG, logger="mobot.rpc"):
        await _failure(stub)
        await stub.Echo(b"the text of a message")
    failed, finished = caplog.records
    assert (failed.levelno, failed.code, failed.reason) == (logging.INFO, "NOT_FOUND", "BOT_MISSING")
    assert failed.principal == "services/router"
    assert (finished.levelno, finished.code) == (logging.DEBUG, "OK")
    assert "the text" not in str(finished.__dict__)


async def test_calls_are_counted_by_code(stub, world):
    world.servicer.error = errors.NotFound("no such bot")
    await _failure(stub)
    await stub.Echo(b"")
    assert [message async for message in stub.Count(b"3")]
    text = world.telemetry.render_metrics().decode()
    name = "/mobot.test.v1.TestService"
    assert f'rpc_server_handled_total{{code="NOT_FOUND",method="{name}/Fail",service="test"}} 1.0' in text
    assert f'rpc_server_duration_seconds_count{{method="{name}/Echo",service="test"}} 1.0' in text
    assert f'rpc_server_messages_sent_total{{method="{name}/Count",service="test"}} 3.0' in text
    assert f'rpc_server_active{{method="{name}/Echo",service="test"}} 0.0' in text
