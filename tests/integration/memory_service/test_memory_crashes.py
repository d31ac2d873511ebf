"""Killed at every commit of batch puts, a re-index and an erasure: nothing is lost, every index converges."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from engines import EmbeddedPostgres, SqliteTemplates
from memory_store import ME, found, listed, new, ticket
from sqlalchemy import Connection, text

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from chassis.telemetry import Telemetry
from memory_service.domain.grant import Reach
from memory_service.domain.operation import Operation, OperationKind, OperationState
from memory_service.operations.erasing import EraseWorker
from memory_service.operations.runner import OperationRunner
from memory_service.recall.recall import Recall
from memory_service.settings import MemorySettings
from memory_service.store.erase_store import EraseStore
from memory_service.store.fulltext import post_due
from memory_service.store.operation_store import OperationStore
from memory_service.store.store import Limits, MemoryStore

# The writer's thread is what dies.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

T = TypeVar("T")

BATCHES = [[f"tea number {batch * 10 + number} of many" for number in range(8)] for batch in range(2)]
# How many memories an engine's index of words has for a word.
POSTED = {
    "sqlite": "SELECT count(*) FROM memory_fts WHERE memory_fts MATCH '{}'",
    "postgresql": "SELECT count(*) FROM memory_fts WHERE words @@ CAST('{}' AS TSQUERY)",
}
DOOMED = [f"secret number {number}" for number in range(4)]


class KillAt:
    """Ends the writer at one of its commits: right before it, or right after. Counts them all.

    On SQLite its thread ends. On PostgreSQL it loses its connection, there and whenever the same life tries again.
    """

    def __init__(self, commit: int, stage: str, *, thread: bool) -> None:
        self.commits = 0
        self.killed = asyncio.Event()
        self.dead = False
        self._loop = asyncio.get_running_loop()
        self._commit, self._stage, self._thread = commit, stage, thread

    def __call__(self, stage: str) -> None:
        if self.dead:
            raise ConnectionResetError
        self.commits += stage == "before"
        if self.commits == self._commit and stage == self._stage:
            self._commit = -1
            self.dead = True
            self._loop.call_soon_threadsafe(self.killed.set)
            raise SystemExit if self._thread else ConnectionResetError  # a thread ends with the first without a word


class Life:
    """The memory between two deaths, with everything that works on it, step by step."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.database = database
        limits = Limits(max_memories=1_000, retention=timedelta(days=30))
        self.store = MemoryStore(database, clock=clock, new_id=Uuid7Ids(clock), limits=limits)
        transactions = self.store.transactions
        settings = MemorySettings(embedder="hash", vector_batch=8)
        self.recall = Recall(settings, transactions, Telemetry.off())
        erasing = EraseWorker(transactions)
        undo = {OperationKind.ERASE: erasing.undo, OperationKind.REINDEX: self.recall.reindexing.undo}
        workers = {OperationKind.ERASE: erasing, OperationKind.REINDEX: self.recall.reindexing}
        self.erasures = EraseStore(transactions, undo=undo)
        self.operations = OperationStore(transactions, undo=undo)
        self.runner = OperationRunner(self.operations, workers, owner="p", clock=clock)

    async def close(self) -> None:
        await self.recall.close()
        await self.database.close()


