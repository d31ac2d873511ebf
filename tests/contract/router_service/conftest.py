"""A running router, over a local channel and over a socket."""

import pytest
from router_world import World, running


@pytest.fixture(params=["local", "unix"])
async def world(request, sqlite_url, clock):
    async with running(World(sqlite_url, clock, over=request.param)) as found:
        yield found


@pytest.fixture
def stub(world):
    return world.stub()
