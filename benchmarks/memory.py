"""Suite `memory`: adding and searching memories against chromadb, mem0 and LangGraph's stores, with the same vectors.

Everything is called in its own process, without a server between (but for LangGraph's store on PostgreSQL), and without
an embedder: what a model costs is the same for all, and row `embedded` tells it. Ours is hybrid (words and meaning),
theirs dense alone. Our adds are flushed to disk before they return.
Row `quality` is how well is found; `python -m benchmarks.memory_quality` tells it by category, half and mode.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import memory_service.index  # noqa: F401 - sets up NumPy as in the service, before its first import
from benchmarks.memory_material import DIMENSION, Material
from benchmarks.memory_quality import POOLED, read_notes
from benchmarks.memory_recall import report_quality
from benchmarks.memory_under_test import memory_service as service_under_test
from benchmarks.peers.environment import MEMORY, environment
from benchmarks.postgres_server import postgres_server
from benchmarks.processes import launch, say
from benchmarks.report import Report, percentile
from chassis.clock import SystemClock, Uuid7Ids
from chassis.database import Database
from memory_service.domain.embedder import Model
from memory_service.domain.grant import Reach
from memory_service.domain.memory import Content, Dedupe, NewMemory, Provenance
from memory_service.domain.ranking import Mode
from memory_service.domain.search import Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import query_words
from memory_service.store.ledger import Ticket
from memory_service.store.search_store import Probe, SearchStore
from memory_service.store.store import Limits, MemoryStore
from memory_service.store.vector_store import VectorStore

MODEL = Model("bench", DIMENSION, "bench-384", "given")
WHO = "operators/bench"
PEER = Path(__file__).parent / "peers" / "memory_peer.py"
OTHERS = {"chroma": 10_000, "mem0": 1_000, "langgraph-sqlite": 10_000, "langgraph-postgres": 10_000}
"""The peers, each with how many memories it is given in the row that reports them all."""
ROWS = ("add", "embedded", "search-1k", "search-10k", "search-100k", "bots", "process", "quality", "peers")
_MEBIBYTE = 1024 * 1024
_QUERIES = 60
_CALLERS = 64

Queries = Sequence[tuple[str, Any]]
"""Texts with their vectors."""


def _queries(seed: int) -> Queries:
    return Material(seed).queries(_QUERIES)


class Ours:
    def __init__(self, database: Database, *, cache_mb: int = 512) -> None:
        clock = SystemClock()
        limits = Limits(max_memories=10_000_000, retention=timedelta(days=30))
        self.database = database
        self.store = MemoryStore(database, clock=clock, new_id=Uuid7Ids(clock), limits=limits)
        self.vectors = VectorStore(self.store.transactions)
        self.index = SearchStore(self.store.transactions, cache_bytes=cache_mb * _MEBIBYTE, exact_limit=20_000)
        self._material = Material()

    async def add(self, bot: str, count: int, at_once: int) -> list[float]:
        """Seconds of each call; every call is one commit."""
        items = [_draft(text) for text, _ in self._material.items(count)]
        took: list[float] = []
        for start in range(0, count, at_once):
            begun = time.perf_counter()
            if at_once == 1:
                await self.store.put_memory(Reach(bot), items[start], _ticket())
            else:
                await self.store.put_memories(Reach(bot), items[start : start + at_once], _ticket(), atomic=True)
            took.append(time.perf_counter() - begun)
        return took

    async def add_beside(self, bot: str, count: int, callers: int) -> float:
        """Adds per second of callers that each add one after the other."""
        items = iter([_draft(text) for text, _ in self._material.items(count)])

        async def call() -> None:
            for item in items:
                await self.store.put_memory(Reach(bot), item, _ticket())

        begun = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        return count / (time.perf_counter() - begun)

    async def load(self, bot: str, count: int, material: Material) -> None:
        """Memories with their vectors."""
        vectors: dict[str, Any] = {}
        items = list(material.items(count))
        for start in range(0, count, 1_000):
            some = items[start : start + 1_000]
            vectors.update(some)
            await self.store.put_memories(Reach(bot), [_draft(text) for text, _ in some], _ticket(), atomic=True)
        made = await self.vectors.ensure_serving(bot, MODEL)
        assert made is not None
        while waiting := await self.vectors.find_backlog([MODEL.fingerprint], 2_000):
            await self.vectors.save(bot, made, waiting, [vectors[each.text] for each in waiting])

    async def search(self, bot: str, queries: Queries) -> list[float]:
        """Seconds of each hybrid search, everything but the making of the query's vector."""
        made = await self.vectors.ensure_serving(bot, MODEL)
        took: list[float] = []
        scope = Scope(bot, MemoryFilter())
        for text, vector in queries:
            begun = time.perf_counter()
            query = SearchQuery(tuple(query_words(text)), scope.selected, 10, text=text, mode=Mode.HYBRID)
            await self.index.ground([scope], text)
            found = await self.index.search([scope], [Probe(made, vector)], query)
            took.append(time.perf_counter() - begun)
            if len(found.hits) != 10:
                raise RuntimeError(f"10 hits were asked for and {len(found.hits)} found")
        return took


