"""Hosting services: sockets, health, reflection, and a drain that loses nothing."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chassis.accepting import Acceptors, Registrar
from chassis.clock import Clock, SystemClock
from chassis.delegation import Delegation
from chassis.identity import Authenticator
from chassis.interceptors import server_chain
from chassis.listening import PortInUse as PortInUse
from chassis.listening import bind, unix_path
from chassis.local_handlers import LocalHandlers
from chassis.native_server import GrpcFront, native_server
from chassis.policy import DEFAULT, MethodPolicy
from chassis.telemetry import Telemetry

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
READY_INTERVAL_S: Final = 5.0
_UNREADY_INTERVAL_S: Final = 0.25

_OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    # Without this a second server on the same port starts silently and takes half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.max_concurrent_streams", 20_000),
    # Our clients ping every 20 s also when idle; the default would answer that with GOAWAY "too many pings".
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

_log = logging.getLogger("mobot.server")


@dataclass(frozen=True)
class Service:
    """What a service gives to be hosted.

    `name` is short ("session"), `full_name` as in its proto ("mobot.session.v1.SessionService"). `register` is the
    generated `add_XServicer_to_server`. `ready` tells whether the service can do its work now. `end_watches` ends all
    long streams with Unavailable, reason DRAINING. `close` comes last and disposes of stores. `busy` names the unary
    methods ("SendMessage") that are called by the thousand. `delegation` and `workers_may` say what a worker may do
    with a token of its own: see `server_chain`.
    """

    name: str
    full_name: str
    servicer: object
    register: Callable[[Any, Any], None]
    ready: Callable[[], Awaitable[bool]]
    end_watches: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    busy: Sequence[str] = ()
    delegation: Delegation | None = None
    workers_may: Collection[str] | None = None


class ServiceHost:
    """One service behind its sockets, and behind `local_handlers` for callers in the same process."""

    def __init__(
        self,
        service: Service,
        *,
        authenticator: Authenticator,
        listen: Sequence[str],
        grace_s: float = 5.0,
        reflection: bool = True,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        policies: Mapping[str, MethodPolicy] = DEFAULT,
        credentials: grpc.ServerCredentials | None = None,
        ready_interval_s: float = READY_INTERVAL_S,
        listen_setting: str | None = None,
        grpc_front: GrpcFront = "aio",
    ) -> None:
        """`listen`: "127.0.0.1:50051", "unix:/path"; port 0 chooses a free one; none means local calls only.

        `credentials` make all but Unix sockets TLS. `listen_setting` is the variable that an error about an address
        names; MOBOT_<NAME>_LISTEN by default. `grpc_front` says who serves TCP without TLS: see `native_server`.
        """
        self.service = service
        self._listen = listen
        self._grace_s = grace_s
        self._reflection = reflection
        self._credentials = credentials
        self._ready_interval_s = ready_interval_s
        self._setting = listen_setting or f"MOBOT_{service.name.upper()}_LISTEN"
        self._grpc_front: GrpcFront = grpc_front
        chain = server_chain(
            service=service.name,
            authenticator=authenticator,
            clock=clock or SystemClock(),
            telemetry=telemetry or Telemetry.off(),
            policies=policies,
            delegation=service.delegation,
            workers_may=service.workers_may,
        )
        self._chain = chain
        self._health = health.aio.HealthServicer()
        self._servers: list[grpc.aio.Server] = []
        self._acceptors: Acceptors | None = None
        self._readiness: asyncio.Task[None] | None = None
        self._closed = False
        self.local_handlers = LocalHandlers(service.name, chain)
        service.register(service.servicer, self.local_handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.local_handlers)

    @property
    def lets_many_in(self) -> bool:
        """Whether calls of the busy methods are let in many at a time."""
        return self._acceptors is not None and self._acceptors.active

    async def start(self) -> Mapping[str, int]:
        """Binds and serves. Returns address -> port as bound (0 for a Unix socket).

        Raises:
            PortInUse: somebody else listens there.
            FailedPrecondition: the address cannot be listened on for another reason.
        """
        await self._set_health(serving=False)
        aio: grpc.aio.Server | None = None
        ports: dict[str, int] = {}
        for address in self._listen:
            server = self._native_server(address)
            if server is None:
                server = aio = aio or self._aio_server()
            ports[address] = bind(server, address, self._credentials, self._setting)
        for each in self._servers:
            await each.start()
        if aio is not None:
            self._acceptors = Acceptors(aio, self.local_handlers, self._busy)
        ready = await self.service.ready()
        await self._set_health(serving=ready)
        self._readiness = asyncio.get_running_loop().create_task(self._follow_readiness(serving=ready))
        return ports

    def _native_server(self, address: str) -> grpc.aio.Server | None:
        if self._credentials is not None or unix_path(address) is not None:
            return None
        server = native_server(self._grpc_front, interceptors=self._chain, options=_OPTIONS)
        if server is not None:
            self._serve_with(server, server)
        return server

    def _aio_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=self._chain, options=_OPTIONS)
        self._serve_with(server, Registrar(server, self._busy))
        return server

    def _serve_with(self, server: grpc.aio.Server, registrar: "grpc.aio.Server | Registrar") -> None:
        self._servers.append(server)
        self.service.register(self.service.servicer, registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        if self._reflection:
            names = (self.service.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)

    @property
    def _busy(self) -> list[str]:
        return [f"/{self.service.full_name}/{method}" for method in self.service.busy]

    async def drain(self) -> None:
        """Health NOT_SERVING, watches ended, calls in progress finished or cut after the grace, service closed."""
        await self.announce_drain()
        await self.finish_drain()

    async def announce_drain(self) -> None:
        """The first half: sends clients elsewhere. Calls are still answered."""
        if self._readiness is not None:
            self._readiness.cancel()
            await asyncio.gather(self._readiness, return_exceptions=True)
            self._readiness = None
        await self._health.enter_graceful_shutdown()
        await self.service.end_watches()

    async def finish_drain(self) -> None:
        """The second half: takes no more calls, waits for those in progress, closes the service. Once."""
        if self._closed:
            return
        self._closed = True
        servers, self._servers = self._servers, []
        await asyncio.gather(
            self.local_handlers.stop(self._grace_s), *[server.stop(self._grace_s) for server in servers]
        )
        if self._acceptors is not None:
            await self._acceptors.wait()
        await self.service.close()

    async def _follow_readiness(self, *, serving: bool) -> None:
        """Polls for as long as the service runs: a lost database takes it out of rotation, its return puts it back."""
        while True:
            # What is not ready is asked more often: every second of it is a second out of rotation.
            await asyncio.sleep(self._ready_interval_s if serving else min(self._ready_interval_s, _UNREADY_INTERVAL_S))
            try:
                ready = await self.service.ready()
            except Exception:  # noqa: BLE001 - whatever a probe dies of, the service is not ready
                _log.warning("readiness probe raised", exc_info=True, extra={"probed": self.service.name})
                ready = False
            if ready != serving:
                serving = ready
                await self._set_health(serving=ready)

    async def _set_health(self, *, serving: bool) -> None:
        answers = health_pb2.HealthCheckResponse
        status = answers.SERVING if serving else answers.NOT_SERVING
        for name in ("", self.service.full_name):
            await self._health.set(name, status)


class Front(Protocol):
    """What stands before the services and is none itself: it calls them for clients that speak something else."""

    async def start(self) -> int:
        """Binds and serves. Returns the port."""

    async def drain(self) -> None:
        """Sends its clients elsewhere and stops; also right for one that did not start."""


async def serve(
    hosts: Sequence[ServiceHost], *, on_ready: Callable[[], None] | None, front: Front | None = None
) -> None:
    """Starts the hosts in order, waits for SIGTERM or SIGINT, drains, returns.

    All hosts announce their drain before any of them stops; they stop in reverse order, so give them in the order of
    their dependencies. `front` starts after all of them and has drained before any of them hears of it. When one fails
    to start, those that did are drained and all are closed. A second signal ends the process at once.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    started: list[ServiceHost] = []
    try:
        for host in hosts:
            started.append(host)
            ports = await host.start()
            _log.info("serving", extra={"served": host.service.name, "pid": os.getpid(), "ports": dict(ports)})
        if front is not None:
            port = await front.start()
            _log.info("serving", extra={"served": "gateway", "pid": os.getpid(), "port": port})
        if on_ready is not None:
            on_ready()
        await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        _log.info("draining", extra={"served": [host.service.name for host in started]})
        if front is not None:
            await front.drain()
        for host in started:
            await host.announce_drain()
        for host in reversed(hosts):
            await host.finish_drain()
