"""Suite `sessions`: few and many sessions side by side, against the real OpenClaw gateway, and watching."""

import asyncio
import contextlib
import random
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from benchmarks.mobot_under_test import TOKEN, Mobot, demo_bots, mobot_up
from benchmarks.openclaw_peer import TOKEN as PEER_TOKEN
from benchmarks.openclaw_peer import openclaw_up
from benchmarks.processes import at_rest, cpu_seconds, rss_mb, say
from benchmarks.report import Report, median, percentile
from benchmarks.session_load import SessionCalls, many_watches, name_of, session_stub
from benchmarks.web_client import WebClient
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2

FEW = 10
SIZES = (1_000, 10_000, 100_000)
STORED_SESSIONS = 10_000
WATCHES = 10_000
CALLS_PER_ROUND = 40
PEER_CALLS_PER_ROUND = 10

ROWS = ("scale", "peer", "gateway_watch", "watches", "append", "lag")


async def run(*, rounds: int, seconds: float, wanted: frozenset[str]) -> Report:
    """Runs the rows that are wanted."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="mobot-bench-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        if "scale" in wanted:
            await _scale(report, directory, rounds=rounds)
        if "peer" in wanted:
            await _peer(report, directory, rounds=rounds)
        if wanted & {"gateway_watch", "watches", "append", "lag"}:
            await _watching(report, directory, wanted, rounds=rounds, seconds=seconds)
    report.table()
    return report


async def _scale(report: Report, directory: Path, *, rounds: int) -> None:
    """Few and many sessions side by side, so that both meet the same machine. Lists show ten sessions in both."""
    async with contextlib.AsyncExitStack() as stack:
        few = await _calls(stack, directory / "few")
        many = await _calls(stack, directory / "many")
        await few.fill(FEW)
        for size in SIZES:
            say(f"filling up to {size} sessions")
            await many.fill(size)
            for operation in ("create", "list_ten", "list_ui_ten", "get", "update", "reset", "history", "search"):
                costs: tuple[list[float], list[float]] = ([], [])
                for _ in range(rounds):
                    for calls, into in random.sample([(few, costs[0]), (many, costs[1])], 2):
                        into.append(await calls.p50_ms(getattr(calls, operation), CALLS_PER_ROUND))
                    if operation == "create":
                        await few.remove_made()
                        await many.remove_made()
                report.against(
                    f"{operation} with {size} sessions, p50 ms",
                    costs[1],
                    costs[0],
                    peer_name=f"with {FEW}",
                    bound="at most",
                    ratio=1.5,
                )
        for operation, what in (("list_default", "default list"), ("list_ui_fifty", "list of 50 as clients ask")):
            costs_many = [await many.p50_ms(getattr(many, operation), CALLS_PER_ROUND) for _ in range(rounds)]
            report.absolute(f"{what} with {SIZES[-1]} sessions, p50 ms", costs_many, bound="at most", limit=17 / 5)


async def _calls(stack: contextlib.AsyncExitStack, directory: Path) -> SessionCalls:
    mobot = await stack.enter_async_context(mobot_up(directory))
    return await stack.enter_async_context(session_stub(mobot))


async def _peer(report: Report, directory: Path, *, rounds: int) -> None:
    """The same requests through the WebSocket, with as many sessions stored on both sides.

    Each round waits until the other side has finished what it does after its answers.
    """
    async with contextlib.AsyncExitStack() as stack:
        mobot = await stack.enter_async_context(mobot_up(directory / "web", with_bot=False))
        await demo_bots(mobot)
        ours = await stack.enter_async_context(WebClient(mobot.url, TOKEN))
        say(f"creating {STORED_SESSIONS} sessions")
        await _create_through(ours, STORED_SESSIONS)
        peer_directory = directory / "web-peer"
        peer_directory.mkdir()
        peer = await stack.enter_async_context(openclaw_up(peer_directory, sessions=STORED_SESSIONS))
        theirs = await stack.enter_async_context(WebClient(peer.url, PEER_TOKEN))
        for title, request, bound in _REQUESTS:
            for client in (ours, theirs):
                await _web_p50_ms(client, request, PEER_CALLS_PER_ROUND)  # neither side meets a kind of call cold
            both: tuple[list[float], list[float]] = ([], [])
            for number in range(rounds):
                say(f"{title}, round {number + 1} of {rounds}")
                for client, other_pid, into, times in random.sample(
                    [
                        (ours, peer.pid, both[0], CALLS_PER_ROUND),
                        (theirs, mobot.pid, both[1], PEER_CALLS_PER_ROUND),
                    ],
                    2,
                ):
                    await at_rest(other_pid)
                    into.append(await _web_p50_ms(client, request, times))
            if bound == "rate":
                report.against(
                    f"{title} with {STORED_SESSIONS} sessions, /s",
                    [1e3 / ms for ms in both[0]],
                    [1e3 / ms for ms in both[1]],
                    peer_name="OpenClaw gateway",
                    bound="at least",
                    ratio=20,
                )
            else:
                report.against(
                    f"{title} with {STORED_SESSIONS} sessions, p50 ms",
                    both[0],
                    both[1],
                    peer_name="OpenClaw gateway",
                    bound="at most",
                    ratio=0.2,
                )


async def _create_through(client: WebClient, count: int) -> None:
    numbers = iter(range(count))

    async def create() -> None:
        for number in numbers:
            await client.call("sessions.create", {"key": f"agent:main:bench:{number}"})

    await asyncio.gather(*(create() for _ in range(64)))


async def _web_p50_ms(client: WebClient, request: Callable[[int], tuple[str, dict[str, object]]], times: int) -> float:
    latencies = []
    for _ in range(times):
        method, params = request(random.randrange(STORED_SESSIONS))
        start = time.perf_counter()
        await client.call(method, params)
        latencies.append((time.perf_counter() - start) * 1e3)
    return median(latencies)


def _key(number: int) -> str:
    return f"agent:main:bench:{number}"


def _patched(number: int) -> tuple[str, dict[str, object]]:
    # Seldom what it is already: a change, not the answer that there is none.
    return "sessions.patch", {"key": _key(number), "category": f"group {random.randrange(30)}"}


_REQUESTS: tuple[tuple[str, Callable[[int], tuple[str, dict[str, object]]], str], ...] = (
    ("create", lambda _: ("sessions.create", {"key": f"agent:main:made:{uuid.uuid4()}"}), "rate"),
    ("default list", lambda _: ("sessions.list", {}), "time"),
    ("list of 50", lambda _: ("sessions.list", {"limit": 50}), "time"),
    (
        "list of 50 with titles and last messages",
        lambda _: ("sessions.list", {"limit": 50, "includeDerivedTitles": True, "includeLastMessage": True}),
        "time",
    ),
    ("patch", _patched, "time"),
    ("reset", lambda number: ("sessions.reset", {"key": _key(number)}), "time"),
    ("history", lambda number: ("chat.history", {"sessionKey": _key(number)}), "time"),
    ("search", lambda number: ("sessions.search", {"query": f"needle{number}"}), "time"),
)


async def _watching(report: Report, directory: Path, wanted: frozenset[str], *, rounds: int, seconds: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        mobot = await stack.enter_async_context(mobot_up(directory / "watch"))
        calls = await stack.enter_async_context(session_stub(mobot))
        await calls.fill(WATCHES)
        if "gateway_watch" in wanted:
            await _gateway_watch(report, mobot, calls)
        if "watches" in wanted:
            before = rss_mb(mobot.pid)
            say(f"opening {WATCHES} watches")
            async with many_watches(mobot, WATCHES):
                grown = rss_mb(mobot.pid) - before
            report.absolute(f"memory of {WATCHES} watch streams, MB", [grown], bound="at most", limit=300)
        if wanted & {"append", "lag"}:
            rates, cpu, p50s, p99s = [], [], [], []
            for number in range(rounds):
                say(f"appends in batches, round {number + 1} of {rounds}")
                spent = cpu_seconds(mobot.pid)
                rate = await calls.append_load(seconds)
                rates.append(rate)
                cpu.append((cpu_seconds(mobot.pid) - spent) / (rate * seconds) * 1e6)
                _, lags = await calls.lags_ms(calls.append_load(seconds))
                p50s.append(median(lags))
                p99s.append(percentile(lags, 0.99))
            report.absolute(
                "events appended in batches, fsync'd, /s", rates, bound="at least", limit=20_000, cpu_us=cpu
            )
            report.absolute("a watcher's lag under that load, p50 ms", p50s, bound="at most", limit=1_000)
            report.absolute("a watcher's lag under that load, p99 ms", p99s, bound="at most", limit=5_000)


async def _gateway_watch(report: Report, mobot: Mobot, calls: SessionCalls) -> None:
    """One socket follows every session; they are idle, and then one of them says something."""
    heard: dict[str, asyncio.Event] = {}

    def on_event(frame: dict[str, object]) -> None:
        payload = frame.get("payload")
        if isinstance(payload, dict) and frame["event"] in {"session.message", "chat", "sessions.changed"}:
            heard.setdefault(str(payload.get("sessionKey") or payload.get("key")), asyncio.Event()).set()

    before = rss_mb(mobot.pid)
    async with WebClient(mobot.url, TOKEN, on_event=on_event) as client:
        await client.call("sessions.subscribe", {})
        say(f"following {WATCHES} sessions over one socket")
        numbers = iter(range(WATCHES))

        async def follow() -> None:
            for number in numbers:
                await client.call("sessions.messages.subscribe", {"key": f"agent:bench:bench:{number}"})

        start = time.perf_counter()
        await asyncio.gather(*(follow() for _ in range(32)))
        attached = time.perf_counter() - start
        grown = rss_mb(mobot.pid) - before
        spent, idle = cpu_seconds(mobot.pid), time.perf_counter()
        await asyncio.sleep(5)  # idle is a state of time
        busy = (cpu_seconds(mobot.pid) - spent) / (time.perf_counter() - idle) * 100
        lags = []
        for _ in range(CALLS_PER_ROUND):
            number = random.randrange(WATCHES)
            key = f"agent:bench:bench:{number}"
            heard.pop(key, None)
            start = time.perf_counter()
            await _say(calls, number)
            await asyncio.wait_for(heard.setdefault(key, asyncio.Event()).wait(), 30)
            lags.append((time.perf_counter() - start) * 1e3)
    report.absolute(f"following {WATCHES} sessions over one socket, s", [attached], bound="at most", limit=60)
    report.absolute(f"memory of {WATCHES} sessions followed over one socket, MB", [grown], bound="at most", limit=300)
    report.absolute("processor while they are idle, % of one core", [busy], bound="at most", limit=5)
    report.absolute("from an append to the socket's event, p50 ms", lags, bound="at most", limit=50)


async def _say(calls: SessionCalls, number: int) -> None:
    said = event_pb2.MessageAppended(role=event_pb2.ROLE_USER, parts=[part_pb2.Part(text="hello")])
    event = event_pb2.Event(id=str(uuid.uuid4()), message=said)
    append = session_service_pb2.SessionAppend(session=name_of(number), events=[event])
    await calls.stub.AppendEvents(session_service_pb2.AppendEventsRequest(append=append), metadata=calls.metadata)
