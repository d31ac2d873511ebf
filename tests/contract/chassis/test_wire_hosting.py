"""Starting, being watched, draining and stopping a service."""

import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from wire_world import FULL_NAME, SECRET, Lifecycle, Servicer, Stub, make_service, path, until

from chassis import errors, policy, status
from chassis.channel import Dialer
from chassis.identity import Authenticator, caller_metadata, mint_token
from chassis.server import PortInUse, ServiceHost, serve

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _host(listen, *, lifecycle=None, servicer=None, **options) -> ServiceHost:
    service = make_service(servicer or Servicer(), lifecycle or Lifecycle())
    return ServiceHost(service, authenticator=Authenticator(SECRET), listen=listen, grace_s=0.3, **options)


def _health(channel: grpc.aio.Channel):
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


async def _status(world, service=FULL_NAME):
    return (await _health(world.channel())(health_pb2.HealthCheckRequest(service=service))).status


# Drain


async def test_a_drain_goes_from_health_over_watches_and_calls_to_the_store(world):
    stub = world.stub()
    watch = stub.Watch(b"")
    assert await watch.read() == b"snapshot"
    health_watch = world.channel().unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=FULL_NAME))
    assert (await health_watch.read()).status == _SERVING
    world.lifecycle.steps.clear()

    draining = asyncio.create_task(world.host.drain())
    assert (await health_watch.read()).status == _NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    await draining

    restored = status.from_rpc_error(caught.value)
    assert isinstance(restored, errors.Unavailable)
    assert restored.reason == errors.DRAINING
    assert [step for step in world.lifecycle.steps if step != "ready"] == ["end_watches", "close"]


async def test_a_call_in_progress_is_finished_during_the_grace(world):
    call = world.stub().Block(b"kept")
    await until(lambda: world.servicer.started == 1)
    # `end_watches` of the test service releases it, well after the drain began.
    draining = asyncio.create_task(world.host.drain())
    assert await call == b"kept"
    await draining
    assert world.servicer.finished == 1


async def test_a_call_that_outlasts_the_grace_is_cut(world):
    world.servicer.release = _NeverSet()
    call = world.stub().Block(b"")
    await until(lambda: world.servicer.started == 1)
    draining = asyncio.create_task(world.host.drain())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await draining
    assert world.servicer.cancelled == 1
    assert world.lifecycle.steps[-1] == "close"


class _NeverSet(asyncio.Event):
    def set(self) -> None:
        pass


async def test_a_stream_that_outlasts_the_grace_is_cut(world):
    world.servicer.release = _NeverSet()
    call = world.stub().Watch(b"")
    await call.read()
    await world.host.drain()
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call.read()
    assert world.servicer.cancelled == 1


async def test_draining_twice_closes_once(world):
    await world.host.drain()
    await world.host.drain()
    assert world.lifecycle.steps.count("close") == 1


async def test_a_drained_service_refuses_calls_as_unavailable(world):
    stub = world.stub()
    await stub.Echo(b"")
    await world.host.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Echo(b"", timeout=40)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# Readiness


async def test_health_follows_readiness(world):
    assert await _status(world) == _SERVING
    world.lifecycle.ready = False
    await _until_health_is(world, _NOT_SERVING)
    assert await _status(world, "") == _NOT_SERVING
    world.lifecycle.ready = True
    await _until_health_is(world, _SERVING)


async def _until_health_is(world, expected):
    async with asyncio.timeout(40):
        while await _status(world) != expected:  # noqa: ASYNC110 - asks as a probe does
            await asyncio.sleep(0.005)


# Addresses


@pytest.mark.parametrize("front", ["aio", "native"])
async def test_a_taken_port_is_an_error_that_names_it_and_the_setting(front):
    first = _host(["127.0.0.1:0"], grpc_front=front)
    port = (await first.start())["127.0.0.1:0"]
    second = _host([f"127.0.0.1:{port}"], grpc_front=front)
    with pytest.raises(PortInUse, match=f"127.0.0.1:{port} is in use .* MOBOT_TEST_LISTEN") as caught:
        await second.start()
    assert caught.value.metadata == {"address": f"127.0.0.1:{port}", "setting": "MOBOT_TEST_LISTEN"}
    await second.drain()
    await first.drain()


async def test_a_live_socket_file_is_not_taken_over(tmp_path):
    address = f"unix:{tmp_path}/test.sock"
    first = _host([address])
    await first.start()
    second = _host([address])
    with pytest.raises(PortInUse, match=r"test\.sock is in use"):
        await second.start()
    await second.drain()
    dialer = Dialer({"test": address}, token=SECRET, actor=None)
    assert await Stub(dialer.dial("test")).Echo(b"still here") == b"still here"
    await dialer.close()
    await first.drain()


async def test_a_socket_file_left_by_a_killed_process_is_replaced(tmp_path):
    file = tmp_path / "test.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(file))
    host = _host([f"unix:{file}"])
    await host.start()
    assert file.stat().st_mode & 0o777 == 0o600
    await host.drain()


@pytest.mark.parametrize("address", ["192.0.2.1:0", "nonsense", "unix:/proc/no/such.sock"])
async def test_an_impossible_address_is_a_readable_error(address):
    host = _host([address])
    with pytest.raises(errors.FailedPrecondition, match=f"cannot listen on {address} .* MOBOT_TEST_LISTEN"):
        await host.start()
    await host.drain()


async def test_one_host_listens_on_several_addresses(tmp_path):
    addresses = ["127.0.0.1:0", f"unix:{tmp_path}/test.sock"]
    host = _host(addresses)
    ports = await host.start()
    for target in (f"127.0.0.1:{ports[addresses[0]]}", addresses[1]):
        dialer = Dialer({"test": target}, token=SECRET, actor=None)
        assert await Stub(dialer.dial("test")).Echo(b"here") == b"here"
        await dialer.close()
    await host.drain()


