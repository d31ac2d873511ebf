"""Children, topics, schedules, policy and record, on both engines."""

import asyncio
from datetime import timedelta

import grpc.aio
import pytest
from family_world import family_world, running_family
from router_world import Worker, send, until

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings
from router_service.store import changes, messages

pb = router_service_pb2
PARENT = "bots/main/sessions/main"


@pytest.fixture
async def world(database_url, clock):
    async with running_family(database_url, clock, settings=RouterSettings(spawn_fan_out=4)) as found:
        yield found


def wish(key, parent=PARENT, **fields):
    spawn = message_pb2.Spawn(parent=parent, session_id=key, announce=True, **fields)
    spawn.task.add(text="work")
    return pb.SpawnSessionRequest(spawn=spawn, request_id=key)


async def test_the_end_of_a_child_and_the_mail_about_it_are_one_transaction(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await stub.SpawnSession(wish("c0"))
    task = await worker.delivery()
    await worker.fail(task)

    def both(conn):
        return messages.find_run(conn, "c0"), messages.find_run(conn, "reply/c0")

    ended, told = await world.router._store.read(both)
    assert ended[2] == message_pb2.MESSAGE_STATE_FAILED
    assert told[1] == PARENT
    assert (await worker.delivery()).message.run == "reply/c0"


async def test_many_children_at_once_are_made_and_told_of(world):
    stub = world.stub()
    worker = await Worker(stub, credit=100).start()
    answers = await asyncio.gather(*(stub.SpawnSession(wish(f"c{n}")) for n in range(8)), return_exceptions=True)
    refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert {from_rpc_error(error).reason for error in refused} == {"SPAWN_LIMIT_REACHED"}
    assert len(refused) == 4
    told = set()
    while len(told) < 4:
        delivery = await worker.delivery()
        if delivery.session == PARENT:
            told.add(delivery.message.run)
        await worker.complete(delivery, "done")
    assert len(told) == 4


async def test_a_publication_reaches_many_mailboxes_in_one_transaction(world):
    stub = world.stub()
    await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news"))
    for number in range(40):
        subscriber = f"bots/main/sessions/s{number}"
        await stub.SubscribeTopic(pb.SubscribeTopicRequest(topic="topics/news", subscriber=subscriber))
    draft = message_pb2.MessageDraft(topic="topics/news", idempotency_key="p")
    draft.parts.add(text="extra")
    receipts = await asyncio.gather(*(stub.PublishTopic(pb.PublishTopicRequest(message=draft)) for _ in range(3)))
    assert sorted(answer.receipt.duplicate for answer in receipts) == [False, True, True]
    found = await stub.ListMessages(pb.ListMessagesRequest(page_size=1000))
    assert sorted(m.session for m in found.messages) == sorted(f"bots/main/sessions/s{n}" for n in range(40))


async def test_replicas_share_children_topics_and_policy(postgresql_url, clock):
    settings = RouterSettings(spawn_fan_out=4, bot_cache_s=0)
    first = family_world(postgresql_url, clock, settings=settings)
    second = family_world(postgresql_url, clock, settings=settings)
    second.sessions, second.registry = first.sessions, first.registry
    await first.start()
    await second.start()
    try:
        one, two = first.stub(), second.stub()
        worker = await Worker(two, credit=100).start()
        answers = await asyncio.gather(
            *((one, two)[n % 2].SpawnSession(wish(f"c{n}")) for n in range(8)), return_exceptions=True
        )
        assert sum(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == 4
        told = set()
        while len(told) < 4:
            delivery = await worker.delivery()
            if delivery.session == PARENT:
                told.add(delivery.message.run)
            await worker.complete(delivery)
        first.registry.bots["bots/third"].bot.owner = "operators/b"
        policy = message_pb2.Policy()
        policy.rules.add(actor="bots/main", target="bots/third", actions=["send"], allow=True)
        await one.SetPolicy(pb.SetPolicyRequest(policy=policy))
        await send(second.stub(actor="bots/main"), session="bots/third/sessions/a")
    finally:
        await second.close()
        await first.close()


async def test_a_watch_sees_what_another_replica_did(postgresql_url, clock):
    first = family_world(postgresql_url, clock, settings=RouterSettings(poll_interval_s=0.05))
    second = family_world(postgresql_url, clock)
    second.sessions = first.sessions
    await first.start()
    await second.start()
    try:
        call = first.stub().WatchMessages(pb.WatchMessagesRequest())
        await call.read()
        worker = await Worker(second.stub()).start()
        await send(second.stub(), idempotency_key="k")
        await worker.complete(await worker.delivery())
        state = 0
        while state != message_pb2.MESSAGE_STATE_SUCCEEDED:
            frame = await asyncio.wait_for(call.read(), 60)
            state = next((m.state for m in frame.messages if m.run == "k"), state)
        call.cancel()
    finally:
        await second.close()
        await first.close()


async def test_a_child_that_a_dead_replica_wished_for_is_made_by_another(database_url, clock):
    world = family_world(database_url, clock)
    await world.start()
    try:
        world.sessions.gate = asyncio.Event()
        calling = asyncio.ensure_future(world.stub().SpawnSession(wish("c0")))
        await until(lambda: world.sessions.asked)
        await world.crash()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        world.sessions.gate.set()
        await world.start_router()
        clock.advance(timedelta(seconds=16))
        await world.router.chores.tick()
        found = await world.stub().GetMessage(pb.GetMessageRequest(run="c0"))
        assert found.message.session == "bots/main/sessions/c0"
        assert world.sessions.made == 1
    finally:
        await world.close()


async def test_the_oldest_unfinished_message_is_found_in_every_state(world):
    stub = world.stub()
    store = world.router._store
    assert await store.read(changes.oldest_unfinished) == ""
    receipt = await send(stub)
    oldest = receipt.message.removeprefix("messages/")
    assert await store.read(changes.oldest_unfinished) == oldest
    worker = await Worker(stub).start()
    delivery = await worker.delivery()
    await send(stub, session="bots/other/sessions/a")
    assert await store.read(changes.oldest_unfinished) == oldest
    await worker.complete(delivery)
    assert await store.read(changes.oldest_unfinished) > oldest


async def test_what_is_old_is_swept(world, clock):
    stub = world.stub()
    worker = await Worker(stub).start()
    await stub.SpawnSession(wish("c0"))
    await worker.complete(await worker.delivery())
    await worker.complete(await worker.delivery())
    await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news", request_id="t"))
    draft = message_pb2.MessageDraft(topic="topics/news", idempotency_key="p")
    draft.parts.add(text="extra")
    await stub.PublishTopic(pb.PublishTopicRequest(message=draft))
    await until(lambda: "finished" in world.sessions.ids(PARENT)[-1])
    # Until the log's acknowledgement is written, a message is kept.
    while (await stub.ListAuditEntries(pb.ListAuditEntriesRequest())).entries:
        await asyncio.sleep(0.02)
        await world.advance(31 * 86400)
    again = await stub.PublishTopic(pb.PublishTopicRequest(message=draft))
    assert not again.receipt.duplicate
    assert (await stub.SpawnSession(wish("c1"))).created
