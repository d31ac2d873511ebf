"""All four fakes behind real hosts, and workers that call them over a socket or over local channels."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bot_sdk.worker import Worker
from chassis.channel import Dialer
from chassis.identity import Authenticator
from chassis.server import Service, ServiceHost
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc
from sdk_fakes.memory import FakeMemory
from sdk_fakes.registry import FakeRegistry
from sdk_fakes.router import FakeRouter
from sdk_fakes.session import FakeSession

TOKEN = "secret"


async def _yes() -> bool:
    return True


async def _nothing() -> None:
    return None


class World:
    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.session = FakeSession()
        self.router = FakeRouter(self.session)
        self.registry = FakeRegistry()
        self.memory = FakeMemory()
        self.targets: dict[str, str] = {}
        self._hosts: list[ServiceHost] = []
        self._dialers: list[Dialer] = []

    async def start(self) -> None:
        for name, servicer, register in (
            ("session", self.session, session_service_pb2_grpc.add_SessionServiceServicer_to_server),
            ("router", self.router, router_service_pb2_grpc.add_RouterServiceServicer_to_server),
            ("registry", self.registry, registry_service_pb2_grpc.add_RegistryServiceServicer_to_server),
            ("memory", self.memory, memory_service_pb2_grpc.add_MemoryServiceServicer_to_server),
        ):
            service = Service(
                name, f"mobot.{name}.v1.{name.title()}Service", servicer, register, _yes, _nothing, _nothing
            )
            listen = ["127.0.0.1:0"] if self.wire == "socket" else []
            host = ServiceHost(service, authenticator=Authenticator(TOKEN), listen=listen, grace_s=0.1)
            ports = await host.start()
            self.targets[name] = f"127.0.0.1:{next(iter(ports.values()))}" if listen else "local:"
            self._hosts.append(host)

    async def close(self) -> None:
        for dialer in self._dialers:
            await dialer.close()
        for host in self._hosts:
            await host.drain()

    def dialer(self, actor: str | None = "workers/w1", token: str = TOKEN) -> Dialer:
        dialer = Dialer(self.targets, token=token, actor=actor)
        if self.wire == "local":
            for host in self._hosts:
                dialer.add_handlers(host.local_handlers)
        self._dialers.append(dialer)
        return dialer

    def add_bots(self, *bots: str) -> None:
        for bot in bots:
            if f"bots/{bot}" not in self.registry.bots:
                self.registry.add_bot(bot)

    @contextlib.asynccontextmanager
    async def serving(self, handlers, **options) -> AsyncIterator[Worker]:
        """A worker that runs and is attached; drained at the end."""
        self.add_bots(*handlers)
        options.setdefault("worker_id", "w1")
        options.setdefault("grace_s", 1.0)
        worker = Worker(self.dialer(), handlers=handlers, **options)
        running = asyncio.ensure_future(worker.run())
        try:
            attached = asyncio.ensure_future(worker.attached())
            await asyncio.wait([attached, running], return_when=asyncio.FIRST_COMPLETED, timeout=40)
            if running.done():
                await running
            assert attached.done(), "the worker did not attach"
            yield worker
        finally:
            worker.drain()
            async with asyncio.timeout(40):
                await running
