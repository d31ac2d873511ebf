"""Suite `core`: figures of the default layout against the bare limit and the real OpenClaw gateway."""

import asyncio
import contextlib
import itertools
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import grpc

from benchmarks import mail_load
from benchmarks.mobot_under_test import BOT, TOKEN, Mobot, demo_bots, mobot_up
from benchmarks.openclaw_peer import TOKEN as PEER_TOKEN
from benchmarks.openclaw_peer import openclaw_up
from benchmarks.processes import cpu_seconds, free_port, rss_mb, running, say
from benchmarks.report import Report, median
from benchmarks.web_client import WebClient
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc

IDLE_SETTLE_S = 5
STORED_SESSIONS = 10_000
MAIL_SESSIONS = [f"{BOT}/sessions/bench-{number}" for number in range(256)]
SENDS_PER_ROUND = 40

ROWS = ("cold_start", "idle_memory", "unary_send", "streamed_send", "send_to_deliver", "chat_send_ack")


async def run(*, rounds: int, seconds: float, wanted: frozenset[str]) -> Report:
    """Runs the rows that are wanted."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="mobot-bench-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        if wanted & {"cold_start", "idle_memory"}:
            await _starts(report, directory, wanted, rounds=min(rounds, 3))
        if wanted & {"unary_send", "streamed_send", "send_to_deliver"}:
            await _mail(report, directory, wanted, rounds=rounds, seconds=seconds)
        if "chat_send_ack" in wanted:
            await _chat(report, directory, rounds=rounds)
    report.table()
    return report


async def _starts(report: Report, directory: Path, wanted: frozenset[str], *, rounds: int) -> None:
    starts, memory, peer_starts, peer_memory = [], [], [], []
    for number in range(rounds):
        say(f"start {number + 1} of {rounds}")
        async with mobot_up(directory / f"start-{number}", with_bot=False) as mobot:
            starts.append(mobot.cold_start_s)
            await asyncio.sleep(IDLE_SETTLE_S)  # idle is a state of time: what start-up left behind is given back first
            memory.append(rss_mb(mobot.pid))
        peer_directory = directory / f"peer-start-{number}"
        peer_directory.mkdir()
        async with openclaw_up(peer_directory, sessions=0) as peer:
            peer_starts.append(peer.cold_start_s)
            await asyncio.sleep(IDLE_SETTLE_S)
            peer_memory.append(rss_mb(peer.pid))
    if "cold_start" in wanted:
        report.absolute("cold start to first connect, s", starts, bound="at most", limit=3.0)
        report.against("cold start, s", starts, peer_starts, peer_name="OpenClaw gateway", bound="at most", ratio=1 / 3)
    if "idle_memory" in wanted:
        report.absolute("idle memory of the process tree, MB", memory, bound="at most", limit=350)
        report.against("idle memory, MB", memory, peer_memory, peer_name="OpenClaw gateway", bound="at most", ratio=0.5)


@contextlib.asynccontextmanager
async def _bare(module: str, directory: Path, *more: str) -> AsyncIterator[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, "-m", module, str(port), *more]
    async with running(command, log=directory / f"{module}.log", ready_line=b"READY") as process:
        yield f"127.0.0.1:{port}", process.pid


async def _mail(report: Report, directory: Path, wanted: frozenset[str], *, rounds: int, seconds: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        mobot = await stack.enter_async_context(mobot_up(directory / "mail"))
        echo, echo_pid = await stack.enter_async_context(_bare("benchmarks.bare_echo", directory))
        store = str(directory / "bare.sqlite3")
        mailbox, mailbox_pid = await stack.enter_async_context(_bare("benchmarks.bare_mailbox", directory, store))
        keeping = (str(directory / "bare-keeping.sqlite3"), "transcript")
        keeper, keeper_pid = await stack.enter_async_context(_bare("benchmarks.bare_mailbox", directory, *keeping))
        ours = await stack.enter_async_context(mail_load.Consumer(mobot.router, mobot.metadata, [BOT], credit=512))
        toy = await stack.enter_async_context(mail_load.Consumer(mailbox, (), [BOT], credit=512))
        kept = await stack.enter_async_context(mail_load.Consumer(keeper, (), [BOT], credit=512))
        # Once around, so that sessions exist and code is warm on both sides.
        await mail_load.unary(mobot.router, mobot.metadata, MAIL_SESSIONS, in_flight=64, seconds=1, consumer=ours)
        await mail_load.unary(echo, (), MAIL_SESSIONS, in_flight=64, seconds=0.5, consumer=None)
        if "unary_send" in wanted:
            await _unary(report, mobot, echo, ours, rounds=rounds, seconds=seconds)
        if "streamed_send" in wanted:
            toys = {"bare durable mailbox": (mailbox, toy), "bare mailbox with transcript": (keeper, kept)}
            await _streamed(report, mobot, ours, toys, rounds=rounds, seconds=seconds)
        if "send_to_deliver" in wanted:
            await _latency(report, mobot, echo, ours, rounds=rounds, seconds=seconds)
        del echo_pid, mailbox_pid, keeper_pid


async def _unary(
    report: Report, mobot: Mobot, echo: str, ours: mail_load.Consumer, *, rounds: int, seconds: float
) -> None:
    rates, echoes, cpu = [], [], []
    for number in range(rounds):
        say(f"unary sends, round {number + 1} of {rounds}")

        async def send() -> None:
            before = cpu_seconds(mobot.pid)
            load = await mail_load.unary(
                mobot.router, mobot.metadata, MAIL_SESSIONS, in_flight=64, seconds=seconds, consumer=ours
            )
            rates.append(load.rate)
            cpu.append((cpu_seconds(mobot.pid) - before) / load.sent * 1e6)

        async def bare() -> None:
            load = await mail_load.unary(echo, (), MAIL_SESSIONS, in_flight=64, seconds=seconds, consumer=None)
            echoes.append(load.rate)

        for part in random.sample([send, bare], 2):
            await part()
    report.against(
        "unary SendMessage, fsync'd and delivered, 64 in flight, /s",
        rates,
        echoes,
        peer_name="bare grpc.aio echo",
        bound="at least",
        ratio=0.6,
        cpu_us=cpu,
    )


async def _streamed(
    report: Report,
    mobot: Mobot,
    ours: mail_load.Consumer,
    toys: Mapping[str, tuple[str, mail_load.Consumer]],
    *,
    rounds: int,
    seconds: float,
) -> None:
    """Ours always has the transcript; `toys` (name -> target, consumer) are one that has none and one that has."""
    rates: list[float] = []
    cpu: list[float] = []
    toy_rates: dict[str, list[float]] = {name: [] for name in toys}

    async def send() -> None:
        before = cpu_seconds(mobot.pid)
        load = await mail_load.streamed(
            mobot.router, mobot.metadata, MAIL_SESSIONS, frame=32, window=1024, seconds=seconds, consumer=ours
        )
        rates.append(load.rate)
        cpu.append((cpu_seconds(mobot.pid) - before) / load.sent * 1e6)

    async def bare(name: str) -> None:
        target, consumer = toys[name]
        load = await mail_load.streamed(
            target, (), MAIL_SESSIONS, frame=32, window=1024, seconds=seconds, consumer=consumer
        )
        toy_rates[name].append(load.rate)

    for number in range(rounds):
        say(f"streamed sends, round {number + 1} of {rounds}")
        parts: list[Callable[[], Awaitable[None]]] = [send, *(partial(bare, name) for name in toys)]
        for part in random.sample(parts, len(parts)):
            await part()
    for name in toys:
        report.against(
            "batched stream, fsync'd, delivered, completed with transcript, messages/s",
            rates,
            toy_rates[name],
            peer_name=name,
            bound="at least",
            ratio=10_000 / 22_000,
            cpu_us=cpu,
        )


async def _latency(
    report: Report, mobot: Mobot, echo: str, ours: mail_load.Consumer, *, rounds: int, seconds: float
) -> None:
    deliveries, echoes = [], []
    for number in range(rounds):
        say(f"one in flight, round {number + 1} of {rounds}")

        async def send() -> None:
            load = await mail_load.unary(
                mobot.router, mobot.metadata, MAIL_SESSIONS, in_flight=1, seconds=seconds, consumer=ours
            )
            deliveries.append(median(load.delivery_latency_s) * 1e3)

        async def bare() -> None:
            load = await mail_load.unary(echo, (), MAIL_SESSIONS, in_flight=1, seconds=seconds, consumer=None)
            echoes.append(median(load.send_latency_s) * 1e3)

        for part in random.sample([send, bare], 2):
            await part()
    report.against(
        "send to deliver, one in flight, p50 ms",
        deliveries,
        echoes,
        peer_name="bare grpc.aio echo",
        bound="at most",
        ratio=2.0,
    )


async def _chat(report: Report, directory: Path, *, rounds: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        mobot = await stack.enter_async_context(mobot_up(directory / "chat", with_bot=False))
        await demo_bots(mobot)
        await _fill(mobot, STORED_SESSIONS)
        peer_directory = directory / "chat-peer"
        peer_directory.mkdir()
        peer = await stack.enter_async_context(openclaw_up(peer_directory, sessions=STORED_SESSIONS))
        acks, peer_acks, cpu = [], [], []
        for number in range(rounds):
            say(f"chat.send, round {number + 1} of {rounds}")
            before = cpu_seconds(mobot.pid)
            acks.append(await _ack_ms(mobot.url, TOKEN, number))
            cpu.append((cpu_seconds(mobot.pid) - before) / SENDS_PER_ROUND * 1e6)
            peer_acks.append(await _ack_ms(peer.url, PEER_TOKEN, number))
        report.against(
            f"chat.send ack with {STORED_SESSIONS} sessions stored, p50 ms",
            acks,
            peer_acks,
            peer_name="OpenClaw gateway",
            bound="at most",
            ratio=0.1,
            cpu_us=cpu,
        )


async def _fill(mobot: Mobot, count: int) -> None:
    say(f"creating {count} sessions")
    numbers = itertools.count()
    async with grpc.aio.insecure_channel(mobot.session) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)

        async def create() -> None:
            while (number := next(numbers)) < count:
                await stub.CreateSession(
                    session_service_pb2.CreateSessionRequest(parent="bots/main", session_id=f"bench:{number}"),
                    metadata=mobot.metadata,
                    timeout=30,
                )

        async with asyncio.TaskGroup() as creators:
            for _ in range(64):
                creators.create_task(create())


async def _ack_ms(url: str, token: str, number: int) -> float:
    """The p50 of `chat.send` acknowledgements, one in flight; each turn ends before the next send."""
    ended: dict[str, asyncio.Event] = {}

    def on_event(frame: dict[str, object]) -> None:
        payload = frame.get("payload")
        if (
            frame["event"] == "chat"
            and isinstance(payload, dict)
            and payload.get("state") in {"final", "error", "aborted"}
        ):
            ended.setdefault(str(payload["runId"]), asyncio.Event()).set()

    latencies = []
    async with WebClient(url, token, on_event=on_event) as client:
        for turn in range(SENDS_PER_ROUND):
            run = str(uuid.uuid4())
            start = time.perf_counter()
            await client.call(
                "chat.send",
                {
                    "sessionKey": f"agent:main:bench:{(number * SENDS_PER_ROUND + turn) % 50}",
                    "message": "hello",
                    "idempotencyKey": run,
                },
            )
            latencies.append((time.perf_counter() - start) * 1e3)
            await asyncio.wait_for(ended.setdefault(run, asyncio.Event()).wait(), 60)
    return median(latencies)
