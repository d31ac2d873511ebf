"""A runner that hosts the bots of the four real services."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from services_world import running_services

from bot_runner.host import RunnerHost
from bot_runner.settings import RunnerSettings


@pytest.fixture
async def services():
    async with running_services() as made:
        yield made


@pytest.fixture
def hosting(services):
    """A runner; drained at the end, unless the test cancelled it."""

    @contextlib.asynccontextmanager
    async def hosting(**settings) -> AsyncIterator[asyncio.Task]:
        settings.setdefault("worker_id", "runner")
        settings.setdefault("echo_word_delay_s", 0.0)
        host = RunnerHost(services.dialer("workers/runner"), RunnerSettings(**settings), grace_s=1.0)
        running = asyncio.create_task(host.run())
        ready = asyncio.ensure_future(host.ready())
        try:
            await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED, timeout=40)
            if running.done():
                await running
            yield running
        finally:
            ready.cancel()
            if not running.done():
                host.drain()
                async with asyncio.timeout(40):
                    await running

    return hosting
