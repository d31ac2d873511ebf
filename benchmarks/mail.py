"""Suite `mail`: durable mail against what others offer for it.

Each row's name says what an acknowledgement means. Needs redis-server (Debian); AutoGen, nats-server and the clients
come from PyPI into environments of their own.
"""

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc

from benchmarks import mail_load
from benchmarks.mobot_under_test import BOT, Mobot, mobot_up
from benchmarks.peers.environment import MAIL, debian_program, environment
from benchmarks.processes import cpu_seconds, free_port, launch, running, say
from benchmarks.report import Report, percentile
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2, router_service_pb2_grpc

CALLERS = 64
SESSIONS = [f"{BOT}/sessions/bench-{number}" for number in range(256)]
SLEEPERS = 1_000
PEERS = Path(__file__).parent / "peers"

ROWS = ("peers", "wake", "stored", "sessions")

Load = Callable[[], Awaitable[float]]


async def run(*, rounds: int, seconds: float, wanted: frozenset[str], messages: int = 100_000) -> Report:
    """Runs the rows that are wanted. `messages` is how many are stored for the row `stored`."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="mobot-bench-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        if "peers" in wanted:
            await _peers(report, directory, rounds=rounds, seconds=seconds)
        if "wake" in wanted:
            await _wake(report, directory, rounds=min(rounds, 3))
        if "stored" in wanted:
            await _stored(report, directory, rounds=rounds, seconds=seconds, messages=messages)
        if "sessions" in wanted:
            await _sessions(report, directory, rounds=rounds, seconds=seconds)
    report.table()
    return report


async def _peers(report: Report, directory: Path, *, rounds: int, seconds: float) -> None:
    programs = environment("mail", MAIL)
    async with contextlib.AsyncExitStack() as stack:
        autogen = await stack.enter_async_context(_autogen(programs, directory))
        redis = await stack.enter_async_context(_redis(directory))
        default = await stack.enter_async_context(_jetstream(programs, directory, sync=False))
        synced = await stack.enter_async_context(_jetstream(programs, directory, sync=True))
        mobot = await stack.enter_async_context(mobot_up(directory / "mail"))
        worker = await stack.enter_async_context(mail_load.Consumer(mobot.router, mobot.metadata, [BOT], credit=512))
        cpu: dict[str, list[float]] = {"batched": [], "unary": []}

        async def batched() -> float:
            before = cpu_seconds(mobot.pid)
            load = await mail_load.streamed(
                mobot.router, mobot.metadata, SESSIONS, frame=32, window=32 * CALLERS, seconds=seconds, consumer=worker
            )
            cpu["batched"].append((cpu_seconds(mobot.pid) - before) / load.sent * 1e6)
            return load.rate

        async def unary() -> float:
            before = cpu_seconds(mobot.pid)
            load = await mail_load.unary(
                mobot.router, mobot.metadata, SESSIONS, in_flight=CALLERS, seconds=seconds, consumer=worker
            )
            cpu["unary"].append((cpu_seconds(mobot.pid) - before) / load.sent * 1e6)
            return load.rate

        def peer(script: str, where: str) -> Load:
            return lambda: _peer_rate(programs, script, where, str(CALLERS), str(seconds))

        loads: dict[str, Load] = {
            "batched": batched,
            "unary": unary,
            "autogen": peer("autogen_load.py", autogen),
            "redis": peer("redis_load.py", redis),
            "default": peer("nats_load.py", default),
            "synced": peer("nats_load.py", synced),
        }
        await unary()  # once around, so that sessions exist and code is warm
        cpu["unary"].clear()
        rates: dict[str, list[float]] = {name: [] for name in loads}
        for number in range(rounds):
            say(f"mail beside its peers, round {number + 1} of {rounds}")
            for name in random.sample(list(loads), len(loads)):
                rates[name].append(await loads[name]())
    for name, title, ratio in (
        ("autogen", "AutoGen 0.7.5 send_message, memory only", 10),
        ("redis", "Redis stream, appendfsync=always", 5),
        ("synced", "JetStream, sync=always", 10),
        ("default", "JetStream, default (acknowledged before fsync)", 1),
    ):
        report.against(
            f"batched sends, fsync'd, delivered, acknowledged, {CALLERS} frames of 32 in flight, /s",
            rates["batched"],
            rates[name],
            peer_name=title,
            bound="at least",
            ratio=ratio,
            cpu_us=cpu["batched"],
        )
    report.against(
        f"unary sends, fsync'd, delivered, {CALLERS} in flight, /s",
        rates["unary"],
        rates["autogen"],
        peer_name="AutoGen 0.7.5 send_message, memory only",
        bound="at least",
        ratio=1,
        cpu_us=cpu["unary"],
    )


async def _peer_rate(programs: Path, script: str, *arguments: str) -> float:
    process = await launch(str(programs / "python"), str(PEERS / script), *arguments, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{script} ended with {process.returncode}")
    return float(json.loads(out.splitlines()[-1])["rate"])


@contextlib.asynccontextmanager
async def _autogen(programs: Path, directory: Path) -> AsyncIterator[str]:
    address = f"127.0.0.1:{free_port()}"
    command = [str(programs / "python"), str(PEERS / "autogen_host.py"), address]
    async with running(command, log=directory / "autogen.log", ready_line=b"READY"):
        yield address


@contextlib.asynccontextmanager
async def _redis(directory: Path) -> AsyncIterator[str]:
    port, home = free_port(), directory / "redis"
    home.mkdir()
    command = [debian_program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(home), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    async with running(command, log=directory / "redis.log", ready_line=b"eady to accept connections"):
        yield str(port)


@contextlib.asynccontextmanager
async def _jetstream(programs: Path, directory: Path, *, sync: bool) -> AsyncIterator[str]:
    port, name = free_port(), "synced" if sync else "default"
    configuration = directory / f"{name}.conf"
    store = json.dumps(str(directory / f"jetstream-{name}"))
    interval = "sync_interval: always" if sync else ""
    configuration.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{\n store_dir: {store}\n {interval}\n}}\n')
    command = [str(programs / "nats-server"), "-c", str(configuration), "-l", "/dev/stdout"]
    async with running(command, log=directory / f"{name}.log", ready_line=b"Server is ready"):
        yield str(port)


async def _wake(report: Report, directory: Path, *, rounds: int) -> None:
    """A thousand bots with one message each and no worker; then one worker attaches for all of them."""
    late: list[float] = []
    async with mobot_up(directory / "wake") as mobot:
        bots = await _sleepers(mobot, SLEEPERS)
        for number in range(rounds):
            say(f"waking {SLEEPERS} bots, round {number + 1} of {rounds}")
            late.append(percentile(await _wake_all(mobot, bots, number), 0.99) * 1e3)
    report.absolute(
        f"{SLEEPERS} sleeping bots woken: attach to delivery, p99 ms", late, bound="at most", limit=float("inf")
    )


async def _sleepers(mobot: Mobot, count: int) -> list[str]:
    async with mail_load.channel(mobot.registry) as channel:
        stub = registry_service_pb2_grpc.RegistryServiceStub(channel)

        async def create(number: int) -> str:
            answer = await stub.CreateBot(
                registry_service_pb2.CreateBotRequest(
                    bot_id=f"sleeper-{number}",
                    bot=bot_pb2.Bot(brain=bot_pb2.Brain(worker=bot_pb2.WorkerBrain()), concurrency=4),
                ),
                metadata=mobot.metadata,
                timeout=60,
            )
            return answer.bot.name

        bots = []
        for start in range(0, count, CALLERS):
            bots += await asyncio.gather(*(create(number) for number in range(start, min(start + CALLERS, count))))
        return bots


async def _wake_all(mobot: Mobot, bots: list[str], number: int) -> list[float]:
    channel = mail_load.channel(mobot.router)
    stub = router_service_pb2_grpc.RouterServiceStub(channel)
    try:
        call = stub.Send(metadata=mobot.metadata)
        drafts = [mail_load.draft(f"{bot}/sessions/main") for bot in bots]
        await call.write(router_service_pb2.SendRequest(first_number=1, messages=drafts))
        answered = 0
        while answered < len(drafts):
            answer = await call.read()
            answered += len(answer.outcomes)
        await call.done_writing()
        call.cancel()
        return await _deliveries(stub, mobot, bots, f"workers/waker-{number}")
    finally:
        await channel.close()


async def _deliveries(
    stub: router_service_pb2_grpc.RouterServiceStub, mobot: Mobot, bots: list[str], worker: str
) -> list[float]:
    call: grpc.aio.StreamStreamCall = stub.Attach(metadata=mobot.metadata)
    hello = router_service_pb2.AttachHello(worker=worker, bots=bots, credit=len(bots), contract_version="v1")
    waits: list[float] = []
    settled = 0
    start = time.perf_counter()
    await call.write(router_service_pb2.AttachRequest(hello=hello))
    async with asyncio.timeout(120):
        while settled < len(bots):
            frame = await call.read()
            settled += len(frame.settlements)
            waits += [time.perf_counter() - start] * len(frame.deliveries)
            if frame.deliveries:
                await call.write(router_service_pb2.AttachRequest(completions=mail_load.completions(frame.deliveries)))
    call.cancel()
    return waits


async def _stored(report: Report, directory: Path, *, rounds: int, seconds: float, messages: int) -> None:
    """The cost of a message in an empty store and in a full one."""
    async with contextlib.AsyncExitStack() as stack:
        few = await stack.enter_async_context(mobot_up(directory / "few"))
        many = await stack.enter_async_context(mobot_up(directory / "many"))
        light = await stack.enter_async_context(_worker(few))
        heavy = await stack.enter_async_context(_worker(many))
        await _send(few, light, SESSIONS, count=1_000)
        say(f"storing {messages} messages")
        await _send(many, heavy, SESSIONS, count=messages)
        little, much = await _costs(rounds, seconds, (few, light, SESSIONS), (many, heavy, SESSIONS))
    _flat(report, f"CPU of a message with {messages} stored, us", much, little, peer_name="with 1,000 stored")


async def _sessions(report: Report, directory: Path, *, rounds: int, seconds: float) -> None:
    """The cost of a message with few mailboxes in use and with many."""
    few = [f"{BOT}/sessions/few-{number}" for number in range(10)]
    many = [f"{BOT}/sessions/many-{number}" for number in range(10_000)]
    async with mobot_up(directory / "boxes") as mobot, _worker(mobot) as worker:
        await _send(mobot, worker, few, count=1_000)
        say(f"mail to {len(many)} sessions")
        await _send(mobot, worker, many, count=len(many))
        little, much = await _costs(rounds, seconds, (mobot, worker, few), (mobot, worker, many))
    _flat(
        report, f"CPU of a message with {len(many)} sessions, us", much, little, peer_name=f"with {len(few)} sessions"
    )


def _flat(report: Report, name: str, much: list[float], little: list[float], *, peer_name: str) -> None:
    report.against(name, much, little, peer_name=peer_name, bound="at most", ratio=1.3, cpu_us=much)


def _worker(mobot: Mobot) -> mail_load.Consumer:
    return mail_load.Consumer(mobot.router, mobot.metadata, [BOT], credit=512)


async def _send(mobot: Mobot, worker: mail_load.Consumer, sessions: list[str], *, count: int) -> None:
    await mail_load.streamed(
        mobot.router, mobot.metadata, sessions, frame=32, window=1024, seconds=3600, consumer=worker, most=count
    )


async def _costs(
    rounds: int, seconds: float, *subjects: tuple[Mobot, mail_load.Consumer, list[str]]
) -> tuple[list[float], ...]:
    """CPU microseconds of a message for each subject, in interleaved rounds."""
    costs: tuple[list[float], ...] = tuple([] for _ in subjects)
    for number in range(rounds):
        say(f"cost of a message, round {number + 1} of {rounds}")
        for place in random.sample(range(len(subjects)), len(subjects)):
            mobot, worker, sessions = subjects[place]
            before = cpu_seconds(mobot.pid)
            load = await mail_load.streamed(
                mobot.router, mobot.metadata, sessions, frame=32, window=1024, seconds=seconds, consumer=worker
            )
            costs[place].append((cpu_seconds(mobot.pid) - before) / load.sent * 1e6)
    return costs
