"""The store and what stands on it, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from router_world import Worker, World, draft, running, send, until
from sqlalchemy import func, select, text

from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.letters import LetterWriter
from router_service.domain.mail import NewMessage
from router_service.ids import MessageIds
from router_service.store import messages, reads
from router_service.store.accepting import Rules
from router_service.store.database_clock import DatabaseClock
from router_service.store.items import Grant, Leased, LoseLease, Offer, Send, Settle
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket

A = "bots/main/sessions/a"


@pytest.fixture
async def store(database_url, clock):
    letters = LetterWriter(MessageIds(clock), max_attempts=5)
    rules = Rules(mailbox_limit=100)
    opened = await RouterStore.open(database_url, rules=rules, clock=clock, letters=letters, migrate=True)
    yield opened
    await opened.close()


def message(number, session=A, **fields):
    return NewMessage(
        id=f"m{number:04}",
        run=f"m{number:04}",
        session=session,
        bot="bots/main",
        draft=b"",
        sender="x",
        source="x",
        **fields,
    )


async def post(store, *items):
    ticket = Ticket(len(items))
    for item in items:
        item.ticket = ticket
        store.mail.post(item)
    await ticket.wait()
    return items


def leases(items):
    return [effect.lease for effect in items[0].batch.effects if isinstance(effect, Leased)]


async def test_one_transaction_leases_many_mailboxes_and_each_once(store):
    sends = [Send(message=message(n, f"bots/main/sessions/s{n % 10}")) for n in range(40)]
    await post(store, *sends)
    grants = [
        Grant(session=f"bots/main/sessions/s{n % 10}", bot="bots/main", offer=Offer(1, "workers/w", "bots/main"))
        for n in range(20)
    ]
    found = leases(await post(store, *grants))
    assert sorted(lease.message_id for lease in found) == [f"m{n:04}" for n in range(10)]
    assert not leases(await post(store, *grants))


async def test_the_next_head_is_leased_with_the_settlement_of_the_one_before(store):
    offer = Offer(1, "workers/w", "bots/main")
    await post(store, *(Send(message=message(n), offer=offer if n == 0 else None) for n in range(3)))
    ((lease, _),) = await store.read(lambda conn: reads.leases_of(conn, ["workers/w"]))
    done = Settle(session=A, run=lease.run, epoch=lease.epoch, succeeded=True, offer=Offer(1, "workers/w", "bots/main"))
    (following,) = leases(await post(store, done))
    assert (following.message_id, following.epoch) == ("m0001", 2)
    late = Settle(session=A, run=lease.run, epoch=lease.epoch, succeeded=False, retryable=True)
    await post(store, late)
    assert late.refusal.reason == "RUN_ENDED"


async def test_a_lost_lease_raises_the_epoch_so_that_its_holder_is_fenced_off(store):
    await post(store, Send(message=message(0), offer=Offer(1, "workers/w", "bots/main")))
    lost = LoseLease(session=A, worker="workers/w", epoch=1, offer=Offer(2, "workers/v", "bots/main"))
    (again,) = leases(await post(store, lost))
    assert (again.worker, again.attempt, again.epoch) == ("workers/v", 2, 3)
    late = Settle(session=A, run="m0000", epoch=1, succeeded=True)
    await post(store, late)
    assert late.refusal.reason == "LEASE_LOST"


async def test_keys_are_told_apart_within_and_across_transactions(store):
    first, same, other = (
        Send(message=message(n, content_hash=hash_)) for n, hash_ in ((1, "h"), (2, "h"), (3, "other"))
    )
    for item in (first, same, other):
        item.message.run = "key"
    await post(store, first, same, other)
    assert (same.duplicate, same.id) == (True, "m0001")
    assert other.refusal.reason == "IDEMPOTENCY_KEY_REUSED"
    again = Send(message=message(4, content_hash="h"))
    again.message.run = "key"
    await post(store, again)
    assert (again.duplicate, again.id) == (True, "m0001")


async def test_a_full_mailbox_refuses_in_the_middle_of_a_batch(store):
    sends = [Send(message=message(n)) for n in range(105)]
    await post(store, *sends)
    assert [item.refusal is None for item in sends] == [True] * 100 + [False] * 5


async def test_a_poisoned_item_fails_alone(store):
    bad = Send(message=message(1, session="nonsense"))
    good = Send(message=message(2))
    bad.ticket, good.ticket = Ticket(), Ticket()
    store.mail.post(bad)
    store.mail.post(good)
    await good.ticket.wait()
    with pytest.raises(Exception, match="internal error"):
        await bad.ticket.wait()


async def test_a_sessions_messages_are_found_newest_first(store):
    for number in range(20):
        await post(store, Send(message=message(number, f"bots/main/sessions/s{number % 2}")))
    query = messages.MessageQuery(session="bots/main/sessions/s1")
    found = await store.read(lambda conn: messages.list_messages(conn, query, after="", limit=3, ascending=False))
    assert [stored.row["id"] for stored in found] == ["m0019", "m0017", "m0015"]


async def test_a_turn_goes_through_on_this_engine(database_url, clock):
    async with running(World(database_url, clock)) as world:
        stub = world.stub()
        worker = await Worker(stub).start()
        made = [await send(stub, str(n), f"bots/main/sessions/s{n % 3}", idempotency_key=f"k{n}") for n in range(9)]
        for _ in range(9):
            delivery = await worker.delivery()
            if delivery.attempt == 1 and delivery.message.run == "k4":
                await worker.fail(delivery, retryable=True)
                await world.advance(61)
            else:
                await worker.complete(delivery)
        await worker.complete(await worker.delivery())
        for receipt in made:
            waited = await stub.WaitRun(router_service_pb2.WaitRunRequest(run=receipt.run))
            assert waited.message.state == message_pb2.MESSAGE_STATE_SUCCEEDED
        await until(lambda: sum(len(world.sessions.outcomes(f"bots/main/sessions/s{n}")) for n in range(3)) == 9)


async def test_mail_sent_to_one_replica_is_delivered_by_another(postgresql_url, clock):
    async with running(World(postgresql_url, clock)) as first:
        second = World(postgresql_url, clock)
        second.sessions = first.sessions
        async with running(second):
            worker = await Worker(second.stub()).start()
            receipts = [await send(first.stub(), session=f"bots/main/sessions/s{n}") for n in range(5)]
            waits = [
                asyncio.ensure_future(first.stub().WaitRun(router_service_pb2.WaitRunRequest(run=receipt.run)))
                for receipt in receipts
            ]
            for _ in receipts:
                await worker.complete(await worker.delivery())
            answers = await asyncio.wait_for(asyncio.gather(*waits), 60)
            assert all(answer.done for answer in answers)


async def test_a_worker_that_attaches_elsewhere_is_replaced_here(postgresql_url, clock):
    async with running(World(postgresql_url, clock)) as first:
        second = World(postgresql_url, clock)
        second.sessions = first.sessions
        async with running(second):
            old = await Worker(first.stub()).start()
            await send(first.stub(), idempotency_key="k")
            delivery = await old.delivery()
            new = await Worker(second.stub(), held=[("k", delivery.epoch)]).start()
            assert [held.run for held in new.welcome.confirmed_leases] == ["k"]
            await first.advance(6)
            await asyncio.wait_for(old.ended.wait(), 60)
            assert old.error[0] == "FAILED_PRECONDITION"
            assert (await new.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


async def test_two_replicas_never_give_one_session_to_two_workers(postgresql_url, clock):
    async with running(World(postgresql_url, clock)) as first:
        second = World(postgresql_url, clock)
        second.sessions = first.sessions
        async with running(second):
            workers = [
                await Worker(first.stub(), name="workers/w1").start(),
                await Worker(second.stub(), name="workers/w2").start(),
            ]
            call_one, call_two = first.stub().Send(), second.stub().Send()
            for start in range(0, 60, 10):
                for call in (call_one, call_two):
                    frame = router_service_pb2.SendRequest(first_number=start + 1)
                    frame.messages.extend(
                        draft(str(n), f"bots/main/sessions/s{n % 4}") for n in range(start, start + 10)
                    )
                    await call.write(frame)
            live, seen = {}, []

            async def work(worker):
                while len(seen) < 120:
                    delivery = await worker.delivery(10)
                    assert delivery.session not in live
                    live[delivery.session] = delivery.epoch
                    seen.append((delivery.session, delivery.epoch))
                    await asyncio.sleep(0)
                    del live[delivery.session]
                    await worker.complete(delivery)

            tasks = [asyncio.create_task(work(worker)) for worker in workers]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=40)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [r for r in results if isinstance(r, AssertionError)]
            assert len(set(seen)) == 120
            call_one.cancel()
            call_two.cancel()


async def test_a_server_s_own_clock_says_when_leases_end(database_url, clock):
    clock.advance(timedelta(days=400))
    letters = LetterWriter(MessageIds(clock), max_attempts=5)
    opened = await RouterStore.open(
        database_url, rules=Rules(), clock=clock, letters=letters, migrate=True, database_time=True
    )
    try:
        ours = int(clock.now().timestamp() * 1e6)
        if opened.single_process:
            assert opened.now_us() == ours
            return
        theirs = await opened.read(lambda conn: conn.execute(select(func.clock_timestamp())).scalar_one())
        assert abs(opened.now_us() - int(theirs.timestamp() * 1e6)) < 30_000_000
        send = Send(message=message(0))
        await post(opened, send)
        stored = await opened.read(lambda conn: messages.find_message(conn, message_id=send.id))
        assert abs(stored.row["create_time"] - ours) > 86_400_000_000
        await opened.keep_time()
    finally:
        await opened.close()


def test_the_database_s_clock_counts_on_by_itself_and_believes_quick_answers_alone():
    steady = [100.0]
    clock = DatabaseClock(monotonic=lambda: steady[0])
    there = datetime(2030, 1, 1, tzinfo=UTC)
    clock.told(there, 99.0, 101.0)
    steady[0] = 103.0
    assert clock.now() == there + timedelta(seconds=3)
    clock.told(there + timedelta(hours=1), 102.0, 103.0)
    assert clock.now() == there + timedelta(seconds=3)
    clock.told(there + timedelta(hours=1), 103.0, 103.0)
    assert clock.now() == there + timedelta(hours=1)


async def test_what_another_replica_is_told_reaches_the_worker(postgresql_url, clock):
    async with running(World(postgresql_url, clock)) as first:
        second = World(postgresql_url, clock)
        second.sessions = first.sessions
        async with running(second):
            worker = await Worker(first.stub()).start()
            await send(second.stub(), "long", idempotency_key="k")
            await first.router.timers.tick()
            delivery = await worker.delivery()
            await send(second.stub(), "mind the step", idempotency_key="s", mode=message_pb2.BUSY_MODE_STEER)
            await first.router.timers.tick()
            steering = await worker.steering()
            assert (steering.run, steering.message.run) == ("k", "s")
            await worker.take_in(steering)
            await second.stub().CancelRun(router_service_pb2.CancelRunRequest(run="k"))
            await first.router.timers.tick()
            assert (await asyncio.wait_for(worker.cancellations.get(), 40)).run == "k"
            clock.advance(timedelta(seconds=6))
            await second.router.timers.tick()  # the worker did not stop: its lease is taken away there
            for _ in range(2):
                await first.router.timers.tick()
            assert (await asyncio.wait_for(worker.cancellations.get(), 40)).lease_lost
            for run in ("k", "s"):
                got = await first.stub().GetMessage(router_service_pb2.GetMessageRequest(run=run))
                assert got.message.state == message_pb2.MESSAGE_STATE_CANCELLED
            assert (await worker.complete(delivery)).refusal.reason == "RUN_ENDED"


async def test_turns_join_and_part_on_both_engines(database_url, clock):
    async with running(World(database_url, clock)) as world:
        stub = world.stub()
        worker = await Worker(stub).start()
        await send(stub, idempotency_key="k")
        delivery = await worker.delivery()
        await send(stub, idempotency_key="s", mode=message_pb2.BUSY_MODE_STEER)
        for number in range(3):
            await send(stub, idempotency_key=f"c{number}", mode=message_pb2.BUSY_MODE_COLLECT)
        await worker.take_in(await worker.steering())
        assert not (await worker.remember(delivery, "book", b"\x00\xff")).HasField("refusal")
        await worker.fail(delivery, retryable=True)
        await world.advance(61)
        again = await worker.delivery()
        assert ([m.run for m in again.collected], [s.result for s in again.steps]) == (["s"], [b"\x00\xff"])
        failure = message_pb2.Failure(run="k", epoch=again.epoch)
        failure.decision_request.question = "?"
        await worker.send(failures=[failure])
        assert (await worker.settlement()).state == message_pb2.MESSAGE_STATE_NEEDS_DECISION
        own = await worker.delivery()
        assert own.message.run == "s"
        request = router_service_pb2.ResolveRunRequest(run="k", request_id="r")
        request.decision.answer = "yes"
        await stub.ResolveRun(request)
        await stub.ResolveRun(request)
        await worker.complete(own)
        resumed = await worker.delivery()
        assert (resumed.message.run, resumed.decision.answer) == ("k", "yes")
        await worker.complete(resumed)
        collected = await worker.delivery()
        assert [collected.message.run, *(m.run for m in collected.collected)] == ["c0", "c1", "c2"]
        await worker.fail(collected)
        await until(lambda: len(world.sessions.outcomes(A)) == 5)
        assert world.sessions.outcomes(A)["c2"] == "FAILED"


async def test_old_steps_and_questions_go_with_their_messages(database_url, clock):
    async with running(World(database_url, clock)) as world:
        stub = world.stub()
        worker = await Worker(stub).start()
        await send(stub, idempotency_key="k", mode=message_pb2.BUSY_MODE_COLLECT)
        delivery = await worker.delivery()
        await worker.remember(delivery, "book", b"x")
        await worker.complete(delivery)
        await until(lambda: world.sessions.outcomes(A) == {"k": "SUCCEEDED"})
        store = world.router._store

        async def rows(table):
            return await store.read(lambda conn: conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

        assert [await rows(table) for table in ("run_step", "joining", "message")] == [1, 1, 1]
        await until(lambda: not store.unlogged)
        clock.advance(timedelta(days=31))
        await world.router.timers.tick()
        clock.advance(timedelta(days=1))
        await world.router.timers.tick()
        assert [await rows(table) for table in ("run_step", "joining", "message")] == [0, 0, 0]