@dataclass(slots=True)
class Peer:
    process: asyncio.subprocess.Process

    async def add(self, count: int, at_once: int) -> list[float]:
        return await self._ask({"do": "add", "count": count, "at_once": at_once})

    async def search(self, seed: int, count: int = _QUERIES) -> list[float]:
        return await self._ask({"do": "search", "seed": seed, "count": count})

    async def _ask(self, command: dict[str, Any]) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the peer has ended; see above")
        answer: list[float] = json.loads(line)
        return answer


async def run(
    *,
    rounds: int,
    seconds: float,  # noqa: ARG001 - the suites' common form
    wanted: frozenset[str],
    locomo: Path | None = None,
) -> Report:
    """Runs the rows that are wanted."""
    report = Report()
    rows: dict[str, Callable[[], Awaitable[None]]] = {
        "add": lambda: _adds(report, rounds),
        "embedded": lambda: _embedded(report, rounds),
        "search-1k": lambda: _searches(report, rounds, 1_000),
        "search-10k": lambda: _searches(report, rounds, 10_000),
        "search-100k": lambda: _searches(report, rounds, 100_000),
        "bots": lambda: _many_bots(report, rounds),
        "process": lambda: _process(report),
        "quality": lambda: report_quality(report, locomo),
        "peers": lambda: _peers(report, rounds),
    }
    for name in ROWS:
        if name in wanted:
            say(f"row {name}")
            await rows[name]()
    report.table()
    return report


async def _adds(report: Report, rounds: int) -> None:
    ours_one, ours_beside, ours_many, theirs = [], [], [], []
    async with _ours() as mine, _peer("mem0") as peer:
        await peer.add(20, 1)
        for _ in range(rounds):
            theirs.append(_rate(await peer.add(200, 1), 200))
            ours_one.append(_rate(await mine.add("one", 400, 1), 400))
            ours_beside.append(await mine.add_beside("beside", 4_000, _CALLERS))
            ours_many.append(_rate(await mine.add("many", 4_000, 1_000), 4_000))
    report.against("add, one a call, one caller, per s", ours_one, theirs, peer_name="mem0", bound="at least", ratio=5)
    name = f"add, one a call, {_CALLERS} callers, per s"
    report.against(name, ours_beside, theirs, peer_name="mem0", bound="at least", ratio=5)
    report.against("add, 1,000 a call, per s", ours_many, theirs, peer_name="mem0", bound="at least", ratio=20)


async def _embedded(report: Report, rounds: int) -> None:
    """Notes put one by one through the service's own calls, until the last has its vector."""
    notes = [note for bot, of_bot in read_notes().memories.items() if bot != POOLED for note in of_bot.values()]
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mobot-bench-") as scratch:
        async with service_under_test(Path(scratch), embedder="minilm") as memory:
            await memory.put("warm", notes[:5])
            await memory.embedded()
            for number in range(rounds):
                begun = time.perf_counter()
                for note in notes:
                    await memory.put(f"b{number}", [note])
                await memory.embedded()
                rates.append(len(notes) / (time.perf_counter() - begun))
    report.reported("add with MiniLM, one a call, until the vector is there, per s", rates)


