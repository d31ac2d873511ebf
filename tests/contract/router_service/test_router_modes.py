"""What becomes of messages for a session that is working: handed over, collected, or waiting after all."""

import asyncio

import pytest
from router_world import Worker, draft, send, until

from mobot.router.v1 import message_pb2, router_service_pb2

A = "bots/main/sessions/a"
OTHER = "bots/other/sessions/x"
STEER, COLLECT = message_pb2.BUSY_MODE_STEER, message_pb2.BUSY_MODE_COLLECT


async def message_of(stub, run):
    return (await stub.GetMessage(router_service_pb2.GetMessageRequest(run=run))).message


async def state_of(stub, run):
    return message_pb2.MessageState.Name((await message_of(stub, run)).state).removeprefix("MESSAGE_STATE_")


async def steered(stub, worker, **fields):
    """A running turn (run "k") to which the message of the run "s" was handed."""
    await send(stub, "long", idempotency_key="k")
    delivery = await worker.delivery()
    await send(stub, "and mind the step", mode=STEER, idempotency_key="s", **fields)
    return delivery, await worker.steering()


async def joined(stub, worker, **fields):
    delivery, steering = await steered(stub, worker, **fields)
    await worker.take_in(steering)
    await wait_for_state(stub, "s", "RUNNING")
    return delivery


async def wait_for_state(stub, run, state):
    while await state_of(stub, run) != state:  # noqa: ASYNC110 - what changes is in the service
        await asyncio.sleep(0.002)


async def test_a_steered_message_is_handed_to_the_running_turn_and_ends_with_it(world, stub):
    worker = await Worker(stub).start()
    delivery, steering = await steered(stub, worker)
    assert (steering.run, steering.epoch) == ("k", delivery.epoch)
    assert steering.message.draft.parts[0].text == "and mind the step"
    assert world.sessions.events[A][steering.sequence - 1].message.parts[0].text == "and mind the step"
    assert await state_of(stub, "s") == "QUEUED"
    await worker.take_in(steering)
    await wait_for_state(stub, "s", "RUNNING")
    assert (await message_of(stub, "s")).joined_run == "k"
    await worker.complete(delivery, "done, both")
    await until(lambda: world.sessions.outcomes(A) == {"s": "SUCCEEDED", "k": "SUCCEEDED"})
    assert (await message_of(stub, "s")).reply_text == "done, both"
    ids = world.sessions.ids(A)
    assert ids.index("run/s/finished") < ids.index("run/k/finished")
    assert worker.deliveries.empty()


async def test_a_steered_message_that_was_not_taken_in_gets_a_turn_of_its_own(world, stub):
    worker = await Worker(stub).start()
    delivery, _ = await steered(stub, worker)
    await worker.complete(delivery)
    own = await worker.delivery()
    assert (own.message.run, own.attempt) == ("s", 1)
    await worker.complete(own)
    await until(lambda: len(world.sessions.outcomes(A)) == 2)
    assert sum(event_id.startswith("message/") for event_id in world.sessions.ids(A)) == 2
    assert (await message_of(stub, "s")).joined_run == ""


async def test_steering_waits_like_any_message_when_nothing_runs(stub):
    await send(stub, "first", mode=STEER, idempotency_key="s")
    worker = await Worker(stub).start()
    delivery = await worker.delivery()
    assert (delivery.message.run, delivery.message.draft.mode) == ("s", STEER)
    assert worker.steerings.empty()


async def test_what_joined_a_turn_is_handed_on_with_it_when_it_is_tried_again(world, stub):
    worker = await Worker(stub).start()
    delivery = await joined(stub, worker)
    await worker.fail(delivery, retryable=True)
    assert await state_of(stub, "s") == "QUEUED"
    await world.advance(61)
    again = await worker.delivery()
    assert (again.message.run, again.attempt) == ("k", 2)
    assert [(m.run, m.joined_run, m.draft.parts[0].text) for m in again.collected] == [("s", "k", "and mind the step")]
    await worker.complete(again)
    await until(lambda: world.sessions.outcomes(A) == {"s": "SUCCEEDED", "k": "SUCCEEDED"})
    assert worker.deliveries.empty()


