"""A registry over a local channel or a real socket, that can be stopped and started again on the same data."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.errors import AppError
from chassis.identity import Authenticator, mint_token
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.status import from_rpc_error
from chassis.telemetry import Telemetry
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc, worker_pb2
from registry_service.__main__ import compose
from registry_service.settings import RegistrySettings

SECRET = "secret-of-the-tests"
PATIENCE_S = 5.0
pb = registry_service_pb2


@dataclass
class World:
    """`stub` speaks as root; `acting` as anyone else."""

    transport: str
    directory: Path
    clock: FakeClock
    database_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    host: ServiceHost | None = None
    dialers: list[Dialer] = field(default_factory=list)

    async def start(self) -> None:
        chassis = ChassisSettings(data_dir=self.directory, token=SecretStr(SECRET))
        settings = RegistrySettings(
            database_url=self.database_url, **{"poll_interval_s": 0.01, "port": 0, **self.options}
        )
        service = await compose(
            settings,
            chassis,
            dialer=Dialer({}, token=SECRET, actor=None),
            clock=self.clock,
            telemetry=Telemetry.off(),
        )
        listen = ["127.0.0.1:0"] if self.transport == "tcp" else []
        self.host = ServiceHost(
            service, authenticator=Authenticator(SECRET), listen=listen, grace_s=0.3, clock=self.clock
        )
        ports = await self.host.start()
        self.target = "local:" if self.transport == "local" else f"127.0.0.1:{ports['127.0.0.1:0']}"
        self.stub = self.acting(None)

    async def stop(self) -> None:
        for dialer in self.dialers:
            await dialer.close()
        self.dialers.clear()
        if self.host is not None:
            await self.host.drain()
            self.host = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def acting(self, actor: str | None, *, root: bool = True) -> "registry_service_pb2_grpc.RegistryServiceAsyncStub":
        """A stub whose calls are made for `actor`; without `root` with a token of the actor's own."""
        token = SECRET if root else mint_token(SECRET, actor or "operators/nobody")
        dialer = Dialer({"registry": self.target}, token=token, actor=actor if root else None)
        assert self.host is not None
        dialer.add_handlers(self.host.local_handlers)
        self.dialers.append(dialer)
        return registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))

    async def create(self, bot_id: str, **fields: Any) -> bot_pb2.Bot:
        response = await self.stub.CreateBot(pb.CreateBotRequest(bot_id=bot_id, bot=echo(**fields)))
        return response.bot

    async def get(self, bot_id: str) -> bot_pb2.Bot:
        return (await self.stub.GetBot(pb.GetBotRequest(name=f"bots/{bot_id}"))).bot

    async def names(self, **fields: Any) -> list[str]:
        """The ids that a list with this filter selects."""
        response = await self.stub.ListBots(pb.ListBotsRequest(filter=bot_pb2.BotFilter(**fields)))
        return [bot.name.removeprefix("bots/") for bot in response.bots]

    async def register(self, worker_id: str, *bots: str, **fields: Any) -> registry_service_pb2.RegisterWorkerResponse:
        worker = worker_pb2.Worker(contract_major_version=1, bots=[f"bots/{bot}" for bot in bots], **fields)
        return await self.stub.RegisterWorker(pb.RegisterWorkerRequest(worker_id=worker_id, worker=worker))

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @asynccontextmanager
    async def heartbeat(self) -> AsyncIterator["Pulse"]:
        call = self.stub.Heartbeat()
        try:
            yield Pulse(call)
        finally:
            call.cancel()

    @asynccontextmanager
    async def watching(self, **fields: Any) -> AsyncIterator["Watcher"]:
        call = self.stub.WatchBots(pb.WatchBotsRequest(**fields))
        try:
            yield Watcher(call)
        finally:
            call.cancel()


@dataclass
class Pulse:
    """A heartbeat stream."""

    call: Any
    sequence: int = 0

    async def send(self, *reports: worker_pb2.WorkerReport, credit: int = 0) -> None:
        await self.call.write(pb.HeartbeatRequest(reports=reports, credit=credit))

    async def read(self) -> registry_service_pb2.HeartbeatResponse:
        frame = await asyncio.wait_for(self.call.read(), PATIENCE_S)
        assert frame is not grpc.aio.EOF
        return frame

    async def beat(self, registered: registry_service_pb2.RegisterWorkerResponse, **fields: Any) -> Any:
        """Sends one report of a worker and returns its ack."""
        self.sequence += 1
        await self.send(report(registered, self.sequence, **fields))
        return await self.ack(lambda ack: ack.sequence >= self.sequence)

    async def ack(self, wanted: Callable[[worker_pb2.ReportAck], bool] = lambda ack: True) -> worker_pb2.ReportAck:
        while True:
            for ack in (await self.read()).acks:
                if wanted(ack):
                    return ack


@dataclass
class Watcher:
    """A watch stream. `token` is the last one it got."""

    call: Any
    token: str = ""

    async def frame(self) -> registry_service_pb2.WatchBotsResponse:
        frame = await asyncio.wait_for(self.call.read(), PATIENCE_S)
        assert frame is not grpc.aio.EOF
        self.token = frame.resume_token or self.token
        return frame

    async def snapshot(self) -> list[str]:
        """The names in the snapshot, which is read to its end."""
        names: list[str] = []
        while True:
            frame = await self.frame()
            names += [told(change)[1] for change in frame.changes]
            if frame.phase == pb.WATCH_PHASE_SNAPSHOT_END:
                return names

    async def changes(self, count: int) -> list[registry_service_pb2.RegistryChange]:
        found: list[registry_service_pb2.RegistryChange] = []
        while len(found) < count:
            frame = await self.frame()
            if frame.phase == pb.WATCH_PHASE_CHANGES:
                found += frame.changes
        return found

    async def told(self, count: int) -> list[tuple[str, str]]:
        """What the next changes are about, as (kind, name)."""
        return [told(change) for change in await self.changes(count)]


def told(change: registry_service_pb2.RegistryChange) -> tuple[str, str]:
    kind = change.WhichOneof("change")
    value = getattr(change, kind)
    match kind:
        case "bot" | "worker":
            return kind, value.name
        case "bot_status":
            return kind, value.bot
        case _:
            return kind, value


def echo(**fields: Any) -> bot_pb2.Bot:
    """A bot that repeats what it is told, unless `fields` say otherwise."""
    return bot_pb2.Bot(**{"brain": bot_pb2.Brain(echo=bot_pb2.EchoBrain()), **fields})


def report(
    registered: registry_service_pb2.RegisterWorkerResponse, sequence: int = 1, **fields: Any
) -> worker_pb2.WorkerReport:
    return worker_pb2.WorkerReport(
        worker=registered.worker.name, lease_id=registered.lease_id, sequence=sequence, **fields
    )


def about(bot_id: str, *, in_flight: int = 0, health: int = bot_pb2.BRAIN_HEALTH_HEALTHY, detail: str = "") -> Any:
    return worker_pb2.BotReport(bot=f"bots/{bot_id}", in_flight_count=in_flight, brain_health=health, detail=detail)


async def eventually(read: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    """What `read` gives as soon as it is as wanted; fails after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            value = await read()
            if wanted(value):
                return value
            await asyncio.sleep(0.005)


async def refused(call: Awaitable[Any]) -> AppError:
    """The error that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)