async def _searches(report: Report, rounds: int, count: int) -> None:
    ours, theirs = [], []
    async with _ours() as mine, _peer("chroma") as peer:
        await peer.add(count, 1_000)
        await mine.load("bench", count, Material())
        await peer.search(99)
        await mine.search("bench", _queries(99))
        for seed in range(rounds):
            theirs.append(1e3 * percentile(await peer.search(seed), 0.5))
            ours.append(1e3 * percentile(await mine.search("bench", _queries(seed)), 0.5))
    name = f"hybrid search of {count:,}, p50 ms"
    if count == 1_000:
        report.absolute(name, ours, bound="at most", limit=3)
    else:
        ratio = 1.5 if count == 10_000 else 10.0
        report.against(name, ours, theirs, peer_name="chroma, dense", bound="at most", ratio=ratio)


async def _peers(report: Report, rounds: int) -> None:
    """Each peer alone: one by one, and searched when it has a thousand and when it has many."""
    for name, most in OTHERS.items():
        async with _peer(name) as peer:
            await peer.add(20, 1)
            rates = [_rate(await peer.add(50, 1), 50) for _ in range(rounds)]
            report.reported("add, one a call, one caller, per s", rates, peer_name=name)
            count = 20 + 50 * rounds
            for of in sorted({1_000, most}):
                await peer.add(max(0, of - count), 500)
                count = max(of, count)
                await peer.search(99, 20)
                took = [1e3 * percentile(await peer.search(seed, 20), 0.5) for seed in range(rounds)]
                report.reported(f"search of {count:,}, p50 ms", took, peer_name=name)


async def _many_bots(report: Report, rounds: int, bots: int = 1_000, memories: int = 1_000) -> None:
    """One bot alone in a file, against twenty of a thousand, of which each is asked thrice; all warmed alike."""
    alone, among = [], []
    async with _ours() as single, _ours(cache_mb=4_096) as many:
        await single.load("b0", memories, Material())
        for number in range(bots):
            await many.load(f"b{number}", memories, Material(number))
        for seed in range(rounds):
            names = [f"b{(seed * 7 + place * 37) % bots}" for place in range(20)]
            # Made before, and once: making them leaves little of an index in the processor's caches.
            warming, asked = _queries(99), _queries(seed)
            await single.search("b0", warming[:20])
            for name in names:
                await many.search(name, warming[:20])
            alone.append(1e3 * percentile(await single.search("b0", asked), 0.5))
            took = [each for name in names for each in await many.search(name, asked[:3])]
            among.append(1e3 * percentile(took, 0.5))
    report.against(f"a search among {bots:,} bots, p50 ms", among, alone, peer_name="one bot", bound="at most", ratio=2)


async def _process(report: Report) -> None:
    """The memory of a service with its embedder loaded and a hundred bots searched, each of 200 memories."""
    script = Path(__file__).with_name("memory_process.py")
    process = await launch(sys.executable, str(script), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1])
    output, _ = await process.communicate()
    measured = json.loads(output)
    say(f"  {measured}")
    report.absolute("process with embedder and 100 warm bots, MB", [measured["rss_mb"]], bound="at most", limit=300)


@contextlib.asynccontextmanager
async def _ours(**options: Any) -> AsyncIterator[Ours]:
    with tempfile.TemporaryDirectory(prefix="mobot-bench-") as scratch:
        url = f"sqlite:///{scratch}/memory.sqlite3"
        database = await Database.open(url, migrations="memory_service.migrations", migrate=True, clock=SystemClock())
        try:
            yield Ours(database, **options)
        finally:
            await database.close()


@contextlib.asynccontextmanager
async def _peer(name: str) -> AsyncIterator[Peer]:
    programs = await asyncio.to_thread(environment, "memory", MEMORY)
    async with contextlib.AsyncExitStack() as opened:
        scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="mobot-bench-", ignore_cleanup_errors=True))
        place = await opened.enter_async_context(postgres_server()) if name.endswith("-postgres") else scratch
        process = await launch(
            str(programs / "python"),
            str(PEER),
            name,
            place,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * _MEBIBYTE,
        )
        try:
            yield Peer(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _rate(took: list[float], count: int) -> float:
    return count / sum(took)


def _draft(text: str) -> NewMemory:
    return NewMemory(Content(text), Provenance(principal=WHO), dedupe=Dedupe.ALLOW)


def _ticket() -> Ticket:
    return Ticket(WHO, "Bench", "", "")
