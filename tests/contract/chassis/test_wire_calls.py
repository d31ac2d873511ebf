"""The four call kinds behave alike over a local channel, TCP and a Unix socket."""

import asyncio

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wire_world import FULL_NAME, until

from chassis import errors, policy, status


async def test_a_unary_call_is_answered(stub):
    assert await stub.Echo(b"hello") == b"hello"


async def test_a_unary_call_can_be_awaited_twice(stub):
    call = stub.Echo(b"hello")
    assert [await call, await call] == [b"hello", b"hello"]


async def test_a_generated_stub_takes_the_channel_as_it_is(world):
    stub = health_pb2_grpc.HealthStub(world.channel())
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=FULL_NAME))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=FULL_NAME))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_status_and_trailing_metadata_of_a_finished_call(stub):
    call = stub.Echo(b"hello")
    await call
    assert await call.code() is grpc.StatusCode.OK
    assert ("answered-by", "echo") in tuple(await call.trailing_metadata())
    assert call.done()
    assert not call.cancelled()


async def test_a_call_that_nobody_awaits_still_runs(stub, world):
    call = stub.Block(b"")
    await until(lambda: world.servicer.started == 1)
    world.servicer.release.set()
    assert await call.code() is grpc.StatusCode.OK


async def test_calls_made_together_run_together(stub, world):
    first, second = stub.Block(b"1"), stub.Block(b"2")
    await until(lambda: world.servicer.started == 2)
    world.servicer.release.set()
    assert [await first, await second] == [b"1", b"2"]


async def test_gathered_calls_run_together(stub, world):
    answers = asyncio.gather(stub.Block(b"1"), stub.Block(b"2"))
    await until(lambda: world.servicer.started == 2)
    world.servicer.release.set()
    assert await answers == [b"1", b"2"]


async def test_metadata_of_the_call_reaches_the_handler(stub, world):
    await stub.Echo(b"", metadata=(("color", "blue"), ("raw-bin", b"\x00\x01")))
    assert world.servicer.metadata["color"] == "blue"
    assert world.servicer.metadata["raw-bin"] == b"\x00\x01"


