"""Topics: every subscriber gets what is published, once, or nobody does."""

import grpc.aio
import pytest
from router_world import Worker, draft, running, send, sqlite_world

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2
NEWS = "topics/news"


@pytest.fixture(params=["local", "unix"])
async def world(request, tmp_path):
    settings = RouterSettings(mailbox_limit=3, topic_limit=4)
    async with running(sqlite_world(tmp_path, over=request.param, settings=settings)) as found:
        yield found


@pytest.fixture
async def stub(world):
    stub = world.stub()
    await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news", topic=message_pb2.Topic(description="what is new")))
    return stub


def letter(text="extra", topic=NEWS, **fields):
    made = message_pb2.MessageDraft(topic=topic, **fields)
    made.parts.add(text=text)
    return made


async def subscribe(stub, *subscribers):
    for subscriber in subscribers:
        await stub.SubscribeTopic(pb.SubscribeTopicRequest(topic=NEWS, subscriber=subscriber))


async def publish(stub, **fields):
    return (await stub.PublishTopic(pb.PublishTopicRequest(message=letter(**fields)))).receipt


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def mail_of(stub, session):
    found = await stub.ListMessages(pb.ListMessagesRequest(filter=pb.MessageFilter(session=session)))
    return list(found.messages)


async def test_every_subscriber_gets_a_copy(world, stub):
    await subscribe(stub, "bots/main/sessions/a", "bots/main/sessions/b", "bots/other")
    receipt = await publish(stub, idempotency_key="k")
    assert (receipt.fan_out_count, receipt.run, receipt.duplicate) == (3, "k", False)
    for session in ("bots/main/sessions/a", "bots/main/sessions/b", "bots/other/sessions/main"):
        (message,) = await mail_of(stub, session)
        assert message.draft.session == session
        assert message.draft.parts[0].text == "extra"
        assert message.draft.metadata["mobot.topic"] == NEWS
        assert message.draft.correlation_id == "k"
    worker = await Worker(stub).start()
    delivered = [await worker.delivery() for _ in range(2)]
    assert {d.session for d in delivered} == {"bots/main/sessions/a", "bots/main/sessions/b"}


async def test_a_key_publishes_once(world, stub):
    await subscribe(stub, "bots/main/sessions/a")
    first = await publish(stub, idempotency_key="k")
    await subscribe(stub, "bots/main/sessions/b")
    again = await publish(stub, idempotency_key="k")
    assert (again.message, again.duplicate, again.fan_out_count) == (first.message, True, 1)
    assert not await mail_of(stub, "bots/main/sessions/b")
    assert await refusal(publish(stub, idempotency_key="k", text="other")) == "IDEMPOTENCY_KEY_REUSED"


async def test_who_publishes_does_not_hear_itself(world, stub):
    await subscribe(stub, "bots/main/sessions/a", "bots/main/sessions/b")
    receipt = await publish(stub, source="bots/main/sessions/a")
    assert receipt.fan_out_count == 1
    assert not await mail_of(stub, "bots/main/sessions/a")


async def test_a_full_mailbox_stops_the_whole_publication(world, stub):
    await subscribe(stub, "bots/main/sessions/a", "bots/main/sessions/b")
    for _ in range(3):
        await send(stub, session="bots/main/sessions/b")
    assert await refusal(publish(stub)) == "MAILBOX_FULL"
    assert not await mail_of(stub, "bots/main/sessions/a")


async def test_a_topic_is_a_destination_of_ordinary_sends(world, stub):
    await subscribe(stub, "bots/main/sessions/a")
    receipt = (await stub.SendMessage(pb.SendMessageRequest(message=letter()))).receipt
    assert receipt.fan_out_count == 1
    call = stub.Send()
    frame = pb.SendRequest(first_number=1)
    frame.messages.extend([letter(), draft("single"), letter(topic="topics/nosuch")])
    await call.write(frame)
    await call.read()
    outcomes = []
    while len(outcomes) < 3:
        outcomes.extend((await call.read()).outcomes)
    call.cancel()
    assert outcomes[0].receipt.fan_out_count == 1
    assert outcomes[1].receipt.session == "bots/main/sessions/a"
    assert outcomes[2].refusal.reason == "TOPIC_NOT_FOUND"


