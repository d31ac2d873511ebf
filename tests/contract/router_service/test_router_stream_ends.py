"""Whatever ends a worker's stream, the router forgets it, or its leases would be kept alive for nobody."""

import asyncio

import pytest
from router_world import until

from chassis.identity import Caller
from mobot.router.v1 import router_service_pb2


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_goes_away_is_forgotten_whichever_end_is_heard_first(world, turns):
    """What it says ends, and its call is cancelled; the one may come in the middle of the other."""
    gone = asyncio.Event()

    async def frames():
        hello = router_service_pb2.AttachHello(worker="workers/w1", bots=["bots/main"], credit=1)
        yield router_service_pb2.AttachRequest(hello=hello)
        await gone.wait()

    root = Caller(principal="operators/root", root=True, actor="operators/root")
    answers = world.router.servicer._attaching.stream(frames(), root)

    async def serve():
        async for _ in answers:
            pass

    serving = asyncio.create_task(serve())
    attachments = world.router._dispatcher.room.attachments
    await until(lambda: attachments)
    gone.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await answers.aclose()
    assert not attachments
