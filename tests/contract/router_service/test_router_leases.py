"""Leases: credit, fencing, expiry, and workers that come back."""

import asyncio
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf import timestamp_pb2
from router_world import Worker, draft, send, until

from chassis.identity import CURRENT_CALLER, Caller
from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2

A = "bots/main/sessions/a"
B = "bots/main/sessions/b"


async def waiting(world, stub):
    """How many messages are leased, and so delivered, to nobody once all that was sent is looked at."""
    await world.router._store.settle()
    queued = router_service_pb2.ListMessagesRequest()
    queued.filter.states.append(message_pb2.MESSAGE_STATE_QUEUED)
    return len((await stub.ListMessages(queued)).messages)


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


def in_an_hour(world):
    at = timestamp_pb2.Timestamp()
    at.FromDatetime(world.clock.now())
    at.seconds += 3600
    return at


async def test_no_more_is_delivered_than_the_worker_has_credit_for(world, stub):
    worker = await Worker(stub, credit=2).start()
    for number in range(5):
        await send(stub, session=f"bots/main/sessions/s{number}")
    first, second = await worker.delivery(), await worker.delivery()
    assert await waiting(world, stub) == 3
    await worker.complete(first)
    third = await worker.delivery()
    assert await waiting(world, stub) == 2
    await worker.send(credit=5)
    await worker.delivery()
    await worker.delivery()
    for delivery in (second, third):
        await worker.complete(delivery)


async def test_a_bot_works_on_no_more_sessions_than_its_concurrency(world, stub):
    world.registry.bots["bots/main"].bot.concurrency = 2
    worker = await Worker(stub).start()
    for number in range(4):
        await send(stub, session=f"bots/main/sessions/s{number}")
    first = await worker.delivery()
    await worker.delivery()
    assert await waiting(world, stub) == 2
    await worker.complete(first)
    await worker.delivery()


async def test_sessions_that_wait_longer_are_not_starved_by_a_busy_one(world, stub):
    worker = await Worker(stub, credit=1).start()
    for number in range(5):
        await send(stub, f"a{number}")
    await send(stub, "b0", session=B)
    order = []
    for _ in range(6):
        delivery = await worker.delivery()
        order.append(delivery.message.draft.parts[0].text)
        await worker.complete(delivery)
    assert order.index("b0") <= 2
    assert [text for text in order if text[0] == "a"] == [f"a{n}" for n in range(5)]


