"""A gateway on a free port, before stand-ins of the services in the same process."""

import contextlib
from dataclasses import dataclass

import pytest
from edge_client import connected
from edge_upstream import Registry, Router, Sessions, World
from sdk_fakes.memory import FakeMemory

from chassis.channel import LOCAL, Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator
from chassis.policy import full_service_name
from chassis.server import Service, ServiceHost
from chassis.telemetry import Telemetry
from gateway.composition import compose
from gateway.settings import GatewaySettings
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc

SECRET = "secret"


@dataclass
class Edge:
    gateway: object
    world: World
    port: int
    hosts: dict

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options):
        return connected(self.url, **options)


async def _nothing():
    return None


async def _true():
    return True


@pytest.fixture
async def start_edge():
    """Starts gateways with settings of the test's choice; all are drained at its end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(world=None, *, metrics_token="", **settings):
            world = world or World()
            parts = {
                "session": (Sessions(world), session_service_pb2_grpc.add_SessionServiceServicer_to_server),
                "router": (Router(world), router_service_pb2_grpc.add_RouterServiceServicer_to_server),
                "registry": (Registry(), registry_service_pb2_grpc.add_RegistryServiceServicer_to_server),
                "memory": (FakeMemory(), memory_service_pb2_grpc.add_MemoryServiceServicer_to_server),
            }
            dialer = Dialer(dict.fromkeys(parts, LOCAL), token=SECRET, actor="operators/root")
            hosts = {}

            async def end_watches():
                world.cut_watches()

            for name, (servicer, register) in parts.items():
                service = Service(name, full_service_name(name), servicer, register, _true, end_watches, _nothing)
                host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=(), grace_s=0.2)
                await host.start()
                stack.push_async_callback(host.drain)
                dialer.add_handlers(host.local_handlers)
                hosts[name] = host
            gateway = compose(
                GatewaySettings(port=0, **{"gateway_delta_interval_s": 0.0, **settings}),
                token=SECRET,
                dialer=dialer,
                clock=SystemClock(),
                telemetry=Telemetry.off(),
                metrics_token=metrics_token,
            )
            stack.push_async_callback(dialer.close)
            port = await gateway.start()
            stack.push_async_callback(gateway.drain)
            return Edge(gateway, world, port, hosts)

        yield start


@pytest.fixture
async def edge(start_edge):
    return await start_edge()
