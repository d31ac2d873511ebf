"""The test service, reached over a local channel, TCP and a Unix socket alike."""

from collections.abc import AsyncIterator

import pytest
from wire_world import SECRET, Lifecycle, Servicer, Stub, World, make_service

from chassis.clock import FakeClock
from chassis.identity import Authenticator
from chassis.server import ServiceHost
from chassis.telemetry import Telemetry


@pytest.fixture(params=["local", "tcp", "unix"])
async def world(request, tmp_path) -> AsyncIterator[World]:
    servicer = Servicer()
    lifecycle = Lifecycle()
    telemetry = Telemetry.off()
    listen = {"local": [], "tcp": ["127.0.0.1:0"], "unix": [f"unix:{tmp_path}/test.sock"]}[request.param]
    host = ServiceHost(
        make_service(servicer, lifecycle),
        authenticator=Authenticator(SECRET),
        listen=listen,
        grace_s=0.3,
        telemetry=telemetry,
        clock=FakeClock(),
        ready_interval_s=0.01,
    )
    ports = await host.start()
    target = {"local": "local:", "tcp": f"127.0.0.1:{ports.get('127.0.0.1:0')}", "unix": "".join(listen)}
    running = World(request.param, servicer, lifecycle, host, target[request.param], telemetry)
    yield running
    for dialer in running.dialers:
        await dialer.close()
    await host.drain()


@pytest.fixture
def stub(world: World) -> Stub:
    return world.stub()
