from collections.abc import AsyncIterator

import pytest
from sdk_fakes.world import World


@pytest.fixture(params=["socket", "local"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """All four services as small fakes; every test runs over sockets and over local channels."""
    made = World(request.param)
    await made.start()
    yield made
    await made.close()
