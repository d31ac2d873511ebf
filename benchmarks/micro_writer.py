"""How much of the disk's speed the group writer keeps, in rows a second and CPU, beside bare sqlite3.

Run it with `python -m benchmarks.micro_writer`. Variants are shuffled within each repetition; a cell is the median.
Ratios within one run can be trusted, absolute rates depend on the machine and its load.
"""

import argparse
import asyncio
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, String, Table, insert

from chassis.group_writer import GroupWriter
from chassis.handover import Handover
from chassis.sqlite_store import writer_engine
from chassis.writer_lanes import ThreadLane

METADATA = MetaData()
EVENTS = Table(
    "event",
    METADATA,
    Column("session", String, primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
BODY = os.urandom(200)
Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """One variant's measurement."""

    rows: int
    wall_s: float
    cpu_s: float
    latencies_s: Sequence[float]


def raw(path: Path, rows_per_commit: int, duration_s: float) -> Run:
    """Bare sqlite3: executemany of a batch, commit, again."""
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000"):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute(
        "CREATE TABLE event (session TEXT, sequence INTEGER, body BLOB NOT NULL, PRIMARY KEY (session, sequence))"
    )
    latencies, rows = [], 0
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    while (began_s := time.perf_counter()) < start_s + duration_s:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(
            "INSERT INTO event VALUES (?, ?, ?)",
            [(f"s{n % 64}", rows + n, BODY) for n in range(rows_per_commit)],
        )
        conn.execute("COMMIT")
        rows += rows_per_commit
        latencies.append(time.perf_counter() - began_s)
    run = Run(rows, time.perf_counter() - start_s, time.process_time() - start_cpu_s, latencies)
    conn.close()
    return run


async def _grouped(path: Path, callers: int, duration_s: float, saturate: bool) -> Run:
    engine = writer_engine(path)
    with engine.connect() as conn:
        METADATA.create_all(conn)
        conn.commit()
    loop = asyncio.get_running_loop()
    handover = Handover(loop)
    writer = GroupWriter(ThreadLane(engine, handover))
    writer.start()

    statement = insert(EVENTS)

    def append(conn: Connection, rows: Sequence[Row]) -> Sequence[int]:
        conn.execute(statement, [{"session": session, "sequence": n, "body": BODY} for session, n in rows])
        return [n for _, n in rows]

    kind = writer.kind("append", append)
    latencies: list[float] = []
    start_s, start_cpu_s = time.perf_counter(), time.process_time()

    async def call(session: str) -> None:
        n = 0
        while (began_s := time.perf_counter()) < start_s + duration_s:
            n = await writer.submit(kind, (session, n)) + 1
            latencies.append(time.perf_counter() - began_s)

    async def burn() -> None:
        while time.perf_counter() < start_s + duration_s:
            until_s = time.perf_counter() + 0.0001
            while time.perf_counter() < until_s:
                pass
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        if saturate:
            tasks.create_task(burn())
        for n in range(callers):
            tasks.create_task(call(f"s{n}"))
    run = Run(len(latencies), time.perf_counter() - start_s, time.process_time() - start_cpu_s, latencies)
    await writer.close()
    handover.close()
    return run


def grouped(path: Path, callers: int, duration_s: float, *, saturate: bool = False) -> Run:
    """The group writer with `callers` asyncio tasks that each wait for one row before they write the next."""
    return asyncio.run(_grouped(path, callers, duration_s, saturate))


VARIANTS: dict[str, Callable[[Path, float], Run]] = {
    "raw sqlite3, 1 row a commit": lambda path, s: raw(path, 1, s),
    "raw sqlite3, 100 rows a commit": lambda path, s: raw(path, 100, s),
    "group writer, 1 caller": lambda path, s: grouped(path, 1, s),
    "group writer, 16 callers": lambda path, s: grouped(path, 16, s),
    "group writer, 64 callers": lambda path, s: grouped(path, 64, s),
    "group writer, 512 callers": lambda path, s: grouped(path, 512, s),
    "group writer, 1 caller, saturated loop": lambda path, s: grouped(path, 1, s, saturate=True),
    "group writer, 64 callers, saturated loop": lambda path, s: grouped(path, 64, s, saturate=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds for each measurement")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=None, help="a directory on the disk to measure")
    options = parser.parse_args()
    runs: dict[str, list[Run]] = {name: [] for name in VARIANTS}
    for _ in range(options.repetitions):
        for name in random.sample(list(VARIANTS), len(VARIANTS)):
            directory = Path(tempfile.mkdtemp(dir=options.directory))
            try:
                runs[name].append(VARIANTS[name](directory / "bench.sqlite3", options.seconds))
            finally:
                shutil.rmtree(directory)
    sys.stdout.write("| path | rows/s | p50 µs | p99 µs | CPU µs/row |\n|---|---|---|---|---|\n")
    for name, measured in runs.items():
        rate = statistics.median(run.rows / run.wall_s for run in measured)
        cpu_us = statistics.median(run.cpu_s / run.rows for run in measured) * 1e6
        p50, p99 = (statistics.median(_quantile(run.latencies_s, q) for run in measured) * 1e6 for q in (0.5, 0.99))
        sys.stdout.write(f"| {name} | {rate:,.0f} | {p50:,.0f} | {p99:,.0f} | {cpu_us:,.1f} |\n")


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    main()
