"""mobot as a system under test."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from ledger.mobot import names
from ledger.mobot.calls import CHANNEL_OPTIONS, READ_S, accepted, patiently
from ledger.mobot.deciding import Deciders
from ledger.mobot.edge import EdgeClient
from ledger.mobot.watcher import Watcher
from ledger.model import Fault, Kind, Mail, Refused, Seen, Unanswered
from ledger.ports import free_ports
from ledger.processes import Kept, pause, python
from ledger.proxy import Proxy
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

T = TypeVar("T")

SERVICES = ("registry", "session", "memory", "router")
WORKERS = ("w1", "w2")
EDGE_CLIENTS = ("client 1", "client 2")
TOKEN = "ledger-token-0123456789abcdef"
LEASE_S = 1.5
ATTEMPTS = 20
_CALL_S = 10.0
_AT_ONCE = 16


def make(directory: Path) -> "Mobot":
    """The adapter, with its data in `directory`."""
    return Mobot(directory)


class Mobot:
    """The isolated layout on SQLite: four services, a gateway with two clients, two workers, a proxy for the router."""

    name = "mobot, isolated layout, SQLite"
    durability = "accepted means fsync'd"
    kinds = frozenset(Kind)
    faults = frozenset(Fault) - {Fault.DATABASE_RESTART}

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        ports = free_ports((*SERVICES, "proxy", "gateway"))
        self._proxy = Proxy(ports["proxy"], ports["router"])
        data = directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        common = {
            "MOBOT_DATA_DIR": str(data),
            "MOBOT_TOKEN": TOKEN,
            **{f"MOBOT_{name.upper()}_PORT": str(ports[name]) for name in SERVICES},
            **{f"MOBOT_{name.upper()}_TARGET": f"127.0.0.1:{ports[name]}" for name in SERVICES},
            "MOBOT_ROUTER_LEASE_S": str(LEASE_S),
            "MOBOT_ROUTER_BACKOFF_INITIAL_S": "0.05",
            "MOBOT_ROUTER_BACKOFF_MAX_S": "0.5",
            # Of what comes as a reply too: it shall not run out of attempts because its worker died five times.
            "MOBOT_ROUTER_MAX_ATTEMPTS": str(ATTEMPTS),
            **(settings or {}),
        }
        targets = {f"LEDGER_{name.upper()}": f"127.0.0.1:{ports[name]}" for name in SERVICES}
        payments = directory / "payments"
        targets |= {
            "LEDGER_ROUTER": f"127.0.0.1:{ports['proxy']}",
            "LEDGER_TOKEN": TOKEN,
            "LEDGER_PAYMENTS": str(payments),
        }
        self._services = {
            name: Kept(name, python("ledger.mobot.service", name), {**_clean(), **common}, directory)
            for name in SERVICES
        }
        self._workers = {
            name: Kept(name, python("ledger.mobot.worker", name), {**_clean(), **targets}, directory)
            for name in WORKERS
        }
        # Through the proxy too: the mail that clients send is cut off like everybody's.
        edge = {"MOBOT_PORT": str(ports["gateway"]), "MOBOT_ROUTER_TARGET": targets["LEDGER_ROUTER"]}
        self._gateway = Kept("gateway", python("gateway"), {**_clean(), **common, **edge}, directory)
        self._targets = {name: f"127.0.0.1:{ports['proxy' if name == 'router' else name]}" for name in SERVICES}
        self._metadata = (("authorization", f"Bearer {TOKEN}"),)
        self._ends: dict[str, int] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._watcher: Watcher | None = None
        url = f"ws://127.0.0.1:{ports['gateway']}/"
        self._clients = [EdgeClient(name, url, TOKEN) for name in EDGE_CLIENTS]
        self._payments = payments
        self._deciders: Deciders | None = None
        self._said: dict[str, set[int]] = {}
        self._ended: set[str] = set()

    async def start(self) -> None:
        for kept in self._services.values():
            kept.start()
        await self._proxy.start()
        self._channels = {
            name: grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) for name, target in self._targets.items()
        }
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(self._channels["registry"])
        self._session = session_service_pb2_grpc.SessionServiceStub(self._channels["session"])
        self._router = router_service_pb2_grpc.RouterServiceStub(self._channels["router"])
        await self._create_bots()
        self._watcher = Watcher(self._channels["session"], self._metadata)
        self._watcher.start()
        await self._watcher.attached.wait()
        self._deciders = Deciders(self._router, self._metadata, self._payments, patiently)
        self._deciders.start()
        self._gateway.start()
        for client in self._clients:
            client.start()
            await client.attached.wait()
        for kept in self._workers.values():
            kept.start()
        await self._create_topics()

    async def stop(self) -> None:
        if self._deciders is not None:
            await self._deciders.stop()
        await asyncio.gather(*(client.stop() for client in self._clients))
        await self._gateway.stop()
        if self._watcher is not None:
            await self._watcher.stop()
        await asyncio.gather(*(kept.stop() for kept in self._workers.values()))
        await asyncio.gather(*(kept.stop() for kept in self._services.values()))
        await self._proxy.stop()
        for channel in self._channels.values():
            await channel.close()

    # What is sent

    async def send(self, mail: Mail) -> str:
        if mail.kind is Kind.SPAWN:
            return await self._spawn(mail)
        if mail.kind is Kind.PUBLISH:
            return await self._publish(mail)
        if mail.kind is Kind.CHAT:
            client = self._clients[mail.lane % len(self._clients)]
            key = names.client_key(names.session(mail.place))
            return await client.say(key, mail.text, f"ledger-{mail.number}")
        draft = self._draft(mail)
        draft.session = names.session(mail.place)
        if mail.kind is Kind.ASK:
            draft.reply_to = names.session(mail.asker)
        request = router_service_pb2.SendMessageRequest(message=draft)
        answer = await accepted(self._router.SendMessage(request, metadata=self._metadata, timeout=_CALL_S))
        if mail.kind is Kind.ABORT:
            await self._cancel(answer.receipt.run)
        elif mail.kind is Kind.DECIDE and self._deciders is not None:
            self._deciders.follow(answer.receipt.run, mail.number)
        return str(answer.receipt.run)

    async def _spawn(self, mail: Mail) -> str:
        request = router_service_pb2.SpawnSessionRequest(request_id=f"ledger-{mail.number}")
        spawn = request.spawn
        spawn.parent = names.session(mail.asker)
        spawn.bot, _, spawn.session_id = names.child(mail).partition("/sessions/")
        spawn.task.add(text=mail.text)
        spawn.announce = True
        try:
            answer = await accepted(self._router.SpawnSession(request, metadata=self._metadata, timeout=_CALL_S))
        except Refused as error:
            # The parent was at work on what is just being cancelled, and that may have no more children.
            if "has ended: CANCELLED" in str(error):
                raise Unanswered(str(error)) from error
            raise
        return str(answer.receipt.run)

    async def _publish(self, mail: Mail) -> str:
        draft = self._draft(mail)
        draft.topic = names.topic(mail)
        request = router_service_pb2.PublishTopicRequest(message=draft)
        await accepted(self._router.PublishTopic(request, metadata=self._metadata, timeout=_CALL_S))
        return ""  # a publication has no run of its own: each of its copies has one

    async def _cancel(self, run: str) -> None:
        request = router_service_pb2.CancelRunRequest(
            run=run, include_queued=True, reason="the ledger changes its mind"
        )
        # Whether it is stopped, is over, or was never told: each is a fate that an abort may have.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._router.CancelRun(request, metadata=self._metadata, timeout=_CALL_S)

    @staticmethod
    def _draft(mail: Mail) -> message_pb2.MessageDraft:
        return message_pb2.MessageDraft(
            parts=[part_pb2.Part(text=mail.text)],
            idempotency_key=f"ledger-{mail.number}",
            max_attempts=ATTEMPTS,
            mode=_MODES.get(mail.kind, message_pb2.BUSY_MODE_UNSPECIFIED),
        )

    # What is done to it

    async def strike(self, fault: Fault, amount: int) -> None:
        match fault:
            case Fault.KILL_ROUTER | Fault.KILL_SESSION | Fault.KILL_REGISTRY:
                self._services[fault.removeprefix("kill ")].signal(signal.SIGKILL)
            case Fault.KILL_WORKER:
                self._workers[WORKERS[amount % len(WORKERS)]].signal(signal.SIGKILL)
            case Fault.KILL_GATEWAY:
                self._gateway.signal(signal.SIGKILL)
            case Fault.KILL_ALL:
                for kept in (*self._services.values(), *self._workers.values(), self._gateway):
                    kept.signal(signal.SIGKILL)
            case Fault.ROUTER_BEFORE_COMMIT | Fault.ROUTER_AFTER_COMMIT:
                await self._at_commit("router", fault, amount)
            case Fault.SESSION_BEFORE_COMMIT | Fault.SESSION_AFTER_COMMIT:
                await self._at_commit("session", fault, amount)
            case Fault.PAUSE_WORKER:
                await pause(self._workers[WORKERS[amount % len(WORKERS)]], 2 * LEASE_S + amount / 10)
            case Fault.PAUSE_ROUTER | Fault.PAUSE_SESSION:
                await pause(self._services[fault.removeprefix("pause ")], amount / 4)
            case Fault.CUT_SOCKETS:
                self._proxy.cut()
            case Fault.DISK_FULL:
                with self._services["router" if amount % 2 else "session"].full_disk():
                    await asyncio.sleep(amount / 5)
            case Fault.CLOCK_FORWARD | Fault.CLOCK_BACK:
                self._jump("router" if amount % 2 else "session", 3_600 if fault is Fault.CLOCK_FORWARD else -3_600)
            case _:
                raise ValueError(f"{self.name} cannot be struck by: {fault}")

    async def _at_commit(self, name: str, fault: Fault, amount: int) -> None:
        """Returns when the process has died of it."""
        kept = self._services[name]
        starts = kept.starts
        point = "before" if "before" in fault else "after"
        while kept.starts == starts:
            # Told again, because it may not have come up enough to listen when it was first told.
            kept.order(point=point, commits=amount)
            await asyncio.sleep(0.5)

    def _jump(self, name: str, seconds: float) -> None:
        self._services[name].order(clock_offset_s=seconds)

    # What can be seen

    async def settle(self, runs: Sequence[str], patience_s: float) -> Mapping[str, str]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        states: dict[str, str] = {}
        gate = asyncio.Semaphore(_AT_ONCE)

        async def wait(run: str) -> None:
            async with gate:
                request = router_service_pb2.WaitRunRequest(run=run)
                request.timeout.FromMilliseconds(5_000)
                while True:
                    answer = await patiently(
                        lambda: self._router.WaitRun(request, metadata=self._metadata, timeout=_CALL_S)
                    )
                    if answer.done or loop.time() > deadline:
                        name = message_pb2.MessageState.Name(answer.message.state)
                        states[run] = name.removeprefix("MESSAGE_STATE_")
                        return

        # A fan-out has no run of its own.
        await asyncio.gather(*(wait(run) for run in runs if run))
        return states

    async def journal(self, mails: Sequence[Mail]) -> Mapping[str, Sequence[Seen]]:
        places = {place for mail in mails for place in names.places_of(mail)}
        places |= {place for mail in mails if (place := names.reply_place(mail))}
        gate = asyncio.Semaphore(_AT_ONCE)
        ends: dict[str, int] = {}
        self._said, self._ended = {}, set()

        async def read(place: str) -> tuple[str, list[Seen]]:
            async with gate:
                events = await self._events(place)
                ends[place] = events[-1].sequence if events else 0
                said = (event.sequence for event in events if event.WhichOneof("payload") in _TOLD)
                self._said[names.client_key(place)] = set(said)
                self._ended.update(event.run for event in events if event.HasField("run_finished"))
                return place, [seen for event in events for seen in _seen(event)]

        journal = dict(await asyncio.gather(*(read(place) for place in sorted(places))))
        self._ends = ends
        return journal

    def places_of(self, mail: Mail) -> Sequence[str]:
        return names.places_of(mail)

    def reply_place(self, mail: Mail) -> str:
        return names.reply_place(mail)

    def watched(self) -> Sequence[str]:
        amiss = [case for client in self._clients for case in client.amiss(self._said, self._ended)]
        if self._watcher is not None:
            amiss += self._watcher.amiss(self._ends)
        return amiss if self._deciders is None else amiss + self._deciders.amiss()

    async def _events(self, place: str) -> list[event_pb2.Event]:
        request = session_service_pb2.ListEventsRequest(
            parent=place, filter=session_service_pb2.EventFilter(session_uid="*"), page_size=1000
        )
        found: list[event_pb2.Event] = []
        while True:
            try:
                page = await patiently(
                    lambda: self._session.ListEvents(request, metadata=self._metadata, timeout=_CALL_S)
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return []
                raise
            found += page.events
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    # What has to be there first

    async def _create_bots(self) -> None:
        async def create(bot: str) -> None:
            request = registry_service_pb2.CreateBotRequest(
                bot_id=bot, bot=bot_pb2.Bot(brain=bot_pb2.Brain(worker=bot_pb2.WorkerBrain()), concurrency=20)
            )
            await self._registry.CreateBot(request, metadata=self._metadata, timeout=READ_S, wait_for_ready=True)

        await asyncio.gather(*(create(bot) for bot in names.BOTS))
        health = router_service_pb2.ListMessagesRequest(page_size=1)
        await self._router.ListMessages(health, metadata=self._metadata, timeout=READ_S, wait_for_ready=True)

    async def _create_topics(self) -> None:
        for number in range(names.TOPICS):
            request = router_service_pb2.CreateTopicRequest(topic_id=f"t{number}")
            await self._router.CreateTopic(request, metadata=self._metadata, timeout=READ_S)
            for subscriber in names.subscribers(number):
                await self._router.SubscribeTopic(
                    router_service_pb2.SubscribeTopicRequest(topic=f"topics/t{number}", subscriber=subscriber),
                    metadata=self._metadata,
                    timeout=READ_S,
                )


_MODES = {Kind.STEER: message_pb2.BUSY_MODE_STEER, Kind.COLLECT: message_pb2.BUSY_MODE_COLLECT}
# What clients of the gateway are told as a message of a session.
_TOLD = frozenset({"message", "tool_called", "tool_returned"})


def _seen(event: event_pb2.Event) -> Sequence[Seen]:
    kind = event.WhichOneof("payload")
    if kind == "run_finished":
        outcome = session_pb2.RunOutcome.Name(event.run_finished.outcome).removeprefix("RUN_OUTCOME_")
        return (Seen("end", 0, event.run, outcome),)
    if kind != "message" or event.message.partial:
        return (Seen("other", 0, event.run),)
    text = "".join(part.text for part in event.message.parts)
    answered = names.answered_by(text)
    if event.message.role == event_pb2.ROLE_ASSISTANT:
        return tuple(Seen("answer", number, event.run) for number in answered or (0,))
    mail = names.MAIL.match(text)
    if mail is not None:
        return (Seen("mail", int(mail[2]), event.run),)
    # What came as a reply is about the first of those that were answered together.
    return (Seen("reply", answered[0], event.run) if answered else Seen("other", 0, event.run),)


def _clean() -> dict[str, str]:
    """The repository on the path of the processes, whose own directory is not."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))}
