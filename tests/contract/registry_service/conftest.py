"""The registry on a fresh SQLite file, reached over a local channel and over TCP alike."""

from collections.abc import AsyncIterator

import pytest
from registry_world import World

from chassis.clock import FakeClock


@pytest.fixture(params=["local", "tcp"])
async def world(request: pytest.FixtureRequest, tmp_path, clock: FakeClock) -> AsyncIterator[World]:
    running = World(request.param, tmp_path, clock)
    await running.start()
    yield running
    await running.stop()
