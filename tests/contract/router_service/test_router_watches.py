"""Watches: every change of fate is seen, also across a reconnection and a restart, or the watcher is told to list."""

import asyncio

import grpc
import grpc.aio
import pytest
from router_world import Worker, running, send, sqlite_world

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2
A = "bots/main/sessions/a"
STATE = message_pb2.MessageState
ENDED = message_pb2.MESSAGE_STATE_SUCCEEDED


@pytest.fixture(params=["local", "unix"])
async def world(request, tmp_path):
    settings = RouterSettings(watch_backlog=7)
    async with running(sqlite_world(tmp_path, over=request.param, settings=settings)) as found:
        yield found


@pytest.fixture
def stub(world):
    return world.stub()


class Watch:
    """Keeps what comes; `token` is the newest one."""

    def __init__(self, stub, token="", **fields):
        self.call = stub.WatchMessages(pb.WatchMessagesRequest(filter=pb.MessageFilter(**fields), resume_token=token))
        self.states = {}
        self.fates = {}
        self.reset = False
        self.token = ""

    async def read(self):
        frame = await asyncio.wait_for(self.call.read(), 60)
        assert frame is not grpc.aio.EOF
        self.token = frame.resume_token
        self.reset = self.reset or frame.reset
        for message in frame.messages:
            self.states[message.run] = message.state
            self.fates.setdefault(message.run, []).append(STATE.Name(message.state).removeprefix("MESSAGE_STATE_"))
        return frame

    async def until(self, condition):
        while not condition(self):
            await self.read()
        return self

    def close(self):
        self.call.cancel()


async def test_a_watch_shows_each_change_of_fate(world, stub):
    watch = Watch(stub)
    first = await watch.read()
    assert first.checkpoint
    await send(stub, idempotency_key="k")
    await watch.until(lambda w: "k" in w.states)
    worker = await Worker(stub).start()
    delivery = await worker.delivery()
    await watch.until(lambda w: w.states["k"] == message_pb2.MESSAGE_STATE_LEASED)
    await worker.send(begun=[message_pb2.HeldLease(run="k", epoch=delivery.epoch)])
    await watch.until(lambda w: w.states["k"] == message_pb2.MESSAGE_STATE_RUNNING)
    await worker.complete(delivery)
    await watch.until(lambda w: w.states["k"] == ENDED)
    assert watch.fates["k"] == ["QUEUED", "LEASED", "RUNNING", "SUCCEEDED"]
    watch.close()


async def test_a_token_goes_on_where_the_watch_ended_also_after_a_restart(world, stub):
    watch = Watch(stub)
    await watch.read()
    for number in range(3):
        await send(stub, idempotency_key=f"k{number}", session=f"bots/main/sessions/s{number}")
    await watch.until(lambda w: len(w.states) == 3)
    watch.close()
    worker = await Worker(stub).start()
    for _ in range(2):
        await worker.complete(await worker.delivery())
    left = await worker.delivery()
    await send(stub, idempotency_key="late")
    await world.restart()
    again = Watch(world.stub(), watch.token)
    await again.until(lambda w: len(w.states) == 4)
    assert not again.reset
    assert sorted(again.states.values()) == sorted([ENDED, ENDED, again.states[left.message.run], again.states["late"]])
    assert again.states[left.message.run] != ENDED
    again.close()


async def test_what_began_long_before_the_token_and_ended_after_it_is_seen(world, stub):
    await send(stub, idempotency_key="old")
    await world.advance(3600)
    watch = Watch(stub)
    await watch.read()
    watch.close()
    worker = await Worker(stub).start()
    await worker.complete(await worker.delivery())
    await world.advance(3600)
    again = await Watch(stub, watch.token).until(lambda w: "old" in w.states)
    assert again.states["old"] == ENDED
    again.close()


async def test_a_filter_narrows_the_watch(world, stub):
    watch = Watch(stub, session=A)
    await watch.read()
    await send(stub, idempotency_key="other", session="bots/main/sessions/b")
    await send(stub, idempotency_key="mine")
    await watch.until(lambda w: w.states)
    assert list(watch.states) == ["mine"]
    watch.close()


async def test_a_bot_watches_its_own_mail_alone(world, stub):
    watch = Watch(world.stub(actor="bots/other"))
    await watch.read()
    await send(stub, idempotency_key="theirs")
    await send(stub, idempotency_key="mine", session="bots/other/sessions/a")
    await watch.until(lambda w: w.states)
    assert list(watch.states) == ["mine"]
    watch.close()


async def test_a_token_of_another_watch_is_refused(world, stub):
    watch = Watch(stub)
    await watch.read()
    watch.close()
    for call in (Watch(stub, watch.token, session=A), Watch(stub, "nonsense")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert from_rpc_error(caught.value).reason == "WATCH_TOKEN_INVALID"


async def test_a_list_says_where_a_watch_begins(world, stub):
    await send(stub, idempotency_key="before")
    listed = await stub.ListMessages(pb.ListMessagesRequest())
    await send(stub, idempotency_key="after")
    watch = await Watch(stub, listed.as_of).until(lambda w: "after" in w.states)
    watch.close()


async def test_too_much_to_catch_up_with_is_a_reset(world, stub):
    watch = Watch(stub)
    await watch.read()
    watch.close()
    for number in range(8):
        await send(stub, idempotency_key=f"k{number}")
    again = Watch(stub, watch.token)
    assert (await again.read()).reset
    await send(stub, idempotency_key="next")
    await again.until(lambda w: list(w.states) == ["next"])
    again.close()


async def test_a_drain_ends_watches_with_a_reason(world, stub):
    watch, boxes = Watch(stub), stub.WatchMailboxes(pb.WatchMailboxesRequest())
    await watch.read()
    await boxes.read()
    await world.router.end_watches()
    for call in (watch.call, boxes):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert from_rpc_error(caught.value).reason == "DRAINING"


async def test_mailboxes_are_watched_by_bot(world, stub):
    call = stub.WatchMailboxes(pb.WatchMailboxesRequest(bots=["bots/main"]))
    known = {}

    async def until(queued, in_flight):
        while known.get("bots/main") != (queued, in_flight):
            frame = await asyncio.wait_for(call.read(), 60)
            known.update({b.bot: (b.queued_count, b.in_flight_count) for b in frame.mailboxes})

    await call.read()
    await send(stub)
    await send(stub, session="bots/other/sessions/a")
    await until(1, 0)
    worker = await Worker(stub).start()
    delivery = await worker.delivery()
    await until(0, 1)
    await worker.complete(delivery)
    await until(0, 0)
    assert list(known) == ["bots/main"]
    call.cancel()
