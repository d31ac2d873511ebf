"""A router among stand-ins of its neighbours: a registry that knows some bots, a session service that keeps a log."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio

from chassis.channel import LOCAL, Dialer
from chassis.clock import FakeClock
from chassis.errors import NotFound
from chassis.identity import Authenticator, mint_token
from chassis.server import Service, ServiceHost
from chassis.telemetry import Telemetry
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from router_service.router import Router
from router_service.settings import RouterSettings

SECRET = "a secret of tests"


class RegistryStandIn(registry_service_pb2_grpc.RegistryServiceServicer):
    def __init__(self):
        self.bots = {}
        self.down = False
        for name in ("bots/main", "bots/other", "bots/third"):
            self.bots[name] = registry_service_pb2.GetBotResponse()
            self.bots[name].bot.name = name
            self.bots[name].bot.concurrency = 1000
        self.workers = {"workers/w9": ["bots/main"]}
        self.watches = []

    async def GetWorker(self, request, context):
        if request.name not in self.workers:
            raise NotFound("no such worker", reason="WORKER_NOT_FOUND")
        return registry_service_pb2.GetWorkerResponse(worker={"name": request.name, "bots": self.workers[request.name]})

    async def GetBot(self, request, context):
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down for a test")
        if request.name not in self.bots:
            raise NotFound("no such bot", reason="BOT_NOT_FOUND")
        return self.bots[request.name]

    async def WatchBots(self, request, context):
        told = asyncio.Queue()
        self.watches.append(told)
        while True:
            yield await told.get()

    def tell(self, **change):
        """Tells the watchers of a change."""
        frame = registry_service_pb2.WatchBotsResponse(phase=registry_service_pb2.WATCH_PHASE_CHANGES)
        frame.changes.add(**change)
        for told in self.watches:
            told.put_nowait(frame)


class SessionStandIn(session_service_pb2_grpc.SessionServiceServicer):
    """Keeps the promises that the router relies on: ids once, epochs that fence, order."""

    def __init__(self):
        self.events = {}
        self.marks = {}
        self.refused = {}
        self.down = False
        self.calls = 0
        self.hold = None

    async def BatchAppendEvents(self, request, context):
        self.calls += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down for a test")
        response = session_service_pb2.BatchAppendEventsResponse()
        for append in request.appends:
            self._append(append, response.outcomes.add())
        return response

    def _append(self, append, outcome):
        log = self.events.setdefault(append.session, [])
        refusal = self.refused.get(append.session)
        mark = self.marks.get(append.session, 0)
        if refusal is not None:
            outcome.refusal.code, outcome.refusal.reason = 9, refusal
            return
        if append.epoch and append.epoch < mark:
            outcome.refusal.code, outcome.refusal.reason = 10, "FENCED"
            outcome.refusal.metadata["mark"] = str(mark)
            return
        self.marks[append.session] = max(mark, append.epoch)
        for event in append.events:
            place = next((n for n, known in enumerate(log, 1) if known.id == event.id), 0)
            outcome.duplicates.append(bool(place))
            if not place:
                kept = type(event)()
                kept.CopyFrom(event)
                log.append(kept)
                place = len(log)
            outcome.sequences.append(place)

    def ids(self, session):
        return [event.id for event in self.events.get(session, [])]

    def outcomes(self, session):
        return {
            event.run: session_pb2.RunOutcome.Name(event.run_finished.outcome).removeprefix("RUN_OUTCOME_")
            for event in self.events.get(session, [])
            if event.WhichOneof("payload") == "run_finished"
        }


@dataclass
class World:
    url: str
    clock: FakeClock
    over: str = "local"
    settings: RouterSettings = field(default_factory=RouterSettings)
    commit_hook: Callable | None = None

    def __post_init__(self):
        self.registry, self.sessions = RegistryStandIn(), SessionStandIn()
        self._hosts, self._dialers = [], []
        self.router = None
        self.authenticator = Authenticator(SECRET)
        self._starts = 0

    async def start(self):
        # Not tmp_path: the path of a Unix socket must be short.
        self._sockets = tempfile.mkdtemp(prefix="mobot-router-")
        self.neighbours = Dialer(
            {"registry": LOCAL, "session": LOCAL}, token=mint_token(SECRET, "services/router"), actor=None
        )
        await self._add(
            "registry", self.registry, registry_service_pb2_grpc.add_RegistryServiceServicer_to_server, self.neighbours
        )
        await self._add(
            "session", self.sessions, session_service_pb2_grpc.add_SessionServiceServicer_to_server, self.neighbours
        )
        await self.start_router()
        return self

    async def start_router(self):
        self.router = await Router.open(
            self.settings,
            self.url,
            registry=self.neighbours.dial("registry"),
            session=self.neighbours.dial("session"),
            clock=self.clock,
            page_secret=b"x",
            migrate=True,
            commit_hook=self.commit_hook,
        )
        router = self.router
        service = Service(
            name="router",
            full_name="mobot.router.v1.RouterService",
            servicer=router.servicer,
            register=router_service_pb2_grpc.add_RouterServiceServicer_to_server,
            ready=router.ready,
            end_watches=router.end_watches,
            close=router.close,
        )
        self._starts += 1
        target = f"unix:{self._sockets}/{self._starts}.sock"
        listen = () if self.over == "local" else (target,)
        self.host = ServiceHost(
            service, authenticator=self.authenticator, listen=listen, grace_s=0.2, telemetry=Telemetry.off()
        )
        if listen:
            await self.host.start()
        self.target = LOCAL if self.over == "local" else target

    async def crash(self):
        """Forgets the router without letting it finish anything, as a killed process would."""
        router, self.router = self.router, None
        await self.host.local_handlers.stop(0)
        for server in self.host._servers:
            await server.stop(0)
        for task in router._tasks:
            task.cancel()
        await asyncio.gather(*router._tasks, return_exceptions=True)
        router._dispatcher.end_streams()
        store = router._store
        store.mail.listen(on_commit=lambda items: None, on_failure=lambda items, error: None)
        await store._database.close()

    async def restart(self):
        await self.stop_router()
        await self.start_router()

    async def stop_router(self):
        for dialer in self._dialers:
            await dialer.close()
        self._dialers.clear()
        if self.router is not None:
            if self.over == "local":
                await self.router.close()
            else:
                await self.host.drain()
        self.router = None

    async def close(self):
        await self.stop_router()
        await self.neighbours.close()
        shutil.rmtree(self._sockets)

    def stub(self, actor=None, principal="operators/root"):
        token = SECRET if principal == "operators/root" else mint_token(SECRET, principal)
        dialer = Dialer({"router": self.target}, token=token, actor=actor)
        if self.target == LOCAL:
            dialer.add_handlers(self.host.local_handlers)
        self._dialers.append(dialer)
        return router_service_pb2_grpc.RouterServiceStub(dialer.dial("router"))

    async def advance(self, seconds):
        self.clock.advance(timedelta(seconds=seconds))
        await self.router.chores.tick()
        await self.router.timers.tick()

    async def _add(self, name, servicer, register, dialer):
        async def nothing():
            return None

        async def ready():
            return True

        service = Service(name, f"mobot.{name}.v1", servicer, register, ready, nothing, nothing)
        host = ServiceHost(service, authenticator=self.authenticator, listen=(), telemetry=Telemetry.off())
        dialer.add_handlers(host.local_handlers)


class Worker:
    """A worker on one stream; what comes is kept until it is asked for."""

    def __init__(self, stub, name="workers/w1", bots=("bots/main",), credit=10, held=()):
        self.name = name
        self.deliveries = asyncio.Queue()
        self.settlements = asyncio.Queue()
        self.cancellations = asyncio.Queue()
        self.steerings = asyncio.Queue()
        self.receipts = asyncio.Queue()
        self.error = None
        self.welcome = None
        self.ended = asyncio.Event()
        self._call = stub.Attach()
        self._hello = router_service_pb2.AttachRequest()
        self._hello.hello.worker = name
        self._hello.hello.bots.extend(bots)
        self._hello.hello.credit = credit
        for run, epoch in held:
            self._hello.hello.held_leases.add(run=run, epoch=epoch)

    async def start(self):
        await self._call.write(self._hello)
        self._task = asyncio.create_task(self._read())
        await until(lambda: self.welcome is not None or self.ended.is_set())
        return self

    async def _read(self):
        try:
            while (frame := await self._call.read()) is not grpc.aio.EOF:
                if frame.HasField("welcome"):
                    self.welcome = frame.welcome
                for delivery in frame.deliveries:
                    self.deliveries.put_nowait(delivery)
                for settlement in frame.settlements:
                    self.settlements.put_nowait(settlement)
                for cancellation in frame.cancellations:
                    self.cancellations.put_nowait(cancellation)
                for steering in frame.steerings:
                    self.steerings.put_nowait(steering)
                for receipt in frame.step_receipts:
                    self.receipts.put_nowait(receipt)
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                self.error = (code.name, await self._call.details())
        except grpc.aio.AioRpcError as error:
            self.error = (error.code().name, error.details())
        except asyncio.CancelledError:
            pass
        finally:
            self.ended.set()

    async def delivery(self, timeout=40):
        return await asyncio.wait_for(self.deliveries.get(), timeout)

    async def settlement(self, timeout=40):
        return await asyncio.wait_for(self.settlements.get(), timeout)

    async def steering(self, timeout=40):
        return await asyncio.wait_for(self.steerings.get(), timeout)

    async def take_in(self, steering):
        """Says that the running turn has taken the message in."""
        await self.send(begun=[message_pb2.HeldLease(run=steering.message.run, epoch=steering.epoch)])

    async def remember(self, delivery, step, result=b"", effect=1):
        kept = message_pb2.RunStep(
            run=delivery.message.run, epoch=delivery.epoch, step=step, result=result, effect=effect
        )
        await self.send(steps=[kept])
        return await asyncio.wait_for(self.receipts.get(), 40)

    async def send(self, **fields):
        await self._call.write(router_service_pb2.AttachRequest(**fields))

    async def complete(self, delivery, reply="", **fields):
        completion = message_pb2.Completion(run=delivery.message.run, epoch=delivery.epoch, **fields)
        if reply:
            completion.reply.add(text=reply)
        await self.send(completions=[completion])
        return await self.settlement()

    async def fail(self, delivery, **fields):
        failure = message_pb2.Failure(run=delivery.message.run, epoch=delivery.epoch, **fields)
        if not fields.get("cancelled"):
            failure.error.reason, failure.error.message = "BROKEN", "it broke"
        await self.send(failures=[failure])
        return await self.settlement()

    async def cut(self):
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


def draft(text="hello", session="bots/main/sessions/a", **fields):
    made = message_pb2.MessageDraft(session=session, **fields)
    made.parts.add(text=text)
    return made


async def send(stub, text="hello", session="bots/main/sessions/a", **fields):
    request = router_service_pb2.SendMessageRequest(message=draft(text, session, **fields))
    return (await stub.SendMessage(request)).receipt


async def until(condition, timeout=40):
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError("did not come true in time")
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(world) -> AsyncIterator[World]:
    await world.start()
    try:
        yield world
    finally:
        await world.close()


def sqlite_world(path: Path, **fields):
    return World(f"sqlite:///{path / 'router.sqlite3'}", FakeClock(), **fields)
