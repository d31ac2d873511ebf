"""Messages on their way from a sender to a worker and to their end."""

import asyncio

from router_world import Worker, draft, send, until

from mobot.router.v1 import message_pb2, router_service_pb2

A = "bots/main/sessions/a"


async def test_a_message_is_delivered_and_completed(world, stub):
    worker = await Worker(stub).start()
    receipt = await send(stub, "hi", idempotency_key="k1", user_input=True)
    assert receipt.run == "k1"
    delivery = await worker.delivery()
    assert delivery.message.draft.parts[0].text == "hi"
    assert (delivery.session, delivery.epoch, delivery.attempt, delivery.sequence) == (A, 1, 1, 1)
    settlement = await worker.complete(delivery, "hello to you")
    assert settlement.state == message_pb2.MESSAGE_STATE_SUCCEEDED
    await until(lambda: world.sessions.outcomes(A) == {"k1": "SUCCEEDED"})
    message_id = receipt.message.removeprefix("messages/")
    assert world.sessions.ids(A) == [f"message/{message_id}", "run/k1/started/1", "run/k1/finished"]
    got = await stub.WaitRun(router_service_pb2.WaitRunRequest(run="k1"))
    assert got.done
    assert got.message.reply_text == "hello to you"


async def test_messages_of_a_session_are_worked_on_one_at_a_time_and_in_order(world, stub):
    worker = await Worker(stub).start()
    for number in range(5):
        await send(stub, str(number))
    for number in range(5):
        delivery = await worker.delivery()
        assert delivery.message.draft.parts[0].text == str(number)
        assert worker.deliveries.empty()
        await worker.complete(delivery)


async def test_a_sleeping_bot_gets_its_mail_when_a_worker_attaches(world, stub):
    for number in range(3):
        await send(stub, session=f"bots/main/sessions/s{number}")
    worker = await Worker(stub).start()
    sessions = {(await worker.delivery()).session for _ in range(3)}
    assert sessions == {f"bots/main/sessions/s{number}" for number in range(3)}


async def test_a_stream_of_messages_gets_outcomes_in_order(world, stub):
    call = stub.Send()
    await call.write(router_service_pb2.SendRequest())
    assert (await call.read()).credit > 0
    await call.write(
        router_service_pb2.SendRequest(
            first_number=1,
            messages=[draft("1"), draft("2", session="bots/nosuch/sessions/x"), draft("3"), draft("", "bad")],
        )
    )
    outcomes = []
    while len(outcomes) < 4:
        outcomes.extend((await call.read()).outcomes)
    assert [outcome.number for outcome in outcomes] == [1, 2, 3, 4]
    assert outcomes[1].refusal.reason == "BOT_NOT_FOUND"
    assert outcomes[3].refusal.reason == "RESOURCE_NAME_INVALID"
    assert outcomes[0].receipt.queue_position == 0
    assert outcomes[2].receipt.queue_position == 1
    await call.done_writing()
    await asyncio.wait_for(call.read(), 60)
