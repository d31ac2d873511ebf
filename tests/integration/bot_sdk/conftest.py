"""Workers of the SDK on the four real services."""

import asyncio
import contextlib

import pytest
from services_world import running_services

from bot_sdk.worker import Worker


@pytest.fixture
async def services():
    async with running_services() as made:
        yield made


@pytest.fixture
def serving(services):
    """`async with serving({"main": handler}) as worker`; `worker.die()` ends it as a crash of its process would."""

    @contextlib.asynccontextmanager
    async def serving(handlers, *, worker_id="w1", dialer=None, **options):
        dialer = dialer or services.dialer(f"workers/{worker_id}")
        worker = Worker(dialer, worker_id=worker_id, handlers=handlers, grace_s=0.5, **options)
        running = asyncio.create_task(worker.run())

        async def die():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        worker.die = die
        attached = asyncio.ensure_future(worker.attached())
        try:
            await asyncio.wait([running, attached], return_when=asyncio.FIRST_COMPLETED, timeout=40)
            if running.done():
                await running
            yield worker
        finally:
            attached.cancel()
            if not running.done():
                worker.drain()
                async with asyncio.timeout(40):
                    await running

    return serving
