import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
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
def hosting(world):
    """A runner over the world's bots; drained at the end."""

    @contextlib.asynccontextmanager
    async def hosting(**settings) -> AsyncIterator[RunnerHost]:
        settings.setdefault("worker_id", "runner")
        settings.setdefault("echo_word_delay_s", 0.0)
        host = RunnerHost(world.dialer("workers/runner"), RunnerSettings(**settings), grace_s=1.0)
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
