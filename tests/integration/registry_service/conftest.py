"""An empty registry store on each engine."""

from collections.abc import AsyncIterator

import pytest
from registry_store import Opened, opened

from chassis.clock import FakeClock


@pytest.fixture
async def registry(database_url: str, clock: FakeClock) -> AsyncIterator[Opened]:
    async with opened(database_url, clock) as store:
        yield store
