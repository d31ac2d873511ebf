"""What a run hands on to its next attempt, and runs that wait for a person."""

import asyncio

import grpc
import grpc.aio
import pytest
from router_world import Worker, send, until

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2

A = "bots/main/sessions/a"
ONCE = event_pb2.TOOL_EFFECT_ONCE


async def message_of(stub, run):
    return (await stub.GetMessage(router_service_pb2.GetMessageRequest(run=run))).message


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def ask(worker, delivery, *choices):
    failure = message_pb2.Failure(run=delivery.message.run, epoch=delivery.epoch)
    failure.decision_request.question = "Was the letter sent?"
    failure.decision_request.choices.extend(choices)
    failure.decision_request.call_id = "call-1"
    await worker.send(failures=[failure])
    return await worker.settlement()


def resolve(stub, answer, **fields):
    request = router_service_pb2.ResolveRunRequest(run="k", **fields)
    request.decision.answer = answer
    return stub.ResolveRun(request)


async def test_remembered_steps_are_handed_to_the_next_attempt_in_order(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    assert not delivery.steps
    for name in ("fetch", "book"):
        receipt = await worker.remember(delivery, name, name.upper().encode(), ONCE)
        assert (receipt.step, receipt.duplicate, receipt.HasField("refusal")) == (name, False, False)
    await worker.fail(delivery, retryable=True)
    await world.advance(61)
    again = await worker.delivery()
    assert [(step.step, step.result, step.effect) for step in again.steps] == [
        ("fetch", b"FETCH", ONCE),
        ("book", b"BOOK", ONCE),
    ]
    receipt = await worker.remember(again, "fetch", b"something else")
    assert receipt.duplicate
    await worker.fail(again, retryable=True)
    await world.advance(61)
    assert (await worker.delivery()).steps[0].result == b"FETCH"


async def test_steps_survive_the_router_and_the_worker(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.remember(delivery, "book", b"done")
    await world.crash()
    await world.start_router()
    other = await Worker(world.stub(), name="workers/w2").start()
    await world.advance(16)
    again = await other.delivery()
    assert (again.attempt, [step.result for step in again.steps]) == (2, [b"done"])
    await other.complete(again)


async def test_a_worker_that_lost_its_lease_remembers_nothing(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    await world.advance(6)
    assert (await worker.remember(delivery, "late")).refusal.reason == "LEASE_LOST"


async def test_bad_steps_are_refused_one_by_one(stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    assert (await worker.remember(delivery, "")).refusal.reason == "FIELD_INVALID"
    assert (await worker.remember(delivery, "big", b"x" * (256 * 1024 + 1))).refusal.reason == "FIELD_INVALID"
    assert not (await worker.remember(delivery, "good")).HasField("refusal")


async def test_a_run_remembers_no_more_than_its_limit(stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    kept = [message_pb2.RunStep(run="k", epoch=delivery.epoch, step=f"s{n}") for n in range(1_001)]
    await worker.send(steps=kept)
    receipts = [await asyncio.wait_for(worker.receipts.get(), 40) for _ in kept]
    assert [receipt.refusal.reason for receipt in receipts if receipt.HasField("refusal")] == ["STEPS_FULL"]


async def test_a_worker_that_pulls_remembers_with_its_extension_and_hears_of_a_cancellation(stub):
    await send(stub, idempotency_key="k")
    pull = router_service_pb2.PullDeliveriesRequest(worker="workers/p", bots=["bots/main"])
    (delivery,) = (await stub.PullDeliveries(pull)).deliveries
    request = router_service_pb2.ExtendDeliveryRequest()
    request.extension.run, request.extension.epoch = "k", delivery.epoch
    request.steps.add(run="k", epoch=delivery.epoch, step="book", result=b"done")
    answer = await stub.ExtendDelivery(request)
    assert (answer.cancel_requested, [receipt.step for receipt in answer.step_receipts]) == (False, ["book"])
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    assert (await stub.ExtendDelivery(request)).cancel_requested


async def test_a_run_in_doubt_waits_visibly_for_a_person_and_the_queue_goes_on(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await send(stub, "next", idempotency_key="next")
    settlement = await ask(worker, await worker.delivery(), "yes", "no")
    assert settlement.state == message_pb2.MESSAGE_STATE_NEEDS_DECISION
    following = await worker.delivery()
    assert following.message.run == "next"
    await worker.complete(following)
    request = router_service_pb2.ListMessagesRequest()
    request.filter.states.append(message_pb2.MESSAGE_STATE_NEEDS_DECISION)
    (listed,) = (await stub.ListMessages(request)).messages
    assert listed.decision_request.question == "Was the letter sent?"
    assert list(listed.decision_request.choices) == ["yes", "no"]
    await until(lambda: "run/k/question/1" in world.sessions.ids(A))
    question = next(e for e in world.sessions.events[A] if e.id == "run/k/question/1")
    assert question.decision_requested.call_id == "call-1"
    waited = await stub.WaitRun(router_service_pb2.WaitRunRequest(run="next"))
    assert waited.done


async def test_a_decision_brings_the_run_back_with_the_answer_and_its_steps(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k", max_attempts=1)
    delivery = await worker.delivery()
    await worker.remember(delivery, "fetch", b"x")
    await ask(worker, delivery, "yes", "no")
    assert await reason_of(resolve(stub, "perhaps")) == "FIELD_INVALID"
    answer = await resolve(stub, "yes", request_id="r")
    assert answer.message.decision.answer == "yes"
    again = await worker.delivery()
    assert (again.message.run, again.attempt, again.decision.answer) == ("k", 2, "yes")
    assert (again.decision.call_id, again.decision.actor) == ("call-1", "operators/root")
    assert [step.step for step in again.steps] == ["fetch"]
    repeated = await resolve(stub, "yes", request_id="r")
    assert repeated.message.run == "k"
    await worker.complete(again)
    assert await reason_of(resolve(stub, "no")) == "NO_DECISION_PENDING"
    await until(lambda: world.sessions.outcomes(A) == {"k": "SUCCEEDED"})


async def test_of_many_who_decide_at_once_one_prevails_however_often_the_others_repeat_themselves(stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await ask(worker, await worker.delivery(), "yes", "no")

    async def decide(number):
        answer = ("yes", "no")[number % 2]
        try:
            message = (await resolve(stub, answer, request_id=f"r{number}")).message
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
        assert message.run == "k"
        return answer

    for _ in range(2):  # who heard nothing says it again
        told = await asyncio.gather(*map(decide, range(8)))
        assert sorted(told)[:7] == ["NO_DECISION_PENDING"] * 7
    (prevailed,) = [each for each in told if each != "NO_DECISION_PENDING"]
    assert (await worker.delivery()).decision.answer == prevailed


async def test_a_bot_does_not_decide_for_itself(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await ask(worker, await worker.delivery())
    bot = world.stub(principal="bots/main")
    assert await reason_of(resolve(bot, "yes")) == "CALLER_NOT_ALLOWED"


async def test_a_question_survives_a_crash_and_is_told_once(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    world.sessions.down = True
    await ask(worker, delivery)
    await world.crash()
    world.sessions.down = False
    await world.start_router()
    await until(lambda: world.sessions.ids(A).count("run/k/question/1") == 1)
    other = await Worker(world.stub(), name="workers/w2").start()
    await resolve(world.stub(), "anything")
    assert (await other.delivery()).decision.answer == "anything"


async def test_a_run_that_waits_for_a_person_can_be_cancelled(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await ask(worker, await worker.delivery())
    answer = await stub.CancelRun(router_service_pb2.CancelRunRequest(session=A, include_queued=True))
    assert list(answer.cancelled_runs) == ["k"]
    assert (await message_of(stub, "k")).state == message_pb2.MESSAGE_STATE_CANCELLED
    await until(lambda: world.sessions.outcomes(A) == {"k": "CANCELLED"})


async def test_a_question_is_given_up_when_the_message_expires(world, stub):
    worker = await Worker(stub).start()
    deadline = message_pb2.MessageDraft()
    deadline.expire_time.FromDatetime(world.clock.now())
    deadline.expire_time.seconds += 30
    await send(stub, idempotency_key="k", expire_time=deadline.expire_time)
    await ask(worker, await worker.delivery())
    await world.advance(31)
    assert (await message_of(stub, "k")).state == message_pb2.MESSAGE_STATE_EXPIRED


async def test_what_joined_a_run_in_doubt_gets_a_turn_of_its_own(stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await send(stub, idempotency_key="s", mode=message_pb2.BUSY_MODE_STEER)
    await worker.take_in(await worker.steering())
    await ask(worker, delivery)
    assert (await worker.delivery()).message.run == "s"
