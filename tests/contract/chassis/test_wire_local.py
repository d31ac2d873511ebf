"""What only a local channel does, or promises beyond a socket."""

import asyncio
import gc

import grpc
import grpc.aio
import pytest
from wire_world import SECRET, Lifecycle, Servicer, Stub, make_service, until

from chassis import errors
from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.identity import CURRENT_CALLER, Authenticator, mint_token
from chassis.interceptors import server_chain
from chassis.telemetry import Telemetry


def _dialer():
    return Dialer({"test": "local:"}, token=mint_token(SECRET, "bots/main"), actor=None)


def _add(dialer, servicer):
    chain = server_chain(
        service="test", authenticator=Authenticator(SECRET), clock=FakeClock(), telemetry=Telemetry.off()
    )
    return dialer.add_local(make_service(servicer, Lifecycle()), chain)


async def test_a_stub_may_be_made_before_its_service_is_added():
    dialer = _dialer()
    stub = Stub(dialer.dial("test"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Echo(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    _add(dialer, Servicer())
    assert await stub.Echo(b"now") == b"now"


async def test_a_service_without_a_target_is_a_readable_error():
    with pytest.raises(errors.FailedPrecondition, match="no target is configured for the nowhere service"):
        _dialer().dial("nowhere")


async def test_messages_pass_by_reference():
    dialer = _dialer()
    _add(dialer, Servicer())
    message = bytes(1000)
    assert await Stub(dialer.dial("test")).Echo(message) is message


async def test_a_forgotten_stream_is_cancelled():
    # On a socket gRPC itself keeps a forgotten call alive: cancel what you leave.
    dialer = _dialer()
    servicer = Servicer()
    _add(dialer, servicer)
    async for _ in Stub(dialer.dial("test")).Watch(b""):
        break
    await until(lambda: gc.collect() >= 0 and servicer.cancelled == 1)


async def test_a_call_within_a_call_has_its_own_caller_and_leaves_the_outer_one_alone():
    inner_dialer = Dialer({"test": "local:"}, token=mint_token(SECRET, "services/router"), actor=None)
    inner = Servicer()
    _add(inner_dialer, inner)

    class Outer(Servicer):
        async def Echo(self, request, context):
            before = CURRENT_CALLER.get()
            await Stub(inner_dialer.dial("test")).Echo(request)
            assert CURRENT_CALLER.get() is before
            return before.principal.encode()

    dialer = _dialer()
    _add(dialer, Outer())
    assert await Stub(dialer.dial("test")).Echo(b"") == b"bots/main"
    assert inner.seen_caller.principal == "services/router"
    assert CURRENT_CALLER.get() is None


async def test_deadlines_of_nested_calls_end_the_right_call():
    inner_dialer = _dialer()
    inner = Servicer()
    _add(inner_dialer, inner)
    outcome = []

    class Outer(Servicer):
        async def Echo(self, request, context):
            try:
                await Stub(inner_dialer.dial("test")).Block(b"", timeout=float(request))
            except grpc.aio.AioRpcError as error:
                outcome.append(error.code())
            return b"survived"

    dialer = _dialer()
    _add(dialer, Outer())
    stub = Stub(dialer.dial("test"))
    assert await stub.Echo(b"0.02", timeout=40) == b"survived"
    assert outcome == [grpc.StatusCode.DEADLINE_EXCEEDED]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Echo(b"5", timeout=0.02)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(outcome) == 1
    assert asyncio.current_task().cancelling() == 0


async def test_a_timeout_around_a_local_call_stays_a_timeout():
    dialer = _dialer()
    servicer = Servicer()
    _add(dialer, servicer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await Stub(dialer.dial("test")).Block(b"")
    assert servicer.cancelled == 1


async def test_the_writer_is_never_more_than_sixteen_messages_ahead():
    dialer = _dialer()
    servicer = Servicer()
    _add(dialer, servicer)
    call = Stub(dialer.dial("test")).Flood(b"")
    await call.read()
    for _ in range(50):
        await asyncio.sleep(0)
    assert servicer.written == 17
    call.cancel()
    await until(lambda: servicer.cancelled == 1)
