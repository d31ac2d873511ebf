import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from sdk_fakes.model_endpoint import ModelEndpoint
from sdk_fakes.world import World

from bot_runner.host import RunnerHost
from bot_runner.settings import RunnerSettings


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World("local")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def endpoint() -> AsyncIterator[ModelEndpoint]:
    made = ModelEndpoint()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def meters() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counted(meters):
    """What a meter says now, 0 where nothing was counted."""

    def counted(name: str, **labels: str) -> float:
        return meters.get_sample_value(name, labels) or 0.0

    return counted


@pytest.fixture
def hosting(world, meters):
    """A runner over the world's bots; drained at the end."""

    @contextlib.asynccontextmanager
    async def hosting(**settings) -> AsyncIterator[RunnerHost]:
        settings.setdefault("worker_id", "runner")
        settings.setdefault("echo_word_delay_s", 0.0)
        given = RunnerSettings(**settings)
        host = RunnerHost(world.dialer("workers/runner"), given, grace_s=1.0, meters=meters)
        running = asyncio.ensure_future(host.run())
        ready = asyncio.ensure_future(host.ready())
        try:
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED, timeout=40)
            if running.done():
                await running
            yield host
        finally:
            ready.cancel()
            host.drain()
            async with asyncio.timeout(40):
                await running

    return hosting
