"""What is accepted, what is refused, and what a repetition gets."""

from datetime import timedelta

import grpc
import grpc.aio
import pytest
from router_world import Worker, World, draft, running, send, until

from chassis.status import from_rpc_error
from mobot.registry.v1 import bot_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

A = "bots/main/sessions/a"


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return error.code, error.reason


async def test_the_same_key_and_content_gets_the_original_answer(world, stub):
    first = await send(stub, "hi", idempotency_key="k")
    again = await send(stub, "hi", idempotency_key="k")
    assert again.duplicate
    assert (again.message, again.run) == (first.message, first.run)
    listed = await stub.ListMessages(router_service_pb2.ListMessagesRequest())
    assert len(listed.messages) == 1


async def test_the_same_key_with_other_content_is_refused(world, stub):
    await send(stub, "hi", idempotency_key="k")
    assert await refused(send(stub, "ho", idempotency_key="k")) == ("INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED")


async def test_a_key_twice_in_one_frame_is_one_message(world, stub):
    call = stub.Send()
    same = draft("x", idempotency_key="twice")
    other = draft("y", idempotency_key="twice")
    await call.write(router_service_pb2.SendRequest(first_number=1, messages=[same, same, other]))
    outcomes = []
    while len(outcomes) < 3:
        outcomes.extend((await call.read()).outcomes)
    assert [outcome.receipt.duplicate for outcome in outcomes[:2]] == [False, True]
    assert outcomes[2].refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    call.cancel()


async def test_empty_frames_have_nothing_to_answer(world, stub):
    call = stub.Send()
    for _ in range(3):
        await call.write(router_service_pb2.SendRequest(first_number=1))
    await call.write(router_service_pb2.SendRequest(first_number=1, messages=[draft("x")]))
    first, second = await call.read(), await call.read()
    assert (first.credit > 0, len(first.outcomes)) == (True, 0)
    assert [outcome.number for outcome in second.outcomes] == [1]
    call.cancel()


async def test_an_unknown_bot_gets_no_mail(world, stub):
    assert await refused(send(stub, session="bots/nosuch/sessions/x")) == ("NOT_FOUND", "BOT_NOT_FOUND")


async def test_a_bot_as_destination_means_its_main_session(world, stub):
    made = message_pb2.MessageDraft(bot="bots/main")
    made.parts.add(text="hi")
    receipt = (await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))).receipt
    assert receipt.session == "bots/main/sessions/main"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"session": "bots/main/sessions/../x"}, "RESOURCE_NAME_INVALID"),
        ({"session": "bots/main/sessions/\u0430"}, "RESOURCE_NAME_INVALID"),
        ({"priority": 10}, "FIELD_INVALID"),
        ({"max_attempts": 21}, "FIELD_INVALID"),
        ({"idempotency_key": "k" * 201}, "FIELD_INVALID"),
        ({"idempotency_key": "k\n"}, "FIELD_INVALID"),
        ({"reply_to": "bots/main/sessions/.."}, "RESOURCE_NAME_INVALID"),
        ({"metadata": {str(n): "" for n in range(33)}}, "FIELD_INVALID"),
        ({"text": "a\x00b"}, "FIELD_INVALID"),
        ({"hop_count": 16}, "HOP_LIMIT_REACHED"),
    ],
)
async def test_a_draft_that_breaks_a_rule_is_refused(stub, fields, reason):
    assert (await refused(send(stub, **fields)))[1] == reason


async def test_a_draft_without_parts_or_destination_is_refused(stub):
    empty = message_pb2.MessageDraft(session=A)
    nowhere = message_pb2.MessageDraft()
    nowhere.parts.add(text="x")
    topic = message_pb2.MessageDraft(topic="topics/t")
    topic.parts.add(text="x")
    for made, reason in ((empty, "FIELD_INVALID"), (nowhere, "FIELD_INVALID"), (topic, "TOPIC_NOT_FOUND")):
        request = router_service_pb2.SendMessageRequest(message=made)
        assert (await refused(stub.SendMessage(request)))[1] == reason


