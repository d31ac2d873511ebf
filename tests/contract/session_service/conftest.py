"""A session service on SQLite, called over a local channel and over TCP alike."""

from collections.abc import AsyncIterator

import pytest
from session_world import World


@pytest.fixture(params=["local", "tcp"])
async def world(request, sqlite_url, tmp_path) -> AsyncIterator[World]:
    running = World(sqlite_url, wire=request.param, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def stub(world):
    return world.stub()
