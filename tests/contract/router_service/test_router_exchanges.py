"""Whoever wants a reply hears of every end, and two bots do not thank each other for ever."""

import grpc
import grpc.aio
import pytest
from router_world import Worker, draft, send, until

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2

A = "bots/main/sessions/a"
OTHER = "bots/other/sessions/x"
BOTH = ("bots/main", "bots/other")


async def message_of(stub, run):
    return (await stub.GetMessage(router_service_pb2.GetMessageRequest(run=run))).message


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def ask_other(stub, **fields):
    return await send(stub, "?", session=OTHER, source=A, reply_to=A, idempotency_key="k", correlation_id="c", **fields)


def check_notice(notice, outcome):
    assert (notice.session, notice.message.run) == (A, "reply/k")
    sent = notice.message.draft
    assert (sent.type, sent.correlation_id, sent.source) == ("mobot.reply.failed", "c", OTHER)
    assert (sent.metadata["mobot.run"], sent.metadata["mobot.outcome"]) == ("k", outcome)


async def test_a_run_that_fails_tells_whoever_wanted_its_reply(stub):
    worker = await Worker(stub, bots=BOTH).start()
    await ask_other(stub)
    await worker.fail(await worker.delivery())
    notice = await worker.delivery()
    check_notice(notice, "FAILED")
    assert "BROKEN: it broke" in notice.message.draft.parts[0].text
    assert (await message_of(stub, "k")).reply_message == notice.message.name
    await worker.fail(notice)
    assert worker.deliveries.empty()  # a notice wants no reply


async def test_a_dead_letter_tells_whoever_wanted_its_reply(stub):
    worker = await Worker(stub, bots=BOTH).start()
    await ask_other(stub, max_attempts=1)
    await worker.fail(await worker.delivery(), retryable=True)
    check_notice(await worker.delivery(), "DEAD_LETTERED")


async def test_mail_that_is_cancelled_or_expires_while_it_waits_tells_so_too(world, stub):
    await ask_other(stub)
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    worker = await Worker(stub, bots=["bots/main"]).start()
    check_notice(await worker.delivery(), "CANCELLED")


async def test_a_lost_worker_s_last_attempt_tells_so_too(world, stub):
    worker = await Worker(stub, bots=["bots/other"]).start()
    await ask_other(stub, max_attempts=1)
    await worker.delivery()
    await worker.cut()
    main = await Worker(stub, name="workers/w2", bots=["bots/main"]).start()
    await world.advance(16)
    check_notice(await main.delivery(), "DEAD_LETTERED")


async def test_a_session_that_is_gone_tells_so_too(world, stub):
    world.sessions.refused[OTHER] = "SESSION_DELETED"
    worker = await Worker(stub, bots=BOTH).start()
    await ask_other(stub)
    check_notice(await worker.delivery(), "REJECTED")


async def test_whoever_still_waits_for_the_answer_gets_the_end_itself_and_no_mail(stub):
    worker = await Worker(stub, bots=["bots/other"]).start()
    asking = stub.AskMessage(router_service_pb2.AskMessageRequest(message=draft("?", OTHER, source=A)))
    await worker.fail(await worker.delivery())
    assert (await asking).message.state == message_pb2.MESSAGE_STATE_FAILED
    request = router_service_pb2.ListMessagesRequest()
    request.filter.session = A
    assert not (await stub.ListMessages(request)).messages


async def test_a_bot_may_choose_not_to_reply(stub):
    worker = await Worker(stub, bots=BOTH).start()
    await ask_other(stub)
    await worker.complete(await worker.delivery(), "thanks for your thanks", stop_reason="skip")
    got = await message_of(stub, "k")
    assert (got.state, got.stop_reason) == (message_pb2.MESSAGE_STATE_SUCCEEDED, "skip")
    assert got.reply_message == ""
    assert worker.deliveries.empty()


async def test_two_sessions_answer_each_other_so_often_and_no_more(stub):
    sides = ((A, OTHER), (OTHER, A))
    last = await send(stub, "hello", session=OTHER, source=A)
    for turn in range(1, 9):
        source, to = sides[turn % 2]
        reply_to = last.message.removeprefix("messages/")
        last = await send(stub, "and hello to you", session=to, source=source, in_reply_to=reply_to)
        got = await stub.GetMessage(router_service_pb2.GetMessageRequest(name=last.message))
        assert got.message.draft.turn_count == turn
    answer = send(stub, session=A, source=OTHER, in_reply_to=last.message.removeprefix("messages/"))
    assert await reason_of(answer) == "TURN_LIMIT_REACHED"
    third = await send(
        stub, session="bots/third/sessions/x", source=A, in_reply_to=last.message.removeprefix("messages/")
    )
    assert third.message


async def test_mail_sent_with_a_completion_counts_its_turns_too(stub):
    worker = await Worker(stub, bots=BOTH).start()
    await send(stub, session=OTHER, source=A)
    delivery = await worker.delivery()
    await worker.complete(delivery, outbox=[draft("back to you", A)])
    back = await worker.delivery()
    assert back.message.draft.turn_count == 1
    spent = draft("enough", session=OTHER, source=A, turn_count=9)
    assert (
        await reason_of(stub.SendMessage(router_service_pb2.SendMessageRequest(message=spent))) == "TURN_LIMIT_REACHED"
    )


async def test_an_answer_is_delivered_and_replied_at_different_times(world, stub):
    worker = await Worker(stub, bots=["bots/other"]).start()
    await ask_other(stub)
    delivery = await worker.delivery()
    await worker.send(begun=[message_pb2.HeldLease(run="k", epoch=delivery.epoch)])
    delivered = await message_of(stub, "k")
    assert delivered.HasField("start_time")
    assert (delivered.reply_message, delivered.HasField("end_time")) == ("", False)
    await world.advance(3)
    await worker.complete(delivery, "!")
    replied = await message_of(stub, "k")
    assert replied.end_time.seconds - replied.start_time.seconds == 3
    reply = await stub.GetMessage(router_service_pb2.GetMessageRequest(name=replied.reply_message))
    assert reply.message.state == message_pb2.MESSAGE_STATE_QUEUED  # and the reply itself waits for its bot
    await until(lambda: world.sessions.outcomes(OTHER) == {"k": "SUCCEEDED"})