async def test_a_bot_sends_as_itself_alone(world):
    bot = world.stub(actor="bots/main")
    await send(bot, session="bots/other/sessions/x", source=A)
    code, reason = await refused(send(bot, source="bots/other/sessions/x"))
    assert (code, reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_a_bot_sees_its_own_mail_alone(world, stub):
    theirs = await send(stub, session="bots/other/sessions/x")
    ours = await send(stub)
    bot = world.stub(actor="bots/main")
    listed = await bot.ListMessages(router_service_pb2.ListMessagesRequest())
    assert [message.name for message in listed.messages] == [ours.message]
    got = bot.GetMessage(router_service_pb2.GetMessageRequest(name=theirs.message))
    assert (await refused(got))[1] == "MESSAGE_NOT_FOUND"
    cancelled = bot.CancelRun(router_service_pb2.CancelRunRequest(run=theirs.run))
    assert (await refused(cancelled))[1] == "MESSAGE_NOT_FOUND"


async def test_reject_refuses_when_the_session_is_busy(world, stub):
    await send(stub, mode=message_pb2.BUSY_MODE_REJECT)
    code, reason = await refused(send(stub, mode=message_pb2.BUSY_MODE_REJECT))
    assert (code, reason) == ("FAILED_PRECONDITION", "SESSION_BUSY")


async def test_steering_is_recorded_as_the_mode_that_was_asked_for(world, stub):
    receipt = await send(stub, mode=message_pb2.BUSY_MODE_STEER)
    got = await stub.GetMessage(router_service_pb2.GetMessageRequest(run=receipt.run))
    assert got.message.draft.mode == message_pb2.BUSY_MODE_STEER


async def test_priority_goes_first_and_equals_keep_their_order(world, stub):
    for text, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", 9)):
        await send(stub, text, priority=priority)
    worker = await Worker(stub).start()
    found = []
    for _ in range(5):
        delivery = await worker.delivery()
        found.append(delivery.message.draft.parts[0].text)
        await worker.complete(delivery)
    assert found == ["e", "b", "d", "a", "c"]


async def test_delayed_mail_comes_when_its_time_has(world, stub):
    made = draft("later")
    made.not_before_time.FromDatetime(world.clock.now() + timedelta(seconds=60))
    receipt = (await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))).receipt
    assert receipt.state == message_pb2.MESSAGE_STATE_ACCEPTED
    worker = await Worker(stub).start()
    await send(stub, "now")
    delivery = await worker.delivery()
    assert delivery.message.draft.parts[0].text == "now"
    await worker.complete(delivery)
    await world.advance(61)
    assert (await worker.delivery()).message.draft.parts[0].text == "later"


async def test_mail_that_waits_too_long_expires(world, stub):
    made = draft("too late", idempotency_key="k")
    made.expire_time.FromDatetime(world.clock.now() + timedelta(seconds=30))
    await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))
    await world.advance(31)
    await until(lambda: world.sessions.outcomes(A) == {"k": "EXPIRED"})
    assert world.sessions.ids(A)[0].startswith("message/")


async def test_a_run_that_works_too_long_expires_and_its_worker_is_fenced_off(world, stub):
    worker = await Worker(stub).start()
    made = draft("slow", idempotency_key="k")
    made.expire_time.FromDatetime(world.clock.now() + timedelta(seconds=30))
    await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))
    delivery = await worker.delivery()
    await world.advance(31)
    assert (await worker.cancellations.get()).lease_lost
    await until(lambda: world.sessions.outcomes(A) == {"k": "EXPIRED"})
    assert world.sessions.marks[A] > delivery.epoch
    assert (await worker.complete(delivery)).refusal.reason == "RUN_ENDED"


async def test_a_full_mailbox_accepts_nothing_and_says_when_to_come_again(sqlite_url, clock):
    async with running(World(sqlite_url, clock, settings=RouterSettings(mailbox_limit=3))) as world:
        stub = world.stub()
        for _ in range(3):
            await send(stub)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(stub)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "MAILBOX_FULL")
        assert error.retry_after_s > 0
        await send(stub, session="bots/main/sessions/b")


async def test_messages_are_listed_page_by_page(world, stub):
    receipts = [await send(stub, session=f"bots/main/sessions/s{n % 2}") for n in range(7)]
    request = router_service_pb2.ListMessagesRequest(page_size=2)
    request.filter.session = "bots/main/sessions/s0"
    found = []
    while True:
        page = await stub.ListMessages(request)
        found.extend(message.name for message in page.messages)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [receipt.message for receipt in receipts[::2]][::-1]
    request.filter.session = ""
    assert (await refused(stub.ListMessages(request)))[1] == "PAGE_TOKEN_INVALID"
    by_bot = router_service_pb2.ListMessagesRequest(ascending=True)
    by_bot.filter.bot = "bots/main"
    by_bot.filter.states.append(message_pb2.MESSAGE_STATE_QUEUED)
    listed = await stub.ListMessages(by_bot)
    assert [message.name for message in listed.messages] == [receipt.message for receipt in receipts]


