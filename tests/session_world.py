"""A session service to talk to: over a local channel or TCP, with a small registry, and able to be restarted."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio

from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.errors import AppError
from chassis.identity import Authenticator
from chassis.local_channel import LocalChannel
from chassis.local_handlers import LocalHandlers
from chassis.outgoing import Outgoing
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.status import from_rpc_error
from chassis.telemetry import Telemetry
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc
from session_service.__main__ import compose
from session_service.settings import SessionSettings

SECRET = "a secret of the tests"
PATIENCE_S = 60.0
"""For a frame that will never come: tests of watches fail, and do not hang."""

pb = session_service_pb2


class Registry(registry_service_pb2_grpc.RegistryServiceServicer):
    """Knows some bots."""

    def __init__(self) -> None:
        self.bots = {"main", "helper"}
        self.asked = 0

    async def GetBot(self, request, context):
        self.asked += 1
        if request.name.removeprefix("bots/") not in self.bots:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bot")
        return registry_service_pb2.GetBotResponse(bot=bot_pb2.Bot(name=request.name))


class World:
    """One service on one database; `restart` closes all of it and opens it again."""

    def __init__(self, url: str, *, wire: str = "local", data_dir: Path, **settings: object) -> None:
        self.registry = Registry()
        self.clock = FakeClock()
        self._wire = wire
        self._chassis = ChassisSettings(data_dir=data_dir, token=SECRET)
        self._settings = SessionSettings(database_url=url, **{"index_delay_s": 0.0, **settings})
        self._channels: list[grpc.aio.Channel] = []

    async def start(self) -> None:
        handlers = LocalHandlers("registry")
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(self.registry, handlers)
        self.dialer = Dialer({"registry": "local:"}, token=SECRET, actor="services/session")
        self.dialer.add_handlers(handlers)
        service = await compose(
            self._settings, self._chassis, dialer=self.dialer, clock=self.clock, telemetry=Telemetry.off()
        )
        self.service = service
        self.host = ServiceHost(
            service,
            authenticator=Authenticator(SECRET),
            listen=["127.0.0.1:0"] if self._wire == "tcp" else [],
            grace_s=0.5,
            clock=self.clock,
        )
        self._ports: Mapping[str, int] = await self.host.start()

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        await self.host.drain()
        await self.dialer.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def stub(self, actor: str | None = None) -> session_service_pb2_grpc.SessionServiceStub:
        """For root, acting for `actor`."""
        if self._wire == "local":
            channel: grpc.aio.Channel = LocalChannel(self.host.local_handlers, Outgoing(SECRET, actor))
        else:
            target = f"127.0.0.1:{self._ports['127.0.0.1:0']}"
            channel = Dialer({"session": target}, token=SECRET, actor=actor).dial("session")
            self._channels.append(channel)
        return session_service_pb2_grpc.SessionServiceStub(channel)


async def refusal(call) -> AppError:
    """What a call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was not refused")


def name(session_id: str, bot: str = "main") -> str:
    return f"bots/{bot}/sessions/{session_id}"


def message(
    event_id: str, text: str = "hello", *, role=event_pb2.ROLE_USER, run: str = "", **fields
) -> event_pb2.Event:
    body = event_pb2.MessageAppended(role=role, parts=[part_pb2.Part(text=text)], **fields)
    return event_pb2.Event(id=event_id, run=run, message=body)


def started(run: str, attempt: int = 1) -> event_pb2.Event:
    return event_pb2.Event(
        id=f"run/{run}/started/{attempt}", run=run, run_started=event_pb2.RunStarted(attempt=attempt)
    )


def finished(run: str, outcome=session_pb2.RUN_OUTCOME_SUCCEEDED, **fields) -> event_pb2.Event:
    return event_pb2.Event(
        id=f"run/{run}/finished", run=run, run_finished=event_pb2.RunFinished(outcome=outcome, **fields)
    )


def append(session: str, *events: event_pb2.Event, epoch: int = 0, ensure: bool = False, uid: str = ""):
    return pb.SessionAppend(
        session=session,
        events=events,
        epoch=epoch,
        expected_uid=uid,
        ensure=pb.EnsureSession(created_via="mail") if ensure else None,
    )


async def create(stub, session_id: str, bot: str = "main", **fields) -> session_pb2.Session:
    request = pb.CreateSessionRequest(
        parent=f"bots/{bot}", session_id=session_id, session=session_pb2.Session(**fields)
    )
    return (await stub.CreateSession(request)).session


async def append_to(stub, session: str, *events: event_pb2.Event, **how) -> pb.AppendEventsResponse:
    return await stub.AppendEvents(pb.AppendEventsRequest(append=append(session, *events, **how)))


class Watcher:
    """Reads a watch frame by frame."""

    def __init__(self, call) -> None:
        self.call = call
        self.token = ""
        self.events: list[event_pb2.Event] = []
        self.deltas: list[event_pb2.Delta] = []
        self.sessions: list[session_pb2.Session] = []
        self.frames: list[pb.WatchEventsResponse] = []

    async def next(self) -> pb.WatchEventsResponse:
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.call.read()
        assert frame is not grpc.aio.EOF
        self.frames.append(frame)
        self.token = frame.resume_token
        self.events.extend(frame.events)
        self.deltas.extend(frame.deltas)
        self.sessions.extend(frame.sessions)
        return frame

    async def until(self, condition) -> "Watcher":
        while not condition(self):
            await self.next()
        return self

    async def caught_up(self) -> "Watcher":
        return await self.until(lambda watcher: watcher.frames and watcher.frames[-1].caught_up)

    async def has(self, count: int) -> "Watcher":
        return await self.until(lambda watcher: len(watcher.events) >= count)

    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def stop(self) -> None:
        self.call.cancel()


def watch(stub, *sessions: str, **fields) -> Watcher:
    return Watcher(stub.WatchEvents(pb.WatchEventsRequest(sessions=sessions, **fields)))