# Reflection and foreign clients


@pytest.mark.parametrize("front", ["aio", "native"])
async def test_reflection_lists_the_service_to_callers_with_a_token(front):
    host = _host(["127.0.0.1:0"], grpc_front=front)
    port = (await host.start())["127.0.0.1:0"]

    async def services(token):
        dialer = Dialer({"test": f"127.0.0.1:{port}"}, token=token, actor=None)
        call = dialer.dial("test").stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        try:
            answer = await call.read()
            return {service.name for service in answer.list_services_response.service}
        finally:
            await dialer.close()

    assert FULL_NAME in await services(SECRET)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await services("")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await host.drain()


async def test_a_foreign_client_without_a_deadline_gets_one(tmp_path):
    # A client in another language, which knows nothing of our policies: the server bounds its unary calls.
    servicer = Servicer()
    row = {path("Block"): policy.MethodPolicy(timeout_s=0.05)}
    host = _host([f"unix:{tmp_path}/test.sock"], servicer=servicer, policies=row)
    await host.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/test.sock") as channel:
        metadata = caller_metadata(mint_token(SECRET, "bots/main"), None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path("Block"))(b"", metadata=metadata)
    restored = status.from_rpc_error(caught.value)
    assert isinstance(restored, errors.DeadlineExceeded)
    assert servicer.cancelled == 1
    await host.drain()


# A process


async def test_serve_runs_until_a_signal_and_drains_in_reverse(tmp_path):
    order = []

    def host(name):
        lifecycle = Lifecycle()
        service = make_service(Servicer(), lifecycle)

        async def close():
            order.append(name)

        object.__setattr__(service, "close", close)
        return ServiceHost(
            service, authenticator=Authenticator(SECRET), listen=[f"unix:{tmp_path}/{name}.sock"], grace_s=0.1
        )

    ready = asyncio.Event()
    serving = asyncio.create_task(serve([host("first"), host("second")], on_ready=ready.set))
    await asyncio.wait_for(ready.wait(), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 60)
    assert order == ["second", "first"]


async def test_serve_closes_all_services_when_one_fails_to_start(tmp_path):
    lives = [Lifecycle(), Lifecycle(), Lifecycle()]
    listens = [f"unix:{tmp_path}/good.sock"], ["nonsense"], [f"unix:{tmp_path}/never.sock"]
    hosts = [_host(listen, lifecycle=life) for listen, life in zip(listens, lives, strict=True)]
    with pytest.raises(errors.FailedPrecondition, match="cannot listen on nonsense"):
        await asyncio.wait_for(serve(hosts, on_ready=None), 60)
    assert [life.steps[-1] for life in lives] == ["close"] * 3


class _Front:
    """Notes what a host's life was like when it was called."""

    def __init__(self, life: Lifecycle, failure: Exception | None = None) -> None:
        self._life, self._failure = life, failure
        self.noted: list[tuple[str, list[str]]] = []

    async def start(self) -> int:
        self.noted.append(("start", list(self._life.steps)))
        if self._failure is not None:
            raise self._failure
        return 1

    async def drain(self) -> None:
        self.noted.append(("drain", list(self._life.steps)))


async def test_what_stands_before_the_services_starts_last_and_has_drained_before_they_hear_of_it(tmp_path):
    life, ready = Lifecycle(), asyncio.Event()
    front = _Front(life)
    hosts = [_host([f"unix:{tmp_path}/one.sock"], lifecycle=life)]
    serving = asyncio.create_task(serve(hosts, on_ready=ready.set, front=front))
    await asyncio.wait_for(ready.wait(), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 60)
    assert front.noted == [("start", ["ready"]), ("drain", ["ready"])]
    assert life.steps == ["ready", "end_watches", "close"]


async def test_services_are_closed_when_what_stands_before_them_cannot_start(tmp_path):
    life = Lifecycle()
    front = _Front(life, PortInUse("taken"))
    with pytest.raises(PortInUse):
        await asyncio.wait_for(
            serve([_host([f"unix:{tmp_path}/one.sock"], lifecycle=life)], on_ready=None, front=front), 60
        )
    assert life.steps[-1] == "close"


# Letting calls in


async def test_calls_of_a_busy_method_are_let_in_together_until_the_server_stops():
    service = replace(make_service(Servicer(), Lifecycle()), busy=("Echo",))
    host = ServiceHost(
        service, authenticator=Authenticator(SECRET), listen=["127.0.0.1:0"], grace_s=0.3, grpc_front="aio"
    )
    port = (await host.start())["127.0.0.1:0"]
    assert host.lets_many_in, "grpc.aio has changed inside: see chassis/accepting.py"
    dialer = Dialer({"test": f"127.0.0.1:{port}"}, token=mint_token(SECRET, "services/router"), actor=None)
    stub = Stub(dialer.dial("test"))
    assert await asyncio.gather(*(stub.Echo(str(n).encode()) for n in range(300)))
    await dialer.close()
    await host.drain()
    assert not host.lets_many_in


async def test_without_the_native_server_aio_serves_and_native_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygrpc_native.aio", None)  # how Python marks what cannot be imported
    with pytest.raises(errors.FailedPrecondition, match="MOBOT_GRPC_FRONT"):
        await _host(["127.0.0.1:0"], grpc_front="native").start()
    host = _host(["127.0.0.1:0"], grpc_front="auto")
    port = (await host.start())["127.0.0.1:0"]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await _health(channel)(health_pb2.HealthCheckRequest(service=FULL_NAME))
            assert answer.status == _SERVING
    finally:
        await host.drain()