async def test_what_was_not_taken_in_is_handed_over_again_at_the_next_attempt(world, stub):
    worker = await Worker(stub).start()
    delivery, _ = await steered(stub, worker)
    await worker.fail(delivery, retryable=True)
    await world.advance(61)
    again = await worker.delivery()
    steering = await worker.steering()
    assert (steering.run, steering.epoch, steering.message.run) == ("k", again.epoch, "s")
    await worker.take_in(steering)
    await wait_for_state(stub, "s", "RUNNING")
    await worker.complete(again)
    assert await state_of(stub, "s") == "SUCCEEDED"


async def test_a_joined_message_shares_the_turns_bad_end(world, stub):
    worker = await Worker(stub).start()
    delivery = await joined(stub, worker)
    await worker.fail(delivery)
    assert [await state_of(stub, run) for run in "ks"] == ["FAILED", "FAILED"]
    await until(lambda: world.sessions.outcomes(A) == {"s": "FAILED", "k": "FAILED"})


async def test_cancelling_a_joined_message_stops_the_turn_it_is_part_of(stub):
    worker = await Worker(stub).start()
    delivery = await joined(stub, worker)
    answer = await stub.CancelRun(router_service_pb2.CancelRunRequest(run="s"))
    assert list(answer.cancelled_runs) == ["s"]
    assert (await worker.cancellations.get()).run == "k"
    await worker.fail(delivery, cancelled=True)
    assert [await state_of(stub, run) for run in "ks"] == ["CANCELLED", "CANCELLED"]


async def test_a_joined_message_that_expires_leaves_the_turn_alone(world, stub):
    worker = await Worker(stub).start()
    draft_expiry = message_pb2.MessageDraft()
    draft_expiry.expire_time.FromDatetime(world.clock.now())
    draft_expiry.expire_time.seconds += 30
    delivery = await joined(stub, worker, expire_time=draft_expiry.expire_time)
    await world.advance(31)
    assert await state_of(stub, "s") == "EXPIRED"
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED
    assert await state_of(stub, "s") == "EXPIRED"


async def test_each_message_of_a_turn_is_answered_to_its_own_sender(world, stub):
    worker = await Worker(stub, bots=["bots/main", "bots/other"]).start()
    delivery = await joined(stub, worker, source=OTHER, reply_to=OTHER)
    await worker.complete(delivery, "here you are")
    reply = await worker.delivery()
    assert (reply.session, reply.message.run) == (OTHER, "reply/s")
    assert (await message_of(stub, "s")).reply_message == reply.message.name


async def test_a_turn_taken_over_after_a_restart_still_answers_what_joined_it(world, stub):
    worker = await Worker(stub).start()
    delivery = await joined(stub, worker, source=OTHER, reply_to=OTHER)
    await world.restart()
    stub = world.stub()
    back = await Worker(stub, bots=["bots/main", "bots/other"], held=[("k", delivery.epoch)]).start()
    await back.complete(delivery, "here you are")
    assert (await back.delivery()).message.run == "reply/s"


async def test_messages_to_collect_are_worked_on_in_one_turn(world, stub):
    for number in range(3):
        await send(stub, f"part {number}", mode=COLLECT, idempotency_key=f"c{number}")
    await send(stub, "apart", idempotency_key="apart")
    await send(stub, "late", mode=COLLECT, idempotency_key="late")
    worker = await Worker(stub).start()
    delivery = await worker.delivery()
    assert delivery.message.run == "c0"
    assert [(m.run, m.draft.parts[0].text) for m in delivery.collected] == [("c1", "part 1"), ("c2", "part 2")]
    ids = world.sessions.ids(A)
    assert ids.index("run/c0/started/1") > max(n for n, each in enumerate(ids) if each.startswith("message/"))
    await worker.complete(delivery, "all of it")
    assert (await message_of(stub, "c2")).reply_text == "all of it"
    following = await worker.delivery()
    assert (following.message.run, len(following.collected)) == ("apart", 0)
    await worker.complete(following)
    assert (await worker.delivery()).message.run == "late"
    await until(lambda: all(world.sessions.outcomes(A).get(f"c{n}") == "SUCCEEDED" for n in range(3)))