async def test_a_lease_outlives_its_stream_and_the_worker_comes_back_with_it(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.cut()
    back = await Worker(stub, held=[("k", delivery.epoch), ("gone", 7)]).start()
    assert [(held.run, held.epoch) for held in back.welcome.confirmed_leases] == [("k", 1)]
    assert [(held.run, held.epoch) for held in back.welcome.lost_leases] == [("gone", 7)]
    assert (await back.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED
    assert world.sessions.ids(A).count("run/k/started/1") == 1


async def test_a_worker_that_does_not_come_back_loses_its_leases_and_is_fenced_off(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.cut()
    other = await Worker(stub, name="workers/w2").start()
    await world.advance(10)
    assert other.deliveries.empty()
    await world.advance(6)
    again = await other.delivery()
    assert (again.attempt, again.message.run) == (2, "k")
    assert again.epoch > delivery.epoch
    late = message_pb2.Completion(run="k", epoch=delivery.epoch)
    request = router_service_pb2.CompleteDeliveryRequest(completion=late)
    assert await reason_of(stub.CompleteDelivery(request)) == "LEASE_LOST"
    back = await Worker(stub, held=[("k", delivery.epoch)]).start()
    assert [held.run for held in back.welcome.lost_leases] == ["k"]
    await other.complete(again)
    await until(lambda: world.sessions.outcomes(A) == {"k": "SUCCEEDED"})
    assert "run/k/retrying/1" in world.sessions.ids(A)


async def test_a_completion_of_a_lost_lease_is_refused_also_when_another_worker_has_completed_the_run(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    stale = await worker.delivery()
    await worker.cut()
    other = await Worker(stub, name="workers/w2").start()
    await world.advance(16)
    await other.complete(await other.delivery(), "the reply")
    late = message_pb2.Completion(run="k", epoch=stale.epoch)
    late.reply.add(text="another reply")
    request = router_service_pb2.CompleteDeliveryRequest(completion=late)
    assert await reason_of(stub.CompleteDelivery(request)) == "RUN_ENDED"
    stored = await stub.GetMessage(router_service_pb2.GetMessageRequest(run="k"))
    assert stored.message.reply_text == "the reply"


async def test_an_open_stream_keeps_leases_alive_for_any_time(world, stub):
    worker = await Worker(stub).start()
    await send(stub)
    delivery = await worker.delivery()
    for _ in range(10):
        await world.advance(10)
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


async def test_another_process_of_the_same_name_takes_the_work_over_at_once(world, stub):
    old = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    first = await old.delivery()
    new = await Worker(stub).start()
    await asyncio.wait_for(old.ended.wait(), 60)
    assert old.error[0] == "FAILED_PRECONDITION"
    again = await new.delivery()
    assert (again.attempt, again.message.run) == (2, "k")
    assert again.epoch > first.epoch


async def test_a_worker_that_drains_finishes_what_it_has_and_gets_nothing_new(world, stub):
    worker = await Worker(stub).start()
    await send(stub)
    delivery = await worker.delivery()
    await worker.send(drain=True)
    await until(lambda: world.router._dispatcher.current_attachments()[0].draining)
    await send(stub, session=B)
    assert await waiting(world, stub) == 1
    await worker.complete(delivery)
    await asyncio.wait_for(worker.ended.wait(), 60)
    assert worker.error is None
    other = await Worker(stub, name="workers/w2").start()
    assert (await other.delivery()).session == B


async def test_work_left_by_a_drained_worker_goes_on_elsewhere_at_once(world, stub):
    worker = await Worker(stub).start()
    await send(stub)
    await worker.delivery()
    other = await Worker(stub, name="workers/w2").start()
    await worker.send(drain=True)
    await until(lambda: world.router._dispatcher.room.attachments[1].draining)
    await worker.cut()
    assert (await other.delivery()).attempt == 2


async def test_a_bad_first_frame_ends_the_stream(stub):
    call = stub.Attach()
    await call.write(router_service_pb2.AttachRequest(credit=1))
    assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_worker_may_speak_for_itself_alone(world):
    stub = world.stub(principal="workers/w9")
    good = await Worker(stub, name="workers/w9").start()
    assert good.error is None
    bad = await Worker(stub, name="workers/w1").start()
    await asyncio.wait_for(bad.ended.wait(), 60)
    assert bad.error[0] == "PERMISSION_DENIED"


async def test_a_worker_that_cannot_stream_pulls(world, stub):
    pull = router_service_pb2.PullDeliveriesRequest(worker="workers/p", bots=["bots/main"], max_deliveries=5)
    assert not (await stub.PullDeliveries(pull)).deliveries
    for number in range(3):
        await send(stub, session=f"bots/main/sessions/s{number}")
    found = (await stub.PullDeliveries(pull)).deliveries
    assert len(found) == 3
    done = message_pb2.Completion(run=found[0].message.run, epoch=found[0].epoch)
    settled = await stub.CompleteDelivery(router_service_pb2.CompleteDeliveryRequest(completion=done))
    assert settled.settlement.state == message_pb2.MESSAGE_STATE_SUCCEEDED
    extension = message_pb2.Extension(run=found[1].message.run, epoch=found[1].epoch)
    extension.lease_duration.seconds = 60
    await stub.ExtendDelivery(router_service_pb2.ExtendDeliveryRequest(extension=extension))
    await world.advance(20)
    again = (await stub.PullDeliveries(pull)).deliveries
    assert [(d.message.run, d.attempt) for d in again] == [(found[2].message.run, 2)]


async def test_a_waiting_pull_gets_mail_as_it_comes(world, stub):
    pull = router_service_pb2.PullDeliveriesRequest(worker="workers/p", bots=["bots/main"])
    pull.wait.seconds = 30
    pulling = asyncio.ensure_future(stub.PullDeliveries(pull))
    await until(lambda: world.router._dispatcher.room.attachments)
    await send(stub)
    assert len((await asyncio.wait_for(pulling, 30)).deliveries) == 1


async def test_mail_for_bots_added_later_is_delivered(world, stub):
    await send(stub, session="bots/other/sessions/x")
    worker = await Worker(stub).start()
    await worker.send(bots=["bots/main", "bots/other"])
    assert (await worker.delivery()).session == "bots/other/sessions/x"


async def test_a_bot_that_is_switched_off_gets_no_work_until_it_is_on_again(world, stub):
    world.registry.bots["bots/main"].bot.enabled = False
    worker = await Worker(stub).start()
    await send(stub)
    assert await waiting(world, stub) == 1
    world.registry.bots["bots/main"].bot.enabled = True
    world.router._bots._ttl_s = 0
    world.router._bots._known.clear()
    await world.advance(6)
    await worker.delivery()


async def test_a_stream_ends_when_the_router_drains_and_its_leases_stay(world, stub):
    worker = await Worker(stub).start()
    await stub.SendMessage(router_service_pb2.SendMessageRequest(message=draft(idempotency_key="k")))
    delivery = await worker.delivery()
    await world.router.end_watches()
    await asyncio.wait_for(worker.ended.wait(), 60)
    assert worker.error[0] == "UNAVAILABLE"
    await world.restart()
    back = await Worker(world.stub(), held=[("k", delivery.epoch)]).start()
    assert [held.run for held in back.welcome.confirmed_leases] == ["k"]
    assert (await back.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


async def attached_by_hand(world, linger):
    """A worker's stream without a transport, whose reader takes its time to end."""
    CURRENT_CALLER.set(Caller(principal="operators/root", root=True, actor="operators/root"))

    async def frames():
        hello = router_service_pb2.AttachRequest()
        hello.hello.worker, hello.hello.credit = "workers/w1", 5
        hello.hello.bots.append("bots/main")
        yield hello
        try:
            await asyncio.Event().wait()
        finally:
            await linger.wait()

    responses = world.router.servicer.Attach(frames(), None)
    assert (await anext(responses)).HasField("welcome")
    return responses


async def test_a_stream_that_is_cancelled_twice_is_forgotten_all_the_same(world):
    linger = asyncio.Event()
    responses = await attached_by_hand(world, linger)
    waiting = asyncio.create_task(anext(responses))
    await until(lambda: world.router._dispatcher.current_attachments())
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not world.router._dispatcher.current_attachments()
    linger.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_stream_that_is_closed_while_nothing_reads_it_is_forgotten(world):
    linger = asyncio.Event()
    linger.set()
    responses = await attached_by_hand(world, linger)
    assert world.router._dispatcher.current_attachments()
    await responses.aclose()  # as the transport does when it was cancelled in a write
    assert not world.router._dispatcher.current_attachments()


async def test_a_clock_that_is_set_back_delays_no_retry(world, stub):
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await send(stub, session=B, idempotency_key="later", not_before_time=in_an_hour(world))
    first = await worker.delivery()
    failure = message_pb2.Failure(run="k", epoch=first.epoch, retryable=True)
    failure.retry_delay.seconds = 20
    await worker.send(failures=[failure])
    await worker.settlement()
    await world.advance(1)
    await world.advance(-3 * 3600)
    again = await worker.delivery()
    assert (again.message.run, again.attempt) == ("k", 2)
    await worker.complete(again)
    # What a sender has asked for goes by the time of day.
    assert worker.deliveries.empty()
    await world.advance(4 * 3600)
    assert (await worker.delivery()).message.run == "later"


async def test_a_clock_that_is_set_back_keeps_no_lease_of_a_worker_that_is_gone(world, stub):
    gone = await Worker(stub).start()
    await send(stub)
    await gone.delivery()
    await gone.cut()
    await world.advance(1)
    await world.advance(-3600)
    other = await Worker(stub, name="workers/w2").start()
    await world.advance(60)
    assert (await other.delivery()).attempt == 2


async def test_a_clock_that_is_set_back_takes_no_lease_from_a_worker_that_is_there(world, stub):
    worker = await Worker(stub).start()
    await send(stub)
    delivery = await worker.delivery()
    await world.advance(1)
    await world.advance(-3600)
    await world.advance(60)
    assert not (await worker.complete(delivery)).HasField("refusal")
    assert worker.deliveries.empty()


async def put_back(worker, delivery, seconds):
    failure = message_pb2.Failure(run=delivery.message.run, epoch=delivery.epoch, retryable=True)
    failure.retry_delay.seconds = seconds
    await worker.send(failures=[failure])
    await worker.settlement()


async def test_a_clock_that_was_ahead_until_a_restart_delays_no_retry(world, stub):
    world.clock.advance(timedelta(hours=1))
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    await put_back(worker, await worker.delivery(), 20)
    await world.stop_router()
    world.clock.advance(timedelta(hours=-1))
    await world.start_router()
    back = await Worker(world.stub()).start()
    again = await back.delivery()
    assert (again.message.run, again.attempt) == ("k", 2)
    # A wait that the worker has asked for, by a clock that is right, outlives a restart.
    await put_back(back, again, 1800)
    await world.restart()
    late = await Worker(world.stub()).start()
    await world.advance(60)
    assert late.deliveries.empty()
    await world.advance(1800)
    assert (await late.delivery()).attempt == 3


async def pulled(stub, wait_s=0):
    pull = router_service_pb2.PullDeliveriesRequest(worker="workers/p", bots=["bots/main"])
    pull.wait.seconds = wait_s
    found = (await stub.PullDeliveries(pull)).deliveries
    return [(delivery.attempt, delivery) for delivery in found]


def extension(delivery, seconds):
    made = message_pb2.Extension(run=delivery.message.run, epoch=delivery.epoch)
    made.lease_duration.seconds = seconds
    return made


@pytest.mark.parametrize("how", ["sent to a free worker", "queued", "extended"])
async def test_a_clock_that_was_ahead_until_a_restart_keeps_no_pulled_lease(world, stub, how):
    await until(lambda: world.router.timers._swept_us)  # the end of its first look, which the jump shall not fall into
    if how == "extended":
        await send(stub, idempotency_key="k")
        ((_, early),) = await pulled(stub)
        keep = router_service_pb2.ExtendDeliveryRequest(extension=extension(early, 4_000))
        await stub.ExtendDelivery(keep)
    world.clock.advance(timedelta(hours=1))
    if how == "extended":
        await stub.ExtendDelivery(keep)
    elif how == "queued":
        await send(stub, idempotency_key="k")
        assert await pulled(stub)
    else:
        waiting = asyncio.ensure_future(pulled(stub, wait_s=60))
        await until(world.router._dispatcher.room.served_bots)
        await send(stub, idempotency_key="k")
        assert await waiting
    await world.stop_router()
    world.clock.advance(timedelta(hours=-1))
    await world.start_router()
    await world.advance(1)
    ((attempt, again),) = await pulled(world.stub(), wait_s=30)
    assert (again.message.run, attempt) == ("k", 2)


async def test_a_pulled_lease_outlives_a_restart(world, stub):
    await send(stub)
    ((_, held),) = await pulled(stub)
    await world.restart()
    await world.advance(1)
    back = world.stub()
    assert await pulled(back) == []
    done = message_pb2.Completion(run=held.message.run, epoch=held.epoch)
    settled = await back.CompleteDelivery(router_service_pb2.CompleteDeliveryRequest(completion=done))
    assert settled.settlement.state == message_pb2.MESSAGE_STATE_SUCCEEDED


@pytest.mark.parametrize("over_stream", [True, False])
async def test_a_cancelled_run_is_not_kept_by_extending_its_lease(world, stub, over_stream):
    worker = await Worker(stub).start() if over_stream else None
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery() if worker else (await pulled(stub))[0][1]
    await stub.CancelRun(router_service_pb2.CancelRunRequest(run="k"))
    await world.advance(1)
    keep = extension(delivery, 600)
    if worker:
        await worker.send(extensions=[keep], steps=[message_pb2.RunStep(run="k", epoch=delivery.epoch, step="s")])
        await asyncio.wait_for(worker.receipts.get(), 40)  # what came before it is done
    else:
        await stub.ExtendDelivery(router_service_pb2.ExtendDeliveryRequest(extension=keep))
    await world.advance(60)
    ended = (await stub.GetMessage(router_service_pb2.GetMessageRequest(run="k"))).message
    assert ended.state == message_pb2.MESSAGE_STATE_CANCELLED


async def test_a_stream_that_is_being_attached_is_not_taken_for_a_replaced_one(world, stub):
    workers = []
    for number in range(10):
        attaching = asyncio.create_task(Worker(stub, name=f"workers/w{number}").start())
        while not attaching.done():
            await world.advance(60)  # long enough for each tick to renew the streams
        workers.append(attaching.result())
    await world.advance(60)
    assert [worker.error for worker in workers] == [None] * 10
    assert len(world.router._dispatcher.current_attachments()) == 10
