"""The four real services on SQLite in this process, behind sockets of their own."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

import memory_service.__main__ as memory
import registry_service.__main__ as registry
import router_service.__main__ as router
import session_service.__main__ as session
from bot_sdk import convert
from bot_sdk.model import Entry, RunResult
from bot_sdk.stubs import Stubs
from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator, mint_token
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry
from memory_service.settings import MemorySettings
from mobot.registry.v1 import bot_pb2, registry_service_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2
from registry_service.settings import RegistrySettings
from router_service.settings import RouterSettings
from session_service.settings import SessionSettings

SECRET = "secret"
SERVICES = {
    "registry": (registry, RegistrySettings),
    "session": (session, SessionSettings),
    "memory": (memory, MemorySettings),
    "router": (router, RouterSettings),
}


class Services:
    """The services, each of which can be stopped and started again on its own data."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.targets = {name: f"unix:{data_dir}/{name}.sock" for name in SERVICES}
        self.hosts: dict[str, ServiceHost] = {}
        self._dialers: list[Dialer] = []
        self.stubs = Stubs(self.dialer("operators/root"))

    def dialer(self, actor: str | None, *, token: str = SECRET) -> Dialer:
        dialer = Dialer(self.targets, token=token, actor=actor)
        self._dialers.append(dialer)
        return dialer

    async def start(self, name: str) -> None:
        module, settings = SERVICES[name]
        dialer = Dialer(self.targets, token=mint_token(SECRET, f"services/{name}"), actor=None)
        self._dialers.append(dialer)
        service = await module.compose(
            settings(),
            ChassisSettings(data_dir=self.data_dir, token=SECRET),
            dialer=dialer,
            clock=SystemClock(),
            telemetry=Telemetry.off(),
        )
        host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=(self.targets[name],), grace_s=0.2)
        await host.start()
        self.hosts[name] = host

    async def stop(self, name: str) -> None:
        await self.hosts.pop(name).drain()

    async def close(self) -> None:
        for name in ("router", "memory", "session", "registry"):
            if name in self.hosts:
                await self.stop(name)
        for dialer in self._dialers:
            await dialer.close()

    async def add_bot(self, bot: str, **fields) -> None:
        made = bot_pb2.Bot(**fields)
        if made.brain.WhichOneof("settings") is None:
            made.brain.echo.SetInParent()
        request = registry_service_pb2.CreateBotRequest(bot_id=bot, bot=made)
        await self.stubs.registry.CreateBot(request, wait_for_ready=True)

    async def send(self, session: str, text: str, **fields) -> str:
        """Accepts a message of a person and returns its run."""
        draft = message_pb2.MessageDraft(session=session, parts=[part_pb2.Part(text=text)], user_input=True, **fields)
        response = await self.stubs.router.SendMessage(
            router_service_pb2.SendMessageRequest(message=draft), wait_for_ready=True
        )
        return response.receipt.run

    async def wait(self, run: str, timeout_s: float = 40) -> RunResult:
        request = router_service_pb2.WaitRunRequest(run=run)
        request.timeout.CopyFrom(convert.to_duration(timeout_s))
        response = await self.stubs.router.WaitRun(request, wait_for_ready=True)
        assert response.done, response.message
        # The run's last line follows its end, it does not go before it.
        await self._logged(response.message.session, run, "run_finished")
        return convert.to_run_result(response.message, done=True)

    async def message(self, run: str) -> message_pb2.Message:
        request = router_service_pb2.GetMessageRequest(run=run)
        return (await self.stubs.router.GetMessage(request, wait_for_ready=True)).message

    async def until_state(self, run: str, state: str) -> message_pb2.Message:
        """The message once it is in the state, such as "NEEDS_DECISION"."""
        wanted = message_pb2.MessageState.Value(f"MESSAGE_STATE_{state}")
        async with asyncio.timeout(40):
            while (message := await self.message(run)).state != wanted:  # noqa: ASYNC110 - it changes elsewhere
                await asyncio.sleep(0.01)
        return message

    async def begun(self, session: str, run: str) -> None:
        """Returns when a worker has the run."""
        await self._logged(session, run, "run_started")

    async def _logged(self, session: str, run: str, kind: str) -> None:
        request = session_service_pb2.ListEventsRequest(
            parent=session, filter=session_service_pb2.EventFilter(run=run, kinds=[kind], session_uid="*")
        )
        async with asyncio.timeout(40):
            while True:
                try:
                    if (await self.stubs.session.ListEvents(request, wait_for_ready=True)).events:
                        return
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                        raise
                await asyncio.sleep(0.01)

    async def say(self, session: str, text: str) -> str:
        """What the bot answers."""
        result = await self.wait(await self.send(session, text))
        assert result.succeeded, result
        return result.reply

    async def events(self, session: str) -> list[event_pb2.Event]:
        request = session_service_pb2.ListEventsRequest(parent=session, page_size=1_000)
        return list((await self.stubs.session.ListEvents(request)).events)

    async def transcript(self, session: str) -> tuple[Entry, ...]:
        return convert.to_entries(await self.events(session))


@contextlib.asynccontextmanager
async def running_services() -> AsyncIterator[Services]:
    # Not tmp_path: the path of a Unix socket must be short.
    data_dir = Path(tempfile.mkdtemp(prefix="mobot-"))
    made = Services(data_dir)
    try:
        for name in SERVICES:
            await made.start(name)
        yield made
    finally:
        await made.close()
        shutil.rmtree(data_dir)