async def test_what_is_collected_while_a_turn_runs_makes_the_next_turn(stub):
    worker = await Worker(stub).start()
    await send(stub, "long", idempotency_key="k")
    delivery = await worker.delivery()
    for number in range(3):
        await send(stub, mode=COLLECT, idempotency_key=f"c{number}")
    await worker.complete(delivery)
    following = await worker.delivery()
    assert [following.message.run, *(m.run for m in following.collected)] == ["c0", "c1", "c2"]


async def test_a_collected_turn_stays_together_when_its_worker_dies(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await worker.delivery()
    await worker.cut()
    for number in range(2):
        await send(stub, mode=COLLECT, idempotency_key=f"c{number}")
    await world.restart()
    stub = world.stub()
    worker = await Worker(stub, name="workers/w2").start()
    await world.advance(16)
    await worker.complete(await worker.delivery())
    first = await worker.delivery()
    await worker.send(drain=True)
    await until(lambda: any(a.draining for a in world.router._dispatcher.current_attachments()))
    await worker.cut()
    other = await Worker(stub, name="workers/w3").start()
    again = await other.delivery()
    assert (again.message.run, again.attempt, [m.run for m in again.collected]) == ("c0", 2, ["c1"])
    assert again.epoch > first.epoch
    await other.complete(again)
    assert [await state_of(stub, run) for run in ("c0", "c1")] == ["SUCCEEDED", "SUCCEEDED"]


async def test_a_turn_collects_no_more_than_its_limit(stub):
    for number in range(70):
        await send(stub, mode=COLLECT, idempotency_key=f"c{number}")
    worker = await Worker(stub).start()
    first = await worker.delivery()
    assert len(first.collected) == 63
    await worker.complete(first)
    assert len((await worker.delivery()).collected) == 5


@pytest.mark.parametrize("mode", [STEER, COLLECT])
async def test_a_waiting_message_of_any_mode_is_cancelled_at_once(stub, mode):
    await send(stub, mode=mode, idempotency_key="k")
    answer = await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert list(answer.cancelled_runs) == ["k"]
    await send(stub, mode=mode, idempotency_key="next")
    worker = await Worker(stub).start()
    assert (await worker.delivery()).message.run == "next"


async def test_a_turn_takes_in_what_was_handed_to_it_before_the_router_was_started_again(world):
    worker = await Worker(world.stub()).start()
    delivery, steering = await steered(world.stub(), worker, reply_to="bots/main/sessions/asker")
    await worker.cut()
    await world.restart()
    back = await Worker(world.stub(), held=[("k", delivery.epoch)]).start()
    assert [held.run for held in back.welcome.confirmed_leases] == ["k"]
    await back.take_in(steering)
    receipt = await back.remember(delivery, "taken")  # what stands before it is durable as well
    assert not receipt.HasField("refusal")
    assert await state_of(world.stub(), "s") == "RUNNING"
    await back.complete(delivery, "done, both")
    assert [await state_of(world.stub(), run) for run in "ks"] == ["SUCCEEDED", "SUCCEEDED"]
    reply = await back.delivery()
    assert (reply.session, reply.message.draft.parts[0].text) == ("bots/main/sessions/asker", "done, both")


async def test_an_interruption_ends_the_turn_and_what_joined_it(stub):
    worker = await Worker(stub).start()
    delivery = await joined(stub, worker)
    await send(stub, "stop that", mode=message_pb2.BUSY_MODE_INTERRUPT, idempotency_key="now")
    assert (await worker.cancellations.get()).run == "k"
    await worker.fail(delivery, cancelled=True)
    assert [await state_of(stub, run) for run in "ks"] == ["CANCELLED", "CANCELLED"]
    assert (await worker.delivery()).message.run == "now"


async def test_mail_to_a_new_session_of_a_bot_goes_to_the_same_one_when_it_is_repeated(stub):
    made = draft(session="", bot="bots/main", new_session=True, idempotency_key="k")
    request = router_service_pb2.SendMessageRequest(message=made)
    first = (await stub.SendMessage(request)).receipt
    assert first.session.startswith("bots/main/sessions/mail:")
    again = (await stub.SendMessage(request)).receipt
    assert (again.session, again.duplicate) == (first.session, True)
    made.ClearField("idempotency_key")
    others = {
        (await stub.SendMessage(router_service_pb2.SendMessageRequest(message=made))).receipt.session for _ in "ab"
    }
    assert len(others | {first.session}) == 3
