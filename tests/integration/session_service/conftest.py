"""Stores on both engines, opened and closed with the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from session_stores import open_store

from session_service.store.store import Store

OpenStore = Callable[..., Awaitable[Store]]


@pytest.fixture
async def open_stores(database_url, clock) -> AsyncIterator[OpenStore]:
    """Opens stores on the test's database; on PostgreSQL several at once, as replicas."""
    async with AsyncExitStack() as stack:

        async def open_one(**how: object) -> Store:
            store = await open_store(database_url, clock, **how)
            stack.push_async_callback(store.close)
            return store

        yield open_one


@pytest.fixture
async def store(open_stores) -> Store:
    return await open_stores()
