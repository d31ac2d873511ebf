"""Puts the gateway together, starts it, and takes it down in the right order."""

import asyncio
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as distribution_version

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.applications import Starlette

from chassis.channel import Dialer
from chassis.clock import Clock
from chassis.policy import full_service_name
from chassis.telemetry import Telemetry
from gateway import frames
from gateway.api.calls import Calls
from gateway.api.http import RestApi
from gateway.api.mail import MAIL
from gateway.api.memory import MEMORY
from gateway.api.people import People
from gateway.api.sessions import SESSIONS
from gateway.api.sockets import ApiMethods
from gateway.app import create_app
from gateway.auth import TokenGate
from gateway.bots import Bots
from gateway.connection import Limits
from gateway.dispatch import Dispatcher
from gateway.edge import Edge, EdgeConfig
from gateway.handshake import HandshakePolicy
from gateway.hub import Hub
from gateway.keys import MAIN, Keys
from gateway.mail import Mail
from gateway.methods.agents import AgentMethods
from gateway.methods.chat import ChatMethods
from gateway.methods.cron import CronMethods
from gateway.methods.finding import FindingMethods
from gateway.methods.session_changes import SessionChangeMethods
from gateway.methods.sessions import SessionMethods
from gateway.methods.small import SmallMethods, health_snapshot
from gateway.methods.usage import UsageMethods
from gateway.metrics import GatewayMetrics
from gateway.rows import Rows
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.shared_page import SharedPages
from gateway.streams import Streams
from gateway.web_server import WebServer, bind, create_server
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc

# The services without which nobody can talk; without the memory a talk still goes on.
_UPSTREAM = ("registry", "session", "router")
_PROBE_TIMEOUT_S = 2.0
ENDPOINTS = (*MEMORY, *MAIL, *SESSIONS)


@dataclass(slots=True)
class Gateway:
    """A composed gateway. `start`, then `drain`."""

    app: Starlette
    hub: Hub
    services: Services
    settings: GatewaySettings
    _server: WebServer | None = None
    _tasks: "tuple[asyncio.Task[None], ...]" = ()
    _serving: "asyncio.Task[None] | None" = None

    async def start(self) -> int:
        """Binds, begins to watch, and serves. Returns the port.

        Raises:
            PortInUse: somebody else listens there.
        """
        listener = bind(self.settings.host, self.settings.port)
        services = self.services
        self._tasks = (
            asyncio.create_task(services.streams.run()),
            asyncio.create_task(services.mail.run()),
            asyncio.create_task(self.hub.run(lambda: frames.dump(health_snapshot(services)))),
        )
        self._server = create_server(
            self.app,
            ping_interval_s=self.settings.gateway_ping_interval_s,
            trusted_proxies=self.settings.gateway_trusted_proxies,
        )
        port: int = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._serve(self._server, listener))
        return port

    async def drain(self) -> None:
        """Tells the clients to come back later, closes their sockets, stops."""
        await self.hub.close("service restart")
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await self._serving
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, server: WebServer, listener: socket.socket) -> None:
        await server.serve(sockets=[listener])


def compose(
    settings: GatewaySettings,
    *,
    token: str,
    dialer: Dialer,
    clock: Clock,
    telemetry: Telemetry,
    metrics_token: str = "",
) -> Gateway:
    """Everything wired, nothing started. Must be called on the event loop. `token` is what clients present, and
    `metrics_token`, if any, whoever reads the meters."""
    version = _version()
    metrics = GatewayMetrics(telemetry.registry)
    hub = Hub(clock=clock, tick_interval_s=settings.gateway_tick_interval_s, version=version)
    sessions = session_service_pb2_grpc.SessionServiceStub(dialer.dial("session"))
    router = router_service_pb2_grpc.RouterServiceStub(dialer.dial("router"))
    registry = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
    services = Services(
        sessions=sessions,
        router=router,
        bots=Bots(registry, settings.gateway_default_bot),
        mail=Mail(router, metrics=metrics),
        streams=Streams(sessions, hub, metrics=metrics, delta_interval_s=settings.gateway_delta_interval_s),
        hub=hub,
        keys=Keys(settings.gateway_default_bot),
        rows=Rows(),
        new_id=lambda: str(uuid.uuid4()),
    )
    gate = TokenGate(
        token,
        monotonic=time.monotonic,
        max_wrong=settings.gateway_max_wrong_tokens,
        limit_loopback=settings.gateway_limit_loopback,
    )
    memory = memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory"))
    calls = Calls({"memory": memory, "router": router, "session": sessions}, People(sessions, router))
    edge = Edge(
        _edge_config(settings, version),
        hub=hub,
        gate=gate,
        dispatcher=_dispatcher(services, calls, version, metrics),
        metrics=metrics,
        clock=clock,
        health=lambda: health_snapshot(services),
        forget=services.streams.unwatch,
    )

    async def readiness() -> Mapping[str, bool]:
        answers = await asyncio.gather(*(_is_serving(dialer, service) for service in _UPSTREAM))
        return {**dict(zip(_UPSTREAM, answers, strict=True)), "watch": services.streams.is_ready}

    app = create_app(
        edge,
        api=RestApi(ENDPOINTS, calls, gate, metrics, require_device=settings.gateway_require_device),
        readiness=readiness,
        telemetry=telemetry,
        metrics_token=metrics_token,
        shared=SharedPages(sessions),
        control_ui_dir=settings.gateway_control_ui_dir,
    )
    return Gateway(app, hub, services, settings)


def _dispatcher(services: Services, calls: Calls, version: str, metrics: GatewayMetrics) -> Dispatcher:
    agents = AgentMethods(services)
    return Dispatcher(
        (
            *SessionMethods(services).table(),
            *SessionChangeMethods(services).table(),
            *ChatMethods(services, agents).table(),
            *agents.table(),
            *FindingMethods(services).table(),
            *UsageMethods(services).table(),
            *SmallMethods(services, version=version).table(),
            *CronMethods(services).table(),
            *ApiMethods(ENDPOINTS, calls, services.bots).table(),
        ),
        metrics=metrics,
    )


def _edge_config(settings: GatewaySettings, version: str) -> EdgeConfig:
    default = settings.gateway_default_bot
    return EdgeConfig(
        version=version,
        limits=Limits(
            preauth_timeout_s=settings.gateway_preauth_timeout_s,
            max_requests=settings.gateway_max_requests_per_socket,
            max_queued_frames=settings.gateway_max_queued_frames,
        ),
        policy=HandshakePolicy(
            allowed_origins=settings.gateway_allowed_origins, require_device=settings.gateway_require_device
        ),
        tick_interval_s=settings.gateway_tick_interval_s,
        max_sockets=settings.gateway_max_sockets,
        session_defaults={
            "defaultAgentId": default,
            "mainKey": MAIN,
            "mainSessionKey": f"agent:{default}:{MAIN}",
            "scope": "per-sender",
            "modelConfigured": True,
            "ownership": "sole",
            "selectionRequired": False,
        },
    )


async def _is_serving(dialer: Dialer, service: str) -> bool:
    stub = health_pb2_grpc.HealthStub(dialer.dial(service))
    request = health_pb2.HealthCheckRequest(service=full_service_name(service))
    try:
        response = await stub.Check(request, timeout=_PROBE_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def _version() -> str:
    return distribution_version("mobot")