async def test_stats_tell_what_waits(world, stub):
    worker = await Worker(stub, credit=1).start()
    for number in range(3):
        await send(stub, session=f"bots/main/sessions/s{number}")
    await send(stub, session="bots/other/sessions/x")
    await worker.delivery()
    stats = (await stub.GetMailboxStats(router_service_pb2.GetMailboxStatsRequest())).mailboxes
    assert [(s.bot, s.queued_count, s.in_flight_count, s.worker_count) for s in stats] == [
        ("bots/main", 2, 1, 1),
        ("bots/other", 1, 0, 0),
    ]
    one = router_service_pb2.GetMailboxStatsRequest(session="bots/main/sessions/s0")
    assert (await stub.GetMailboxStats(one)).mailboxes[0].in_flight_count == 1


async def test_mail_for_a_bot_seen_before_is_taken_while_the_registry_is_away(world, stub):
    await send(stub)
    world.registry.down = True
    world.router._bots._ttl_s = 0
    await send(stub)
    code, reason = await refused(send(stub, session="bots/other/sessions/x"))
    assert (code, reason) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")


async def test_a_deleted_bot_gets_no_more_mail_however_fresh_its_settings_are(world, stub):
    await send(stub)
    await until(lambda: world.registry.watches)
    del world.registry.bots["bots/main"]
    world.registry.tell(removed_bot="bots/main")
    await until(lambda: world.router._bots.fresh("bots/main") is None)
    assert await refused(send(stub)) == ("NOT_FOUND", "BOT_NOT_FOUND")


async def test_a_bot_that_is_being_deleted_is_known_at_once(world, stub):
    await send(stub)
    await until(lambda: world.registry.watches)
    bot = world.registry.bots["bots/main"].bot
    bot.lifecycle = bot_pb2.BOT_LIFECYCLE_DELETED
    world.registry.tell(bot=bot)
    await until(lambda: world.router._bots.last("bots/main").deleted)
    assert await refused(send(stub)) == ("FAILED_PRECONDITION", "BOT_DELETED")


async def test_a_bot_s_backlog_has_a_limit_over_all_its_sessions_that_ends_as_it_is_worked_off(sqlite_url, clock):
    async with running(World(sqlite_url, clock, settings=RouterSettings(bot_backlog_limit=3))) as world:
        stub = world.stub()
        for number in range(3):
            await send(stub, session=f"bots/main/sessions/s{number}", idempotency_key=f"k{number}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(stub, session="bots/main/sessions/s9")
        error = from_rpc_error(caught.value)
        assert (error.reason, error.retry_after_s) == ("BACKLOG_FULL", 5.0)
        assert (await send(stub, session="bots/main/sessions/s0", idempotency_key="k0")).duplicate
        await send(stub, session="bots/other/sessions/s")
        await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k1"))
        await send(stub, session="bots/main/sessions/s9")
        await world.restart()
        assert await refused(send(world.stub(), session="bots/main/sessions/s8")) == (
            "RESOURCE_EXHAUSTED",
            "BACKLOG_FULL",
        )


async def test_what_waits_in_a_session_is_listed_queued_or_delayed_and_only_while_it_waits(world, stub):
    waiting = [message_pb2.MESSAGE_STATE_QUEUED, message_pb2.MESSAGE_STATE_ACCEPTED]
    request = router_service_pb2.ListMessagesRequest(filter=router_service_pb2.MessageFilter(session=A, states=waiting))

    async def listed():
        return [message.draft.parts[0].text for message in (await stub.ListMessages(request)).messages]

    assert await listed() == []
    made = draft("later")
    made.not_before_time.FromDatetime(world.clock.now() + timedelta(seconds=60))
    await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))
    assert await listed() == ["later"]
    await send(stub, "now")
    assert sorted(await listed()) == ["later", "now"]
    worker = await Worker(stub).start()
    await worker.complete(await worker.delivery())
    await world.advance(61)
    await worker.complete(await worker.delivery())
    assert await listed() == []
