"""Any history of puts, changes, erasures, re-indexes and restarts leaves what a model says, and nothing stale."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import text as sql

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from chassis.telemetry import Telemetry
from memory_service.domain.errors import MemoryDeleted, MemoryNotDeleted, MemoryNotFound
from memory_service.domain.grant import Reach
from memory_service.domain.memory import Content, NewMemory, Outcome, Provenance
from memory_service.domain.operation import OperationKind, OperationState
from memory_service.domain.search import Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter
from memory_service.operations.erasing import EraseWorker
from memory_service.operations.runner import OperationRunner
from memory_service.recall.recall import Recall
from memory_service.settings import MemorySettings
from memory_service.store.erase_store import EraseStore
from memory_service.store.ledger import Ticket
from memory_service.store.lists import ListQuery
from memory_service.store.memories import MemoryRef
from memory_service.store.operation_store import OperationStore
from memory_service.store.search_store import Probe, SearchStore
from memory_service.store.store import Limits, MemoryStore

pytestmark = pytest.mark.stateful

WORDS = ("tea", "milk", "kettle", "東京")
BOTS = ("ana", "bo")
RETENTION = timedelta(days=30)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
ME = "operators/root"
REACH = Reach(BOTS[0])  # of an owner: which bot is no matter for what is named


@dataclass
class Modelled:
    """A memory as the model knows it. `history` holds its text at each version."""

    bot: str
    history: list[str]
    expire_time: datetime | None = None
    delete_time: datetime | None = None
    uses: int = 0

    @property
    def text(self) -> str:
        return self.history[-1]


class MemoryMachine(RuleBasedStateMachine):
    memories = Bundle("memories")
    template: Path

    @initialize()
    def open_the_store(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mobot-machine-"))
        shutil.copy(self.template, self.directory / "memory.sqlite3")
        self.clock = FakeClock()
        self.runner = asyncio.Runner()
        self.model: dict[str, Modelled] = {}
        self.requests = 0
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.database = await Database.open(
            f"sqlite:///{self.directory / 'memory.sqlite3'}",
            migrations="memory_service.migrations",
            migrate=True,
            clock=self.clock,
        )
        limits = Limits(max_memories=1_000, retention=RETENTION)
        self.store = MemoryStore(self.database, clock=self.clock, new_id=Uuid7Ids(self.clock), limits=limits)
        settings = MemorySettings(embedder="hash")
        self.recall = Recall(settings, self.store.transactions, Telemetry.off())
        await self.recall.vectors.begin()
        self.index = SearchStore(self.store.transactions, cache_bytes=1 << 26, exact_limit=20_000)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.directory)

    @rule(target=memories, bot=st.sampled_from(BOTS), text=TEXTS, ttl=st.sampled_from([None, 1, 100]))
    def put(self, bot: str, text: str, ttl: int | None):
        expire_time = None if ttl is None else self.clock.now() + timedelta(seconds=ttl)
        self.requests += 1
        ticket = Ticket(ME, "PutMemory", str(self.requests), "f")
        draft = NewMemory(Content(text, expire_time=expire_time), Provenance())
        shown = self.runner.run(self.store.put_memory(Reach(bot), draft, ticket))
        assert self.runner.run(self.store.put_memory(Reach(bot), draft, ticket)).memory.name == shown.memory.name
        name = shown.memory.name
        same = [known for known, each in self._living() if (each.bot, each.text) == (bot, text)]
        if same:
            assert (shown.outcome, name in same) == (Outcome.TOUCHED, True)
            touched = self.model[name]
            touched.uses += 1
            if touched.expire_time is not None:
                touched.expire_time = None if expire_time is None else max(touched.expire_time, expire_time)
            return multiple()
        assert shown.outcome is Outcome.CREATED
        assert name not in self.model
        self.model[name] = Modelled(bot, [text], expire_time)
        return name

    @rule(name=memories, text=TEXTS)
    def update(self, name: str, text: str) -> None:
        call = self.store.update_memory(ref(name), "", lambda content: replace(content, text=text), ME, plain(), REACH)
        memory = self._present(name)
        if memory is None:
            self._fails(call, MemoryNotFound)
        elif memory.delete_time is not None:
            self._fails(call, MemoryDeleted)
        else:
            self.runner.run(call)
            if text != memory.text:
                memory.history.append(text)

    @rule(name=memories)
    def delete(self, name: str) -> None:
        call = self.store.delete_memory(ref(name), "", ME, plain(), REACH, purge=False)
        memory = self._present(name)
        if memory is None:
            self._fails(call, MemoryNotFound)
            return
        self.runner.run(call)
        if memory.delete_time is None:
            memory.delete_time = self.clock.now()
            memory.history.append(memory.text)

    @rule(name=memories)
    def undelete(self, name: str) -> None:
        call = self.store.undelete_memory(ref(name), ME, plain())
        memory = self._present(name)
        if memory is None:
            self._fails(call, MemoryNotFound)
        elif memory.delete_time is None:
            self._fails(call, MemoryNotDeleted)
        else:
            self.runner.run(call)
            memory.delete_time = None
            memory.history.append(memory.text)

    @rule(name=memories, choice=st.randoms(use_true_random=False))
    def restore(self, name: str, choice) -> None:
        memory = self._present(name)
        if memory is None or memory.expire_time is not None:
            return  # expiries of earlier versions are the unit tests' matter
        version = choice.randrange(len(memory.history)) + 1
        if version == len(memory.history) and memory.delete_time is None:
            return
        self.runner.run(self.store.restore_version(ref(name), version, "", ME, plain()))
        memory.history.append(memory.history[version - 1])
        memory.delete_time = None
        shown = self.runner.run(self.store.get_memory(ref(name)))
        memory.expire_time = shown.content.expire_time

    @rule(bot=st.sampled_from(BOTS), pieces=st.integers(0, 12))
    def erase(self, bot: str, pieces: int) -> None:
        """With a restart after so many pieces of the work; until its end nothing of the bot is there."""
        start = EraseStore(self.store.transactions, undo=self._undo()).start
        operation = self.runner.run(start(bot, ME, plain(), keep_blocks=False, keep_accesses=False))
        for _ in range(pieces):
            self.runner.run(self._work().run_pieces())
        self.restart()
        while self.runner.run(self._work().run_pieces()):
            pass
        ended = self.runner.run(self._operations().get(bot, operation.id))
        assert (ended.state, ended.result["left_count"]) == (OperationState.SUCCEEDED, 0)
        self.model = {name: each for name, each in self.model.items() if each.bot != bot}

    @rule(bot=st.sampled_from(BOTS), pieces=st.integers(0, 4))
    def reindex(self, bot: str, pieces: int) -> None:
        """Words and vectors made anew, with a restart in between."""
        arguments = {"embedder": "hash", "text": True}
        self.runner.run(self.recall.reindexes.start(bot, ME, plain(), arguments))
        for _ in range(pieces):
            self.runner.run(self._work().run_pieces())
        self.restart()
        while self.runner.run(self._work().run_pieces()):
            pass

    def _undo(self):
        erasing = EraseWorker(self.store.transactions)
        return {OperationKind.ERASE: erasing.undo, OperationKind.REINDEX: self.recall.reindexing.undo}

    def _operations(self) -> OperationStore:
        return OperationStore(self.store.transactions, undo=self._undo())

    def _work(self) -> OperationRunner:
        workers = {
            OperationKind.ERASE: EraseWorker(self.store.transactions),
            OperationKind.REINDEX: self.recall.reindexing,
        }
        return OperationRunner(self._operations(), workers, owner="p", clock=self.clock)

    @rule(name=consumes(memories))
    def purge(self, name: str) -> None:
        call = self.store.delete_memory(ref(name), "", ME, plain(), REACH, purge=True)
        if self._present(name) is None:
            self._fails(call, MemoryNotFound)
        else:
            self.runner.run(call)
            del self.model[name]

    @rule(seconds=st.sampled_from([1, 50, 200, int(RETENTION.total_seconds()) + 1]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.store.sweep())
        for name, memory in list(self.model.items()):
            overdue = memory.delete_time is not None and memory.delete_time + RETENTION <= self.clock.now()
            if overdue or self._expired(memory):
                del self.model[name]

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self._open())

    @invariant()
    def what_lives_is_found_by_each_of_its_words_and_by_no_other(self) -> None:
        if not hasattr(self, "store"):
            return
        for bot in BOTS:
            for word in WORDS:
                query = SearchQuery((word,), MemoryFilter(), 1_000)
                hits = self.runner.run(self.index.search([Scope(bot, MemoryFilter())], [Probe()], query)).hits
                expected = {name for name, each in self._living() if each.bot == bot and word in each.text.split()}
                assert {hit.memory.name for hit in hits} == expected

    @invariant()
    def lists_and_histories_are_those_of_the_model(self) -> None:
        if not hasattr(self, "store"):
            return
        for bot in BOTS:
            query = ListQuery(MemoryFilter(), "name", descending=False, size=1_000, show_deleted=True)
            listed = self.runner.run(self.store.list_memories(bot, query)).items
            expected = {n: m for n, m in self.model.items() if m.bot == bot and not self._expired(m)}
            assert {memory.name for memory in listed} == set(expected)
            for memory in listed:
                mine = expected[memory.name]
                assert (memory.content.text, memory.is_deleted) == (mine.text, mine.delete_time is not None)
                assert (memory.version, memory.use_count) == (len(mine.history), mine.uses)

    @invariant()
    def every_posting_has_its_source(self) -> None:
        if hasattr(self, "store"):
            check = sql("INSERT INTO memory_fts(memory_fts, rank) VALUES ('integrity-check', 1)")
            self.runner.run(self.database.writer.run(lambda conn: conn.execute(check)))

    def _fails(self, call, error: type[Exception]) -> None:
        with pytest.raises(error):
            self.runner.run(call)

    def _expired(self, memory: Modelled) -> bool:
        return memory.expire_time is not None and memory.expire_time <= self.clock.now()

    def _present(self, name: str) -> Modelled | None:
        memory = self.model.get(name)
        return None if memory is None or self._expired(memory) else memory

    def _living(self) -> list[tuple[str, Modelled]]:
        return [(n, m) for n, m in self.model.items() if m.delete_time is None and not self._expired(m)]


def ref(name: str) -> MemoryRef:
    _, bot, _, memory_id = name.split("/")
    return MemoryRef(bot, memory_id)


def plain() -> Ticket:
    return Ticket(ME, "Test", "", "")


def test_any_history_leaves_what_the_model_says(tmp_path: Path):
    async def make() -> None:
        url = f"sqlite:///{tmp_path / 'memory.sqlite3'}"
        database = await Database.open(url, migrations="memory_service.migrations", migrate=True, clock=FakeClock())
        await database.close()

    asyncio.run(make())

    class Machine(MemoryMachine):
        template = tmp_path / "memory.sqlite3"

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