class Lives:
    """One memory, opened again after each death."""

    def __init__(self, url: str, clock: FakeClock, kill: KillAt) -> None:
        self._url, self._clock, self._kill = url, clock, kill
        self.life: Life | None = None
        self.deaths = 0

    async def born(self) -> Life:
        if self.life is None:
            self._kill.dead = False
            database = await Database.open(
                self._url,
                migrations="memory_service.migrations",
                migrate=True,
                clock=self._clock,
                commit_hook=self._kill,
            )
            self.life = Life(database, self._clock)
        return self.life

    async def close(self) -> None:
        if self.life is not None:
            await self.life.close()
            self.life = None

    async def insist(self, step: Callable[[Life], Coroutine[Any, Any, T]]) -> T:
        """Does the step, again after a death in the midst of it, as a client does that hears nothing."""
        while True:
            doing = asyncio.create_task(step(await self.born()))
            dying = asyncio.create_task(self._kill.killed.wait())
            await asyncio.wait((doing, dying) if not self.deaths else (doing,), return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if self.deaths or not self._kill.killed.is_set():
                return await doing
            self.deaths += 1
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
            await self.close()


async def put_batch(life: Life, batch: int) -> list[str]:
    drafts = [new(each, id=f"b{batch}n{number}") for number, each in enumerate(BATCHES[batch])]
    answers = await life.store.put_memories(Reach("main"), drafts, ticket("Batch", f"r{batch}"), atomic=False)
    return [answer.memory.name for answer in answers]  # type: ignore[union-attr]


async def make_vectors(life: Life) -> None:
    await life.recall.vectors.begin()
    vectorizer = life.recall._vectorizer
    while await vectorizer.run_batch():
        pass


async def run_out(life: Life, operation: Operation) -> Operation:
    while await life.runner.run_pieces():
        pass
    return await life.operations.get(operation.bot, operation.id)


async def start_erasing(life: Life) -> Operation:
    return await life.erasures.start(
        "doomed", ME, ticket("EraseNamespace", "e"), keep_blocks=False, keep_accesses=False
    )


async def start_reindex(life: Life) -> Operation:
    arguments = {"embedder": "hash", "include_text": True}
    return await life.recall.reindexes.start("main", ME, ticket("ReindexNamespace", "x"), arguments)


async def live_through(lives: Lives) -> None:
    """Everything once, whatever dies; what was acknowledged is checked at once."""
    doomed = [new(each, id=f"d{number}") for number, each in enumerate(DOOMED)]
    await lives.insist(lambda life: life.store.put_memories(Reach("doomed"), doomed, ticket("Batch", "d"), atomic=True))
    for batch in range(len(BATCHES)):
        names = await lives.insist(lambda life, batch=batch: put_batch(life, batch))
        assert names == [f"bots/main/memories/b{batch}n{number}" for number in range(len(BATCHES[batch]))]
        assert len(await listed((await lives.born()).store)) == sum(len(each) for each in BATCHES[: batch + 1])
    await lives.insist(make_vectors)
    reindex = await lives.insist(start_reindex)
    ended = await lives.insist(lambda life: run_out(life, reindex))
    assert (ended.state, ended.error) == (OperationState.SUCCEEDED, None)
    erasure = await lives.insist(start_erasing)
    ended = await lives.insist(lambda life: run_out(life, erasure))
    assert (ended.state, ended.result["memory_count"]) == (OperationState.SUCCEEDED, len(DOOMED))


async def check(lives: Lives) -> None:
    life = await lives.born()
    await make_vectors(life)
    assert {memory.content.text for memory in await listed(life.store)} == {each for some in BATCHES for each in some}
    assert len(await found(life.store, "tea", size=100)) == 16
    assert await found(life.store, "secret", bot="doomed") == []
    assert await listed(life.store, bot="doomed") == []

    def look(conn: Connection) -> dict[str, int]:
        if life.database.engine_name == "sqlite":
            post_due(conn)
            conn.execute(text("INSERT INTO memory_fts(memory_fts, rank) VALUES ('integrity-check', 1)"))
        posted = POSTED[life.database.engine_name]
        counts = {
            "memories": "SELECT count(*) FROM memory",
            "postings": posted.format("tea"),
            "secrets": posted.format("secret"),
            "vectors": "SELECT count(*) FROM memory_vector",
            "sets": "SELECT count(*) FROM vector_set",
            "lost": "SELECT count(*) FROM memory_vector WHERE memory NOT IN (SELECT pk FROM memory)",
            "waiting": "SELECT count(*) FROM memory WHERE vector_state <> 2",
            "counted": "SELECT sum(live_count) FROM namespace",
        }
        return {name: conn.execute(text(query)).scalar_one() for name, query in counts.items()}

    assert await life.database.writer.run(look) == {
        "memories": 16,
        "postings": 16,
        "secrets": 0,
        "vectors": 16,
        "sets": 1,
        "lost": 0,
        "waiting": 0,
        "counted": 16,
    }


async def one_run(url: str, commit: int, stage: str) -> int:
    """Returns how many commits there were."""
    kill = KillAt(commit, stage, thread=url.startswith("sqlite:"))
    lives = Lives(url, FakeClock(), kill)
    try:
        await live_through(lives)
        commits = kill.commits
        assert kill.killed.is_set() == (commit > 0)
        await check(lives)
    finally:
        await lives.close()
    return commits


@pytest.fixture(params=["sqlite", "postgresql"])
def make_database(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> Iterator[Callable[[], str]]:
    """Makes an empty database of an engine and returns its URL. Not where a loop runs."""
    if request.param == "sqlite":
        templates: SqliteTemplates = request.getfixturevalue("sqlite_templates")
        names = itertools.count()

        def make() -> str:
            path = tmp_path / f"{next(names)}.sqlite3"
            templates.copy_to(path, schema)
            return f"sqlite:///{path}"

        yield make
        return
    server: EmbeddedPostgres = request.getfixturevalue("postgres_server")
    made: list[str] = []

    def make_on_server() -> str:
        if made:
            server.retire_database(made.pop())
        made.append(server.create_database(schema))
        return made[-1]

    yield make_on_server
    for url in made:
        server.retire_database(url)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["before", "after"])
async def test_whatever_commit_it_dies_at_nothing_is_lost(make_database: Callable[[], str], stage: str):
    commits = await one_run(await asyncio.to_thread(make_database), -1, stage)
    assert commits > 15
    for commit in range(1, commits + 1):
        await one_run(await asyncio.to_thread(make_database), commit, stage)
