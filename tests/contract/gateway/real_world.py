"""The real services around a gateway, in one process: registry, session, router and memory on SQLite, and a worker."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from edge_client import connected

import memory_service.__main__ as memory
import registry_service.__main__ as registry
import router_service.__main__ as router
import session_service.__main__ as session
from bot_sdk.worker import Worker
from chassis.channel import LOCAL, Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry
from gateway.composition import compose
from gateway.settings import GatewaySettings
from memory_service.settings import MemorySettings
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from registry_service.settings import RegistrySettings
from router_service.settings import RouterSettings
from session_service.settings import SessionSettings

SECRET = "secret"
BOTS = ("main", "helper")


@dataclass
class Brain:
    """What the bots do: stream the words, one by one, with a pause after each."""

    words: tuple = ("Hello ", "from ", "a ", "real ", "bot.")
    pause_s: float = 0.0
    failure: Exception | None = None
    turns: int = 0

    async def __call__(self, turn):
        self.turns += 1
        if self.failure is not None:
            raise self.failure
        for word in self.words:
            turn.stream(word)
            await asyncio.sleep(self.pause_s)
        return None


@dataclass
class RealEdge:
    gateway: object
    dialer: Dialer
    port: int
    brain: Brain
    worker: Worker

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options):
        return connected(self.url, **options)


@asynccontextmanager
async def real_edge(data_dir, *, with_worker=True, create_bots=True, sessions=None):
    """Everything started in the order of its dependencies, and stopped the other way round."""
    chassis, clock = ChassisSettings(data_dir=data_dir, token=SECRET), SystemClock()
    async with AsyncExitStack() as stack:
        dialer = Dialer(
            dict.fromkeys(("registry", "session", "router", "memory"), LOCAL), token=SECRET, actor="operators/root"
        )
        stack.push_async_callback(dialer.close)
        for module, settings in (
            (registry, RegistrySettings()),
            (session, sessions or SessionSettings()),
            (router, RouterSettings()),
            (memory, MemorySettings()),
        ):
            service = await module.compose(settings, chassis, dialer=dialer, clock=clock, telemetry=Telemetry.off())
            host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=(), grace_s=0.5)
            await host.start()
            stack.push_async_callback(host.drain)
            dialer.add_handlers(host.local_handlers)
        bots = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
        for bot in BOTS if create_bots else ():
            made = bot_pb2.Bot(display_name=bot.title(), brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain()))
            await bots.CreateBot(registry_service_pb2.CreateBotRequest(bot_id=bot, bot=made))
        brain = Brain()
        worker = Worker(dialer, worker_id="tests", handlers=dict.fromkeys(BOTS, brain), grace_s=0.5)
        if with_worker:
            running = asyncio.create_task(worker.run())
            stack.push_async_callback(_ended, worker, running)
            await worker.attached()
        gateway = compose(GatewaySettings(port=0), token=SECRET, dialer=dialer, clock=clock, telemetry=Telemetry.off())
        port = await gateway.start()
        stack.push_async_callback(gateway.drain)
        yield RealEdge(gateway, dialer, port, brain, worker)


async def _ended(worker, running):
    worker.drain()
    await asyncio.wait([running], timeout=40)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
