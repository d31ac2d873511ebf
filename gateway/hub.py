"""All connected clients: who is there, and how an event reaches those it is for."""

import asyncio
import logging
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.waiting import within
from gateway import frames
from gateway.connection import Connection
from gateway.frames import CloseCode
from gateway.outbox import Event, StreamDelta

logger = logging.getLogger(__name__)

# Presence is told at most this often, however many clients come and go: every change goes to every client.
_PRESENCE_INTERVAL_S = 1.0
_HEALTH_INTERVAL_S = 60.0


@dataclass(slots=True)
class StateVersion:
    """Counters that let a client tell an old snapshot from a new one."""

    presence: int = 1
    health: int = 1

    def to_json(self) -> dict[str, int]:
        return {"presence": self.presence, "health": self.health}


class Hub:
    """Holds the connections and their common clockwork: tick, presence, health, farewell."""

    def __init__(self, *, clock: Clock, tick_interval_s: float, version: str) -> None:
        self.state_version = StateVersion()
        self._clock = clock
        self._tick_interval_s = tick_interval_s
        self._version = version
        self._connections: dict[str, Connection] = {}
        self._connect_times: dict[str, int] = {}
        self._presence_changed = asyncio.Event()
        self._occupied = asyncio.Event()
        self._vacant = asyncio.Event()
        self._vacant.set()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._connections.values()))

    async def wait_occupied(self) -> None:
        """Returns when a client is connected."""
        await self._occupied.wait()

    async def wait_vacant(self, for_s: float) -> None:
        """Returns when no client has been connected for `for_s` seconds."""
        while True:
            await self._vacant.wait()
            if not await within(for_s, self._occupied.wait()):
                return

    def add(self, connection: Connection) -> None:
        self._occupied.set()
        self._vacant.clear()
        self._connections[connection.client.conn_id] = connection
        self._connect_times[connection.client.conn_id] = self.now_ms()
        self._touch_presence()

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection.client.conn_id, None)
        self._connect_times.pop(connection.client.conn_id, None)
        if not self._connections:
            self._occupied.clear()
            self._vacant.set()
        self._touch_presence()

    def broadcast(self, event: Event, *, to: Callable[[Connection], bool] | None = None) -> None:
        """Hands an event to every client that may read and, if given, for which `to` is true."""
        for connection in self:
            if connection.may_read and (to is None or to(connection)):
                connection.send_event(event)

    def broadcast_delta(self, delta: StreamDelta) -> None:
        payloads = delta.to_payloads()
        for connection in self:
            if connection.may_read:
                connection.send_delta(delta, payloads)

    def presence(self) -> list[dict[str, object]]:
        """One entry for this gateway, one per client; oldest first."""
        entries: list[dict[str, object]] = [
            {
                "host": platform.node() or "gateway",
                "version": self._version,
                "platform": platform.system().lower() or "unknown",
                "mode": "gateway",
                "reason": "self",
                "text": f"Gateway: mobot {self._version}",
                "ts": self.now_ms(),
            }
        ]
        for connection in self:
            client = connection.client
            entry: dict[str, object] = {
                "host": client.display_name or client.id,
                "version": client.version,
                "platform": client.platform,
                "mode": client.mode,
                "reason": "connect",
                "text": f"{client.display_name or client.id} {client.version}",
                "ts": self._connect_times[client.conn_id],
                "roles": [client.role],
                "scopes": list(client.scopes),
            }
            optional = {
                "ip": client.address,
                "deviceFamily": client.device_family,
                "deviceId": client.device_id,
                "instanceId": client.instance_id,
            }
            entry.update({name: value for name, value in optional.items() if value})
            entries.append(entry)
        return entries

    async def run(self, health: Callable[[], bytes]) -> None:
        """Ticks, tells presence changes and health until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._tell_presence())
            tasks.create_task(self._tell_health(health))

    async def close(self, reason: str) -> None:
        """Tells every client that we go, and waits (seconds at most) until they have heard it."""
        event = Event("shutdown", frames.dump({"reason": reason, "restartExpectedMs": 5000}))
        async with asyncio.TaskGroup() as tasks:
            for connection in self:
                tasks.create_task(connection.farewell(event, CloseCode.RESTART, "service restart"))

    def now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _touch_presence(self) -> None:
        self.state_version.presence += 1
        self._presence_changed.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_interval_s)
            self._tell_all(Event("tick", frames.dump({"ts": self.now_ms()})))

    async def _tell_presence(self) -> None:
        while True:
            await self._presence_changed.wait()
            self._presence_changed.clear()
            self._tell_all(self._state_event("presence", frames.dump({"presence": self.presence()})))
            await asyncio.sleep(_PRESENCE_INTERVAL_S)

    async def _tell_health(self, health: Callable[[], bytes]) -> None:
        while True:
            await asyncio.sleep(_HEALTH_INTERVAL_S)
            self.state_version.health += 1
            self._tell_all(self._state_event("health", health()))

    def _state_event(self, name: str, payload: bytes) -> Event:
        return Event(name, payload, state_version=frames.dump(self.state_version.to_json()))

    def _tell_all(self, event: Event) -> None:
        for connection in self:
            connection.send_event(event)
