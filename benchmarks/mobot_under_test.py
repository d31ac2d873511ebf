"""A fresh mobot in the default layout, on free ports, in its own directory, with a bot only benchmarks serve."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from websockets.exceptions import WebSocketException

from benchmarks.processes import end, free_port, launch
from benchmarks.web_client import WebClient
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc

BOT = "bots/bench"
TOKEN = "benchmark-token-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Mobot:
    """A running mobot; `cold_start_s` is from the start of `mobot up` to the first accepted WebSocket `connect`."""

    pid: int
    url: str
    router: str
    registry: str
    session: str
    cold_start_s: float

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {TOKEN}"),)


@contextlib.asynccontextmanager
async def mobot_up(directory: Path, *, with_bot: bool = True) -> AsyncIterator[Mobot]:
    directory.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("gateway", "registry", "session", "memory", "router")}
    env = {
        "MOBOT_DATA_DIR": str(directory / "data"),
        "MOBOT_TOKEN": TOKEN,
        "MOBOT_PORT": str(ports["gateway"]),
        **{f"MOBOT_{name.upper()}_PORT": str(ports[name]) for name in ("registry", "session", "memory", "router")},
    }
    url = f"ws://127.0.0.1:{ports['gateway']}/"
    with (directory / "up.log").open("ab") as log:
        start = time.perf_counter()
        process = await launch(
            *[sys.executable, "-m", "mobot_cli", "up"],
            env={**_environment(), **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            async with asyncio.timeout(60):
                await _first_connect(url, process, directory / "up.log")
            cold_start_s = time.perf_counter() - start
            mobot = Mobot(
                pid=process.pid,
                url=url,
                cold_start_s=cold_start_s,
                **{name: f"127.0.0.1:{ports[name]}" for name in ("registry", "session", "router")},
            )
            if with_bot:
                await _create_bot(mobot)
            yield mobot
        finally:
            await end(process)


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("MOBOT_")}


async def _first_connect(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    while True:
        if process.returncode is not None:
            raise RuntimeError(f"mobot up ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, WebSocketException):  # refused, or cut while the port is being tried
            async with WebClient(url, TOKEN):
                return
        await asyncio.sleep(0.01)  # the poll interval of a client, not a synchronisation


async def _create_bot(mobot: Mobot) -> None:
    async with grpc.aio.insecure_channel(mobot.registry) as channel:
        stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
        await stub.CreateBot(
            registry_service_pb2.CreateBotRequest(
                bot_id="bench",
                bot=bot_pb2.Bot(
                    display_name="Bench", brain=bot_pb2.Brain(worker=bot_pb2.WorkerBrain()), concurrency=1000
                ),
            ),
            metadata=mobot.metadata,
            timeout=30,
            wait_for_ready=True,
        )


async def demo_bots(mobot: Mobot) -> None:
    """Returns when the demo bot `main` is there and served."""
    async with grpc.aio.insecure_channel(mobot.registry) as channel, asyncio.timeout(60):
        watch = registry_service_pb2_grpc.RegistryServiceStub(channel).WatchBots(
            registry_service_pb2.WatchBotsRequest(), metadata=mobot.metadata, wait_for_ready=True
        )
        async for frame in watch:
            for change in frame.changes:
                told = {change.bot.name: change.bot.status, change.bot_status.bot: change.bot_status.status}
                if told.get("bots/main", bot_pb2.BotStatus()).worker_count:
                    return
