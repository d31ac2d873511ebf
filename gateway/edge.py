"""What happens to a new socket: handshake, hello, requests, goodbye."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chassis.clock import Clock
from gateway import frames
from gateway.auth import TokenGate
from gateway.connection import Connection, Limits, open_connection
from gateway.dispatch import Dispatcher
from gateway.handshake import Client, Handshake, HandshakePolicy
from gateway.hub import Hub
from gateway.metrics import GatewayMetrics
from gateway.socket_adapter import Socket

EVENTS = (
    "connect.challenge",
    "agent",
    "chat",
    "session.message",
    "sessions.changed",
    "presence",
    "tick",
    "health",
    "shutdown",
    "mobot.event",
)


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """`tick_interval_s` is what clients are told; they give a silent socket up after twice that time."""

    version: str
    limits: Limits
    policy: HandshakePolicy
    tick_interval_s: float
    max_sockets: int
    session_defaults: Mapping[str, object]


class Edge:
    """Owns the sockets. `health` is the snapshot clients get with hello-ok and later as an event."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        hub: Hub,
        gate: TokenGate,
        dispatcher: Dispatcher,
        metrics: GatewayMetrics,
        clock: Clock,
        health: Callable[[], Mapping[str, object]],
        forget: Callable[[Connection], object],
    ) -> None:
        self._config = config
        self._hub = hub
        self._gate = gate
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._clock = clock
        self._health = health
        self._forget = forget
        self._start_s = time.monotonic()
        # Counted apart from the hub's clients: a stranger who says nothing takes a place too.
        self._sockets = 0

    @property
    def is_full(self) -> bool:
        return self._sockets >= self._config.max_sockets

    async def serve(self, socket: Socket) -> None:
        """Serves one accepted socket until it ends."""
        self._sockets += 1
        try:
            await self._serve(socket)
        finally:
            self._sockets -= 1

    async def _serve(self, socket: Socket) -> None:
        handshake = Handshake(nonce=str(uuid.uuid4()), peer=socket.peer, gate=self._gate, policy=self._config.policy)
        opened = await open_connection(
            socket, handshake, limits=self._config.limits, clock=self._clock, conn_id=str(uuid.uuid4())
        )
        if opened is None:
            return
        connection, request = opened
        # Queued before the hub knows the connection: hello-ok is the first thing a client hears.
        connection.respond(frames.response(request.id, frames.dump(self._hello(connection.client))))
        self._hub.add(connection)
        self._metrics.sockets.set(len(self._hub))
        try:
            await connection.serve(self._dispatcher)
        finally:
            self._forget(connection)
            self._hub.remove(connection)
            self._metrics.sockets.set(len(self._hub))

    def _hello(self, client: Client) -> Mapping[str, object]:
        return {
            "type": "hello-ok",
            "protocol": client.protocol,
            "server": {
                "version": self._config.version,
                "connId": client.conn_id,
                # Else the Control UI takes our version for another build of itself: it reloads when its socket comes
                # back, and has forgotten the token then.
                "controlUiBuildSource": "configured",
            },
            "features": {"methods": list(self._dispatcher.method_names), "events": list(EVENTS), "capabilities": []},
            "snapshot": {
                "presence": self._hub.presence(),
                "health": self._health(),
                "stateVersion": self._hub.state_version.to_json(),
                "uptimeMs": round((time.monotonic() - self._start_s) * 1000),
                "sessionDefaults": self._config.session_defaults,
            },
            "auth": {"role": client.role, "scopes": list(client.scopes)},
            "policy": {
                "maxPayload": frames.MAX_PAYLOAD_BYTES,
                "maxBufferedBytes": frames.MAX_BUFFERED_BYTES,
                "tickIntervalMs": round(self._config.tick_interval_s * 1000),
            },
        }
