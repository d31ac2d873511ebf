"""The test service, reached over a local channel, TCP (both servers) and a Unix socket, and accepting by the dozen."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from wire_world import SECRET, UNARY, Lifecycle, Servicer, Stub, World, make_service

from chassis.clock import FakeClock
from chassis.identity import Authenticator
from chassis.server import ServiceHost
from chassis.telemetry import Telemetry


@pytest.fixture(params=["local", "tcp", "native", "unix", "busy"])
async def world(request, tmp_path) -> AsyncIterator[World]:
    servicer = Servicer()
    lifecycle = Lifecycle()
    telemetry = Telemetry.off()
    listen = {"local": [], "unix": [f"unix:{tmp_path}/test.sock"]}.get(request.param, ["127.0.0.1:0"])
    service = make_service(servicer, lifecycle)
    if request.param == "busy":
        service = replace(service, busy=UNARY)
    host = ServiceHost(
        service,
        authenticator=Authenticator(SECRET),
        listen=listen,
        grace_s=0.3,
        telemetry=telemetry,
        clock=FakeClock(),
        ready_interval_s=0.01,
        grpc_front="native" if request.param == "native" else "aio",
    )
    ports = await host.start()
    tcp = f"127.0.0.1:{ports.get('127.0.0.1:0')}"
    target = {"local": "local:", "unix": "".join(listen)}.get(request.param, tcp)
    running = World(request.param, servicer, lifecycle, host, target, telemetry)
    yield running
    for dialer in running.dialers:
        await dialer.close()
    await host.drain()


@pytest.fixture
def stub(world: World) -> Stub:
    return world.stub()