async def test_an_unknown_method_is_unimplemented(world):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.channel().unary_unary("/mobot.test.v1.TestService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_handler_may_abort_by_hand(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Abort(b"")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "by hand")
    assert ("why", "because") in tuple(caught.value.trailing_metadata())


async def test_a_done_callback_is_called_once_the_call_ended(stub):
    ended = asyncio.Event()
    call = stub.Echo(b"")
    call.add_done_callback(lambda _: ended.set())
    await call
    await asyncio.wait_for(ended.wait(), 60)


# Deadlines


async def test_a_timeout_reaches_the_handler(stub, world):
    await stub.Echo(b"", timeout=5.0)
    assert 4.0 < world.servicer.remaining < 5.5


async def test_a_call_past_its_timeout_fails_and_cancels_its_handler(stub, world):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Block(b"", timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: world.servicer.cancelled == 1)
    assert asyncio.current_task().cancelling() == 0


async def test_a_handler_that_survives_its_deadline_does_not_answer(stub, world):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Stubborn(b"", timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: world.servicer.cancelled == 1)
    await asyncio.sleep(0)


async def test_a_timeout_of_nothing_fails_at_once(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Block(b"", timeout=0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_without_a_timeout_gets_the_policy_s(world):
    stub = world.stub(policies={"mobot.test.v1.TestService": policy.MethodPolicy(timeout_s=0.05)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Block(b"")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: world.servicer.cancelled == 1)


async def test_a_stream_past_its_timeout_fails_and_cancels_its_handler(stub, world):
    call = stub.Watch(b"", timeout=0.2)
    assert await call.read() == b"snapshot"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: world.servicer.cancelled == 1)


# Cancellation


async def test_cancel_reaches_the_handler_and_the_awaiting_client(stub, world):
    call = stub.Block(b"")
    waiting = asyncio.ensure_future(_outcome(call))
    await until(lambda: world.servicer.started == 1)
    assert call.cancel()
    assert isinstance(await waiting, asyncio.CancelledError)
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert call.cancelled()
    await until(lambda: world.servicer.cancelled == 1)


async def _outcome(call):
    try:
        return await call
    except asyncio.CancelledError as error:
        assert asyncio.current_task().cancelling() == 0
        return error


async def test_cancelling_the_awaiting_task_cancels_the_handler(stub, world):
    async def client():
        await stub.Block(b"")

    task = asyncio.create_task(client())
    await until(lambda: world.servicer.started == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: world.servicer.cancelled == 1)
    await until(lambda: world.servicer.done_callbacks == 1)


async def test_a_finished_call_cannot_be_cancelled(stub):
    call = stub.Echo(b"")
    await call
    assert not call.cancel()
    assert not call.cancelled()


async def test_cancel_ends_a_stream_and_its_handler(stub, world):
    call = stub.Watch(b"")
    assert await call.read() == b"snapshot"
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED
    await until(lambda: world.servicer.cancelled == 1)


async def test_cancelling_a_reading_task_cancels_the_stream(stub, world):
    call = stub.Watch(b"")
    await call.read()
    task = asyncio.create_task(call.read())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: world.servicer.cancelled == 1)


# Streams


@pytest.mark.parametrize("method", ["Count", "CountByWriting"])
async def test_a_server_stream_is_iterated(stub, method):
    assert [message async for message in getattr(stub, method)(b"40")] == [b"%d" % number for number in range(40)]


async def test_a_server_stream_is_read(stub):
    call = stub.Count(b"2")
    assert [await call.read(), await call.read()] == [b"0", b"1"]
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_stream_from_an_iterator(stub):
    async def requests():
        for number in range(40):
            yield b"%d" % number

    assert await stub.Collect(requests()) == b",".join(b"%d" % number for number in range(40))


async def test_a_client_stream_from_a_plain_list(stub):
    assert await stub.Collect([b"a", b"b"]) == b"a,b"


@pytest.mark.parametrize("method", ["Collect", "CollectByReading"])
async def test_a_client_stream_by_writing(stub, method):
    call = getattr(stub, method)()
    for number in range(3):
        await call.write(b"%d" % number)
    await call.done_writing()
    await call.done_writing()
    assert await call == b"0,1,2"
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"late")


async def test_a_conversation(stub):
    call = stub.Talk()
    for word in (b"a", b"b"):
        await call.write(word)
        assert await call.read() == b"re:" + word
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_conversation_with_iterators(stub):
    async def requests():
        for number in range(40):
            yield b"%d" % number

    assert [answer async for answer in stub.Talk(requests())] == [b"re:%d" % number for number in range(40)]


async def test_a_cancelled_conversation_ends_its_handler(stub, world):
    # By CancelledError or, on a socket, by an end of the requests: gRPC answers the pending read first.
    call = stub.Talk()
    await call.write(b"a")
    await call.read()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await until(lambda: world.servicer.finished == 1)


async def test_initial_metadata_arrives_before_the_first_message(stub, world):
    call = stub.Greet(b"")
    assert ("hello", "there") in tuple(await call.initial_metadata())
    world.servicer.release.set()
    assert await call.read() == b"late"


async def test_a_raising_request_iterator_cancels_the_call(stub, caplog):
    async def requests():
        yield b"a"
        raise RuntimeError("the client's own fault")

    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await stub.Collect(requests())


async def test_an_error_after_the_first_message_comes_after_it(stub, world):
    world.servicer.error = errors.OutOfRange("too old", reason="EVENTS_COMPACTED", metadata={"oldest": "41"})
    call = stub.FailLate(b"")
    assert await call.read() == b"first"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    restored = status.from_rpc_error(caught.value)
    assert isinstance(restored, errors.OutOfRange)
    assert (restored.reason, restored.metadata) == ("EVENTS_COMPACTED", {"oldest": "41"})


async def test_an_error_after_the_first_message_ends_an_iteration(stub, world):
    world.servicer.error = errors.Aborted("lost a race")
    messages = aiter(stub.FailLate(b""))
    assert await anext(messages) == b"first"
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(messages)


# Flow control

_BIG = b"x" * 65_536


async def test_a_slow_reader_stops_the_writing_handler(stub, world):
    if world.kind == "native":
        pytest.skip("there it waits in a thread, which is why it is not the default: see ADR 14")
    call = stub.Flood(_BIG)
    await _settled(lambda: world.servicer.written)
    stopped_at = world.servicer.written
    assert stopped_at < 200
    # How much must be read before a transport opens its window again is the transport's affair.
    async with asyncio.timeout(40):
        while world.servicer.written <= stopped_at:
            await call.read()
    call.cancel()
    await until(lambda: world.servicer.cancelled == 1)


async def test_a_slow_handler_stops_the_writing_client(stub, world):
    call = stub.IgnoreRequests()
    written = 0

    async def write_all():
        nonlocal written
        while True:
            await call.write(_BIG)
            written += 1

    writing = asyncio.create_task(write_all())
    await _settled(lambda: written)
    assert written < 200
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_handler_may_end_before_its_client_has_written_all(stub, world):
    async def requests():
        while True:
            yield b"more"

    call = stub.IgnoreRequests(requests())
    await until(lambda: world.servicer.started == 1)
    world.servicer.release.set()
    assert await call == b"ignored"


async def _settled(read):
    """Until a counter above zero stays the same for 60 ms."""
    last, same = read(), 0
    async with asyncio.timeout(40):
        while same < 3 or not last:
            await asyncio.sleep(0.02)
            now = read()
            same = same + 1 if now == last else 0
            last = now
