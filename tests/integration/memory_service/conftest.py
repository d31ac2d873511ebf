"""The memory's store on an empty database of each engine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from memory_service.store.store import Limits, MemoryStore

OpenStore = Callable[..., Awaitable[MemoryStore]]


@pytest.fixture
async def open_store(clock: FakeClock, database_url: str) -> AsyncIterator[OpenStore]:
    """Opens stores on the test's database, one after the other or, on PostgreSQL, several at once."""
    opened: list[Database] = []

    async def open_one(**options) -> MemoryStore:
        database = await Database.open(
            database_url, migrations="memory_service.migrations", migrate=True, clock=clock, **options
        )
        opened.append(database)
        limits = Limits(max_memories=100_000, retention=timedelta(days=30))
        return MemoryStore(database, clock=clock, new_id=Uuid7Ids(clock), limits=limits)

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture
async def store(open_store: OpenStore) -> MemoryStore:
    return await open_store()
