"""How runs end: retries, dead letters, cancelling, replies."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf import timestamp_pb2
from prometheus_client import CollectorRegistry
from router_world import Worker, draft, send, until

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2

A = "bots/main/sessions/a"
B = "bots/main/sessions/b"
OTHER = "bots/other/sessions/x"


async def state_of(stub, run):
    got = await stub.GetMessage(router_service_pb2.GetMessageRequest(run=run))
    return message_pb2.MessageState.Name(got.message.state).removeprefix("MESSAGE_STATE_")


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def use_up(world, worker, attempts):
    for _ in range(attempts):
        delivery = await worker.delivery()
        await worker.fail(delivery, retryable=True)
        await world.advance(61)
    return delivery


async def test_a_failed_attempt_is_tried_again_after_a_wait_and_the_queue_waits_with_it(world, stub):
    worker = await Worker(stub).start()
    await send(stub, "first", idempotency_key="k")
    await send(stub, "second")
    delivery = await worker.delivery()
    failure = message_pb2.Failure(run="k", epoch=delivery.epoch, retryable=True)
    failure.retry_delay.seconds = 30
    failure.error.reason = "MODEL_UNREACHABLE"
    await worker.send(failures=[failure])
    assert (await worker.settlement()).state == message_pb2.MESSAGE_STATE_QUEUED
    await world.advance(29)
    assert worker.deliveries.empty()
    got = await stub.GetMessage(router_service_pb2.GetMessageRequest(run="k"))
    assert got.message.last_error.reason == "MODEL_UNREACHABLE"
    assert got.message.HasField("next_attempt_time")
    await world.advance(2)
    again = await worker.delivery()
    assert (again.message.run, again.attempt, again.epoch) == ("k", 2, 2)
    await worker.complete(again)
    assert (await worker.delivery()).message.draft.parts[0].text == "second"
    ids = world.sessions.ids(A)
    assert ids.index("run/k/retrying/1") < ids.index("run/k/started/2") < ids.index("run/k/finished")


async def test_what_is_tried_again_goes_before_mail_of_a_higher_priority(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await worker.fail(await worker.delivery(), retryable=True)
    await send(stub, idempotency_key="high", priority=9)
    await world.advance(61)
    again = await worker.delivery()
    assert (again.message.run, again.attempt) == ("k", 2)
    await worker.complete(again)
    assert (await worker.delivery()).message.run == "high"


async def test_an_expiry_ends_a_turn_too(world, stub):
    worker = await Worker(stub).start()
    at = timestamp_pb2.Timestamp()
    at.FromDatetime(world.clock.now() + timedelta(seconds=30))
    await send(stub, idempotency_key="k", expire_time=at)
    await send(stub, idempotency_key="next")
    delivery = await worker.delivery()
    await world.advance(31)
    told = await asyncio.wait_for(worker.cancellations.get(), 60)
    assert (told.run, told.epoch, told.lease_lost) == ("k", delivery.epoch, True)
    assert (await worker.delivery()).message.run == "next"
    assert (await worker.complete(delivery)).refusal.reason == "RUN_ENDED"


async def test_a_permanent_failure_is_final_and_the_queue_goes_on(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await send(stub, "next")
    assert (await worker.fail(await worker.delivery())).state == message_pb2.MESSAGE_STATE_FAILED
    assert (await worker.delivery()).message.draft.parts[0].text == "next"
    await until(lambda: world.sessions.outcomes(A) == {"k": "FAILED"})


async def test_attempts_that_are_used_up_make_a_dead_letter_and_the_queue_goes_on(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k", max_attempts=3)
    await send(stub, "next")
    await use_up(world, worker, 3)
    assert (await worker.delivery()).message.draft.parts[0].text == "next"
    assert world.sessions.outcomes(A) == {"k": "DEAD_LETTERED"}
    dead = await stub.ListDeadLetters(router_service_pb2.ListDeadLettersRequest())
    assert [(message.run, message.attempts) for message in dead.messages] == [("k", 3)]


async def test_a_redriven_dead_letter_gets_fresh_attempts_and_is_not_told_twice(world, stub):
    worker = await Worker(stub).start()
    receipt = await send(stub, "poison", idempotency_key="k", max_attempts=1)
    await use_up(world, worker, 1)
    request = router_service_pb2.RedriveDeadLettersRequest(messages=[receipt.message], request_id="r1")
    assert (await stub.RedriveDeadLetters(request)).redriven_count == 1
    assert (await stub.RedriveDeadLetters(request)).redriven_count == 1
    again = await worker.delivery()
    assert again.message.run != "k"
    assert (again.message.draft.parts[0].text, again.attempt) == ("poison", 1)
    await worker.complete(again)
    await until(lambda: len(world.sessions.outcomes(A)) == 2)
    assert world.sessions.outcomes(A) == {"k": "DEAD_LETTERED", again.message.run: "SUCCEEDED"}
    assert sum(event_id.startswith("message/") for event_id in world.sessions.ids(A)) == 1
    assert not (await stub.ListDeadLetters(router_service_pb2.ListDeadLettersRequest())).messages
    request.request_id = ""
    assert await reason_of(stub.RedriveDeadLetters(request)) == "NOT_DEAD_LETTERED"
    duplicate = await send(stub, "poison", idempotency_key="k", max_attempts=1)
    assert duplicate.duplicate


async def test_dead_letters_are_discarded_by_a_filter(world, stub):
    worker = await Worker(stub).start()
    for number in range(3):
        await send(stub, session=f"bots/main/sessions/s{number}", max_attempts=1)
        await worker.fail(await worker.delivery(), retryable=True)
    request = router_service_pb2.DiscardDeadLettersRequest()
    assert await reason_of(stub.DiscardDeadLetters(request)) == "FIELD_INVALID"
    request.filter.bot = "bots/main"
    assert (await stub.DiscardDeadLetters(request)).discarded_count == 3
    assert not (await stub.ListDeadLetters(router_service_pb2.ListDeadLettersRequest())).messages


async def test_a_waiting_message_is_cancelled_at_once_and_the_transcript_shows_it(world, stub):
    await send(stub, "never mind", idempotency_key="k")
    answer = await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert list(answer.cancelled_runs) == ["k"]
    assert await state_of(stub, "k") == "CANCELLED"
    await until(lambda: world.sessions.outcomes(A) == {"k": "CANCELLED"})
    assert [event_id.partition("/")[0] for event_id in world.sessions.ids(A)] == ["message", "run"]
    again = await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert not again.cancelled_runs
    worker = await Worker(stub).start()
    await send(stub, "other")
    assert (await worker.delivery()).message.draft.parts[0].text == "other"


async def test_a_running_worker_is_told_to_stop(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.send(begun=[message_pb2.HeldLease(run="k", epoch=delivery.epoch)])
    await until(lambda: True)
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k", reason="enough"))
    told = await asyncio.wait_for(worker.cancellations.get(), 60)
    assert (told.run, told.epoch, told.reason, told.lease_lost) == ("k", 1, "enough", False)
    settlement = await worker.fail(delivery, cancelled=True)
    assert settlement.state == message_pb2.MESSAGE_STATE_CANCELLED
    await until(lambda: world.sessions.outcomes(A) == {"k": "CANCELLED"})


async def test_a_worker_that_ignores_a_cancellation_loses_its_lease(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await send(stub, "next")
    delivery = await worker.delivery()
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert not (await worker.cancellations.get()).lease_lost
    await world.advance(6)
    assert (await worker.cancellations.get()).lease_lost
    assert (await worker.delivery()).message.draft.parts[0].text == "next"
    assert (await worker.complete(delivery)).refusal.reason == "RUN_ENDED"
    await until(lambda: world.sessions.outcomes(A) == {"k": "CANCELLED"})
    assert world.sessions.marks[A] > delivery.epoch


async def test_a_run_that_completes_in_spite_of_its_cancellation_has_succeeded(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED
    await world.advance(10)
    await until(lambda: world.sessions.outcomes(A))  # ends wait some milliseconds for company
    assert world.sessions.outcomes(A) == {"k": "SUCCEEDED"}


async def test_everything_of_a_session_is_cancelled(world, stub):
    worker = await Worker(stub).start()
    for number in range(3):
        await send(stub, idempotency_key=f"k{number}")
    await worker.delivery()
    answer = await stub.CancelRun(router_service_pb2.CancelRunRequest(session=A, include_queued=True))
    assert sorted(answer.cancelled_runs) == ["k0", "k1", "k2"]


async def test_a_message_interrupts_the_running_one(world, stub):
    worker = await Worker(stub).start()
    await send(stub, "long", idempotency_key="k")
    await send(stub, "waits")
    delivery = await worker.delivery()
    await send(stub, "now", mode=message_pb2.BUSY_MODE_INTERRUPT)
    assert (await worker.cancellations.get()).run == "k"
    await worker.fail(delivery, cancelled=True)
    assert (await worker.delivery()).message.draft.parts[0].text == "now"


async def test_a_reply_is_mail_to_the_sender_in_the_same_commit(world, stub):
    worker = await Worker(stub, bots=["bots/main", "bots/other"]).start()
    await send(stub, "what is it?", session=OTHER, source=A, reply_to=A, correlation_id="c", idempotency_key="k")
    asked = await worker.delivery()
    await worker.complete(asked, "it is 42")
    reply = await worker.delivery()
    assert reply.session == A
    sent = reply.message.draft
    assert sent.parts[0].text == "it is 42"
    assert (sent.source, sent.correlation_id, sent.hop_count) == (OTHER, "c", 1)
    assert sent.in_reply_to == asked.message.name.removeprefix("messages/")
    assert reply.message.run == "reply/k"
    got = await stub.GetMessage(router_service_pb2.GetMessageRequest(run="k"))
    assert got.message.reply_message == reply.message.name
    await worker.complete(reply, "thank you")
    event = world.sessions.events[A][0]
    assert event.message.inter_session


async def test_mail_of_an_outbox_is_sent_with_the_completion(world, stub):
    worker = await Worker(stub, bots=["bots/main", "bots/other"]).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.complete(delivery, outbox=[draft("hi", OTHER), draft("ho", OTHER)])
    first = await worker.delivery()
    assert (first.message.run, first.message.draft.source) == ("outbox/k/0", A)
    await worker.complete(first)
    assert (await worker.delivery()).message.draft.parts[0].text == "ho"


async def test_a_bad_outbox_refuses_the_completion_and_the_lease_lives(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    settlement = await worker.complete(delivery, outbox=[draft("hi", "bots/nosuch/sessions/x")])
    assert settlement.refusal.reason == "BOT_NOT_FOUND"
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


async def test_whoever_asks_gets_the_answer_and_no_mail(world, stub):
    worker = await Worker(stub, bots=["bots/other"]).start()
    request = router_service_pb2.AskMessageRequest(message=draft("?", OTHER, source=A))
    asking = asyncio.ensure_future(stub.AskMessage(request))
    await worker.complete(await worker.delivery(), "!")
    answer = await asyncio.wait_for(asking, 60)
    assert answer.message.reply_text == "!"
    request = router_service_pb2.ListMessagesRequest()
    request.filter.session = A
    assert not (await stub.ListMessages(request)).messages


async def test_a_late_answer_lands_in_the_mailbox(world, stub):
    worker = await Worker(stub, bots=["bots/main", "bots/other"]).start()
    request = router_service_pb2.AskMessageRequest(message=draft("?", OTHER, source=A))
    request.timeout.nanos = 50_000_000
    delivery = None
    asking = asyncio.ensure_future(stub.AskMessage(request))
    delivery = await worker.delivery()
    assert await reason_of(asking) == "REPLY_TIMEOUT"
    await worker.complete(delivery, "at last")
    late = await worker.delivery()
    assert (late.session, late.message.draft.parts[0].text) == (A, "at last")


async def test_an_answer_lands_in_the_mailbox_when_the_router_that_was_asked_died(world, stub):
    worker = await Worker(stub, bots=["bots/main", "bots/other"]).start()
    request = router_service_pb2.AskMessageRequest(message=draft("?", OTHER, source=A, idempotency_key="q"))
    request.timeout.seconds = 30
    asking = asyncio.ensure_future(stub.AskMessage(request))
    delivery = await worker.delivery()
    await world.crash()
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await asking
    with contextlib.closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as store, store:
        # As a process that is killed leaves it, which has no time to say that nobody waits any more.
        store.execute("UPDATE message SET ask_until = create_time + 31000000 WHERE run = 'q'")
    await world.start_router()
    back = await Worker(world.stub(), bots=["bots/main", "bots/other"], held=[("q", delivery.epoch)]).start()
    await world.advance(60)  # nobody waits any more
    await back.complete(delivery, "at last")
    late = await back.delivery()
    assert (late.session, late.message.draft.parts[0].text) == (A, "at last")


async def test_waiting_returns_when_the_time_is_over_too(world, stub):
    await send(stub, idempotency_key="k")
    request = router_service_pb2.WaitRunRequest(run="k")
    request.timeout.nanos = 20_000_000
    assert not (await stub.WaitRun(request)).done
    assert await reason_of(stub.WaitRun(router_service_pb2.WaitRunRequest(run="nosuch"))) == "MESSAGE_NOT_FOUND"


async def test_a_settlement_that_was_not_heard_is_answered_again(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.complete(delivery)
    again = await worker.complete(delivery)
    assert (again.state, again.HasField("refusal")) == (message_pb2.MESSAGE_STATE_SUCCEEDED, False)


async def test_mail_to_a_deleted_session_is_rejected(world, stub):
    world.sessions.refused[A] = "SESSION_DELETED"
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    answer = await stub.WaitRun(router_service_pb2.WaitRunRequest(run="k"))
    assert answer.message.state == message_pb2.MESSAGE_STATE_REJECTED
    assert answer.message.last_error.reason == "SESSION_DELETED"
    assert worker.deliveries.empty()


async def test_a_log_that_knows_a_higher_epoch_raises_ours(world, stub):
    world.sessions.marks[A] = 41
    worker = await Worker(stub).start()
    await send(stub)
    delivery = await worker.delivery()
    assert delivery.epoch == 42
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


async def test_nothing_is_lost_while_the_session_service_is_away(world, stub):
    world.sessions.down = True
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await until(lambda: world.sessions.calls >= 2)
    assert worker.deliveries.empty()
    world.sessions.down = False
    await worker.complete(await worker.delivery())
    await until(lambda: world.sessions.outcomes(A) == {"k": "SUCCEEDED"})


async def test_the_end_of_a_run_stands_before_the_start_of_the_next(world, stub):
    worker = await Worker(stub).start()
    for number in range(5):
        await send(stub, idempotency_key=f"k{number}")
    for _ in range(5):
        await worker.complete(await worker.delivery())
    await until(lambda: len(world.sessions.outcomes(A)) == 5)
    ids = [event_id for event_id in world.sessions.ids(A) if event_id.startswith("run/")]
    assert ids == [f"run/k{n}/{what}" for n in range(5) for what in ("started/1", "finished")]


async def test_what_becomes_of_mail_is_counted(world, stub):
    worker = await Worker(stub).start()
    await send(stub, max_attempts=2)
    await worker.fail(await worker.delivery(), retryable=True)
    await world.advance(61)
    await worker.fail(await worker.delivery(), retryable=True)
    await send(stub)
    await worker.complete(await worker.delivery())
    await send(stub, session=B)
    await worker.delivery()
    registry = CollectorRegistry()
    registry.register(world.router.meters)

    def value(name, **labels):
        return registry.get_sample_value(f"mail_{name}", labels)

    assert [value("runs_ended_total", state=state) for state in ("SUCCEEDED", "DEAD_LETTERED", "FAILED")] == [1, 1, 0]
    assert [value("leases_total"), value("retries_total"), value("in_flight"), value("workers")] == [4, 1, 1, 1]