async def test_subscriptions_come_and_go(world, stub):
    request = pb.SubscribeTopicRequest(topic=NEWS, subscriber="bots/main/sessions/a", request_id="r")
    assert (await stub.SubscribeTopic(request)).created
    assert (await stub.SubscribeTopic(request)).created
    request.request_id = ""
    assert not (await stub.SubscribeTopic(request)).created
    gone = pb.UnsubscribeTopicRequest(topic=NEWS, subscriber="bots/main/sessions/a")
    assert (await stub.UnsubscribeTopic(gone)).removed
    assert not (await stub.UnsubscribeTopic(gone)).removed
    assert (await publish(stub)).fan_out_count == 0


async def test_topics_are_listed_by_page_and_by_subscriber(world, stub):
    await stub.CreateTopic(pb.CreateTopicRequest(topic_id="alerts"))
    await subscribe(stub, "bots/main")
    first = await stub.ListTopics(pb.ListTopicsRequest(page_size=1))
    second = await stub.ListTopics(pb.ListTopicsRequest(page_size=1, page_token=first.next_page_token))
    assert [t.name for t in (*first.topics, *second.topics)] == ["topics/alerts", NEWS]
    assert (second.topics[0].subscriber_count, second.topics[0].description) == (1, "what is new")
    mine = await stub.ListTopics(pb.ListTopicsRequest(subscriber="bots/main"))
    assert [t.name for t in mine.topics] == [NEWS]


async def test_a_deleted_topic_takes_nothing_more(world, stub):
    await subscribe(stub, "bots/main")
    assert await refusal(stub.DeleteTopic(pb.DeleteTopicRequest(name=NEWS, etag="v9"))) == "ETAG_MISMATCH"
    await stub.DeleteTopic(pb.DeleteTopicRequest(name=NEWS, request_id="r"))
    await stub.DeleteTopic(pb.DeleteTopicRequest(name=NEWS, request_id="r"))
    assert await refusal(publish(stub)) == "TOPIC_NOT_FOUND"
    assert await refusal(stub.DeleteTopic(pb.DeleteTopicRequest(name=NEWS))) == "TOPIC_NOT_FOUND"
    assert await refusal(subscribe(stub, "bots/main")) == "TOPIC_NOT_FOUND"


async def test_topics_are_bounded_and_named_by_rule(world, stub):
    assert await refusal(stub.CreateTopic(pb.CreateTopicRequest(topic_id="news"))) == "TOPIC_ALREADY_EXISTS"
    for bad in ("", "A", "a/b", "x" * 65, ".."):
        call = stub.CreateTopic(pb.CreateTopicRequest(topic_id=bad))
        assert await refusal(call) == "RESOURCE_NAME_INVALID"
    await subscribe(stub, *(f"bots/main/sessions/s{n}" for n in range(4)))
    assert await refusal(subscribe(stub, "bots/main/sessions/s4")) == "TOPIC_FULL"
    assert await refusal(subscribe(stub, "bots/nosuch/sessions/a")) == "BOT_NOT_FOUND"


async def test_a_bot_subscribes_itself_alone_and_publishes(world, stub):
    bot = world.stub(actor="bots/other")
    assert await refusal(subscribe(bot, "bots/main/sessions/a")) == "CALLER_NOT_ALLOWED"
    assert await refusal(bot.CreateTopic(pb.CreateTopicRequest(topic_id="x"))) == "CALLER_NOT_ALLOWED"
    await subscribe(bot, "bots/other/sessions/a")
    await subscribe(stub, "bots/main/sessions/a")
    assert (await publish(bot, source="bots/other/sessions/a")).fan_out_count == 1
