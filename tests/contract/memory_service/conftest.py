"""The memory service on each engine: on SQLite over a local channel, on PostgreSQL over TCP.

The wire makes no difference to the store, nor the engine to the wire: two of the four pairs show both of each.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engines import EmbeddedPostgres, SqliteTemplates
from memory_world import World

from chassis.clock import FakeClock


@dataclass(frozen=True)
class Wired:
    """A transport, the URL of an empty database, and what makes another one of the same engine."""

    transport: str
    url: str
    make_another: Callable[[], str]


@pytest.fixture
def local_sqlite(tmp_path: Path, sqlite_templates: SqliteTemplates, sqlite_url: str, schema: str) -> Wired:
    names = itertools.count(1)

    def make() -> str:
        path = tmp_path / f"another{next(names)}.sqlite3"
        sqlite_templates.copy_to(path, schema)
        return f"sqlite:///{path}"

    return Wired("local", sqlite_url, make)


@pytest.fixture
def tcp_postgresql(postgres_server: EmbeddedPostgres, postgresql_url: str, schema: str) -> Iterator[Wired]:
    made: list[str] = []

    def make() -> str:
        made.append(postgres_server.create_database(schema))
        return made[-1]

    yield Wired("tcp", postgresql_url, make)
    for url in made:
        postgres_server.retire_database(url)


@pytest.fixture(params=["local_sqlite", "tcp_postgresql"])
def wired(request: pytest.FixtureRequest) -> Wired:
    found: Wired = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def world(wired: Wired, tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    running = World(wired.transport, tmp_path, clock, {"database_url": wired.url}, make_another=wired.make_another)
    await running.start()
    yield running
    await running.stop()
