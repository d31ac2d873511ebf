"""Where a SQLite store commits: on the loop while the disk is quick, else in a thread. Callers see no difference."""

import asyncio
import sqlite3
import threading
import time

import pytest
from sqlalchemy.exc import IntegrityError

from chassis import direct_sql
from chassis.errors import NotFound
from chassis.group_writer import GroupWriter
from chassis.handover import Handover
from chassis.sqlite_store import writer_engine
from chassis.writer_lanes import ThreadLane

ALWAYS_QUICK, NEVER_QUICK = 1e9, -1.0


class Ledger:
    """A table of numbers below 100, each once. `committed_in` are the threads that committed."""

    def __init__(self, path, quick_s: float) -> None:
        self.path = path
        self.committed_in: list[threading.Thread] = []
        engine = writer_engine(path)
        with engine.connect() as conn:
            conn.exec_driver_sql("CREATE TABLE parent(n INTEGER PRIMARY KEY)")
            conn.exec_driver_sql(
                "CREATE TABLE number(n INTEGER PRIMARY KEY, "
                "parent INTEGER REFERENCES parent(n) DEFERRABLE INITIALLY DEFERRED)"
            )
            conn.commit()
        self.handover = Handover(asyncio.get_running_loop())
        self.writer = GroupWriter(ThreadLane(engine, self.handover, quick_s=quick_s))
        self.writer.start()
        self.kind = self.writer.kind("number", self._write, after_commit=self._after, brief=True)
        self.seen: list[int] = []
        self.flush_s = 0.0

    def _write(self, conn, items):
        direct_sql.fetch(conn, "SELECT 1")
        driver = conn.connection.driver_connection
        driver.set_trace_callback(self._trace)
        results = []
        for n in items:
            if n < 0:
                results.append(NotFound(f"{n} is not a number"))
                continue
            # An orphan is refused only by the commit.
            direct_sql.run(conn, "INSERT INTO number VALUES (?, ?)", (n, 1 if n == 13 else None))
            results.append(n)
        return results

    def _trace(self, statement: str) -> None:
        if statement == "COMMIT":
            self.committed_in.append(threading.current_thread())
            time.sleep(self.flush_s)  # what a flush of that length does to the thread that waits for it

    def _after(self, results) -> None:
        self.seen.extend(results)

    def stored(self) -> list[int]:
        """What another connection sees."""
        with sqlite3.connect(self.path) as conn:
            return [n for (n,) in conn.execute("SELECT n FROM number ORDER BY n")]

    async def close(self) -> None:
        await self.writer.close()
        self.handover.close()


@pytest.fixture
async def open_ledger(tmp_path):
    opened: list[Ledger] = []

    def make(quick_s: float) -> Ledger:
        opened.append(Ledger(tmp_path / "ledger.sqlite3", quick_s))
        return opened[-1]

    yield make
    for ledger in opened:
        await ledger.close()


@pytest.fixture(params=[ALWAYS_QUICK, NEVER_QUICK], ids=["quick", "slow"])
async def ledger(request, open_ledger) -> Ledger:
    return open_ledger(request.param)


async def test_what_is_answered_is_stored_and_was_announced(ledger):
    for n in range(20, 30):
        assert await ledger.writer.submit(ledger.kind, n) == n
        assert n in ledger.stored()
        assert ledger.seen[-1] == n


async def test_a_refused_item_does_not_hinder_its_neighbours(ledger):
    results = await ledger.writer.submit_many(ledger.kind, [1, -2, 3])
    assert results[::2] == [1, 3]
    assert isinstance(results[1], NotFound)
    assert ledger.stored() == [1, 3]


async def test_a_commit_that_is_refused_fails_the_guilty_alone(ledger):
    await ledger.writer.submit(ledger.kind, 1)
    results = await asyncio.gather(
        *(ledger.writer.submit(ledger.kind, n) for n in (12, 13, 14)), return_exceptions=True
    )
    assert results[::2] == [12, 14]
    assert isinstance(results[1], (IntegrityError, sqlite3.IntegrityError))
    assert ledger.stored() == [1, 12, 14]
    await ledger.writer.submit(ledger.kind, 15)
    assert ledger.stored() == [1, 12, 14, 15]


async def test_everything_queued_is_written_before_it_closes(ledger):
    waiting = [asyncio.ensure_future(ledger.writer.submit(ledger.kind, n)) for n in range(20, 90)]
    await asyncio.sleep(0)
    await ledger.close()
    assert await asyncio.gather(*waiting) == list(range(20, 90))
    assert ledger.stored() == list(range(20, 90))


async def test_the_loop_commits_while_the_disk_is_quick(open_ledger):
    ledger = open_ledger(ALWAYS_QUICK)
    await ledger.writer.run(lambda conn: None)  # the thread has its connection
    ledger.committed_in.clear()
    for n in range(5):
        await ledger.writer.submit(ledger.kind, n)
    assert set(ledger.committed_in) == {threading.current_thread()}


async def test_a_disk_that_is_slow_is_written_by_the_thread(open_ledger):
    ledger = open_ledger(0.002)
    await ledger.writer.run(lambda conn: None)
    ledger.committed_in.clear()
    ledger.flush_s = 0.01
    for n in range(20, 40):
        await ledger.writer.submit(ledger.kind, n)
    on_loop = [thread is threading.current_thread() for thread in ledger.committed_in]
    assert on_loop[0]
    assert sum(on_loop) <= 6  # what it had saved up, and now and then another try


async def test_one_slow_flush_among_quick_ones_changes_nothing(open_ledger):
    ledger = open_ledger(0.005)
    await ledger.writer.run(lambda conn: None)
    ledger.committed_in.clear()
    ledger.flush_s = 0.006
    await ledger.writer.submit(ledger.kind, 20)
    ledger.flush_s = 0.0
    for n in range(21, 25):
        await ledger.writer.submit(ledger.kind, n)
    assert set(ledger.committed_in) == {threading.current_thread()}


async def test_the_log_is_folded_into_the_file_without_a_commit_that_does_it(open_ledger, tmp_path):
    ledger = open_ledger(ALWAYS_QUICK)
    for n in range(1_000, 1_850):
        await ledger.writer.submit(ledger.kind, n)
    copy = tmp_path / "file-without-its-log.sqlite3"
    copy.write_bytes(ledger.path.read_bytes())
    with sqlite3.connect(copy) as conn:
        assert conn.execute("SELECT count(*) FROM number").fetchone()[0] >= 400


async def test_what_is_too_heavy_for_the_loop_is_written_by_the_thread(open_ledger):
    ledger = open_ledger(quick_s=60.0)
    heavy = ledger.writer.kind("heavy", ledger._write, brief=True, weigh=lambda n: 100 * n)
    assert await ledger.writer.submit(heavy, 5) == 5
    assert await ledger.writer.submit(heavy, 6) == 6
    assert await ledger.writer.submit_many(heavy, [1, 2, 3]) == [1, 2, 3]
    loop = threading.current_thread()
    assert [thread is loop for thread in ledger.committed_in] == [True, False, False]
