"""Children: made once, limited, told of when they end however that comes about, tidied up, and stopped with their
parents."""

import asyncio
from datetime import timedelta

import grpc.aio
import pytest
from family_world import running_family
from router_world import Worker, send

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2
PARENT = "bots/main/sessions/main"


@pytest.fixture(params=["local", "unix"])
async def world(request, sqlite_url, clock):
    settings = RouterSettings(spawn_depth=2, spawn_fan_out=3, cancel_grace_s=0.1)
    async with running_family(sqlite_url, clock, over=request.param, settings=settings) as found:
        yield found


@pytest.fixture
def stub(world):
    return world.stub()


def wish(key="thread:budget-planning", parent=PARENT, task="plan it", request_id="", **fields):
    spawn = message_pb2.Spawn(parent=parent, session_id=key, announce=True, **fields)
    spawn.task.add(text=task)
    return pb.SpawnSessionRequest(spawn=spawn, request_id=request_id)


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value).reason


async def next_of(worker, session):
    """The delivery for a session; what comes for others meanwhile is completed."""
    while True:
        delivery = await worker.delivery()
        if delivery.session == session:
            return delivery
        await worker.complete(delivery)


async def test_a_child_works_and_its_parent_is_woken_with_the_result(world, stub):
    worker = await Worker(stub).start()
    answer = await stub.SpawnSession(wish(request_id="r1"))
    assert answer.created
    assert answer.receipt.session == "bots/main/sessions/thread:budget-planning"
    assert world.sessions.sessions[answer.receipt.session].parent == PARENT
    assert world.sessions.sessions[answer.receipt.session].created_via == "spawn"
    task = await worker.delivery()
    assert (task.message.run, task.message.draft.type, task.message.draft.source) == ("r1", "mobot.spawn", PARENT)
    await worker.complete(task, "planned")
    result = await worker.delivery()
    assert result.session == PARENT
    assert result.message.draft.type == "mobot.spawn.result"
    assert result.message.draft.parts[0].text == "planned"
    assert dict(result.message.draft.metadata) == {
        "mobot.run": "r1",
        "mobot.outcome": "SUCCEEDED",
        "mobot.child": answer.receipt.session,
    }
    await worker.complete(result)
    assert worker.deliveries.empty()


async def test_the_same_request_makes_one_child_and_other_content_is_refused(world, stub):
    first = await stub.SpawnSession(wish(request_id="r1"))
    again = await stub.SpawnSession(wish(request_id="r1"))
    assert (again.receipt.message, again.receipt.duplicate, again.created) == (first.receipt.message, True, True)
    assert await refusal(stub.SpawnSession(wish(request_id="r1", task="other"))) == "REQUEST_ID_REUSED"
    assert world.sessions.made == 1


async def test_an_existing_child_is_refused_used_or_replaced_as_asked(world, stub):
    await stub.SpawnSession(wish())
    assert await refusal(stub.SpawnSession(wish())) == "SESSION_ALREADY_EXISTS"
    use = message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING
    used = await stub.SpawnSession(wish(conflict_policy=use))
    assert not used.created
    assert used.receipt.queue_position == 1
    replace = message_pb2.SPAWN_CONFLICT_POLICY_REPLACE
    replaced = await stub.SpawnSession(wish(conflict_policy=replace))
    assert world.sessions.resets == [replaced.receipt.session]
    world.sessions.persistent.add(replaced.receipt.session)
    await world.stub().CancelRun(pb.CancelRunRequest(session=replaced.receipt.session, include_queued=True))
    assert await refusal(stub.SpawnSession(wish(conflict_policy=replace))) == "SESSION_PERSISTENT"


async def test_a_child_that_the_session_service_does_not_take_is_refused_with_its_reason(world, stub):
    request = wish("c0")
    request.spawn.session.label = "Budget"
    await stub.SpawnSession(request)
    request.spawn.session_id = "c1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SpawnSession(request)
    error = from_rpc_error(caught.value)
    assert (error.reason, error.metadata["refusal"]) == ("SESSION_REFUSED", "LABEL_IN_USE")


async def test_a_forked_child_begins_with_the_transcript_of_its_parent(world, stub):
    answer = await stub.SpawnSession(wish(context=message_pb2.SPAWN_CONTEXT_FORKED))
    assert world.sessions.forks == [(PARENT, answer.receipt.session)]


async def test_children_are_limited_in_number_and_in_generations(world, stub):
    for number in range(3):
        await stub.SpawnSession(wish(f"c{number}"))
    assert await refusal(stub.SpawnSession(wish("c3"))) == "SPAWN_LIMIT_REACHED"
    await stub.SpawnSession(wish("g0", parent="bots/main/sessions/c0"))
    assert await refusal(stub.SpawnSession(wish("h0", parent="bots/main/sessions/g0"))) == "SPAWN_LIMIT_REACHED"
    await stub.CancelRun(pb.CancelRunRequest(session="bots/main/sessions/c1", include_queued=True))
    assert (await stub.SpawnSession(wish("c3"))).created


@pytest.mark.parametrize("end", ["failed", "dead", "lost", "cancelled", "expired", "empty", "rejected"])
async def test_a_parent_is_told_whatever_the_end_was(world, stub, end):
    worker = await Worker(stub).start()
    request = wish(request_id="r")
    if end == "expired":
        request.spawn.timeout.seconds = 60
    if end == "rejected":
        world.sessions.refused["bots/main/sessions/thread:budget-planning"] = "SESSION_ARCHIVED"
    await stub.SpawnSession(request)
    if end != "rejected":
        task = await worker.delivery()
    if end == "failed":
        await worker.fail(task)
    elif end == "dead":
        for _ in range(4):
            await worker.fail(task, retryable=True)
            await world.advance(61)
            task = await worker.delivery()
        await worker.fail(task, retryable=True)
    elif end == "lost":
        for attempt in range(5):
            await worker.cut()
            await world.advance(60)
            worker = await Worker(stub, name=f"workers/again-{attempt}").start()
            if attempt < 4:
                await worker.delivery()
    elif end == "cancelled":
        await stub.CancelRun(pb.CancelRunRequest(run="r"))
        await worker.fail(task, cancelled=True)
    elif end == "expired":
        await world.advance(61)
    elif end == "empty":
        await worker.complete(task)
    outcome = {"dead": "DEAD_LETTERED", "lost": "DEAD_LETTERED", "empty": "SUCCEEDED"}.get(end, end.upper())
    result = await next_of(worker, PARENT)
    assert result.message.draft.metadata["mobot.outcome"] == outcome
    assert result.message.draft.in_reply_to
    await worker.complete(result)
    listed = await stub.ListMessages(pb.ListMessagesRequest(filter=pb.MessageFilter(session=PARENT)))
    assert len(listed.messages) == 1


async def test_a_child_that_shall_not_announce_ends_in_silence(world, stub):
    worker = await Worker(stub).start()
    request = wish()
    request.spawn.announce = False
    await stub.SpawnSession(request)
    await worker.complete(await worker.delivery(), "done")
    listed = await stub.ListMessages(pb.ListMessagesRequest(filter=pb.MessageFilter(session=PARENT)))
    assert not listed.messages


@pytest.mark.parametrize("cleanup", ["ARCHIVE", "DELETE"])
async def test_a_child_is_tidied_up_once_its_log_is_complete(world, stub, cleanup):
    worker = await Worker(stub).start()
    kind = message_pb2.SpawnCleanup.Value(f"SPAWN_CLEANUP_{cleanup}")
    child = (await stub.SpawnSession(wish(cleanup=kind))).receipt.session
    task = await worker.delivery()
    world.sessions.down = True
    await worker.complete(task, "done")
    await world.advance(3)
    assert not world.sessions.archived + world.sessions.deleted
    world.sessions.down = False
    found = world.sessions.archived if cleanup == "ARCHIVE" else world.sessions.deleted
    while not found:
        await world.advance(3)
        await asyncio.sleep(0.01)
    assert found == [child]
    assert "finished" in world.sessions.ids(child)[-1]


async def test_a_clock_that_is_set_back_delays_nothing_that_children_wait_for(world, stub):
    worker = await Worker(stub).start()
    child = (await stub.SpawnSession(wish(cleanup=message_pb2.SPAWN_CLEANUP_ARCHIVE))).receipt.session
    schedule = message_pb2.Schedule(spawn=message_pb2.Spawn(bot="bots/main", session_id="daily"))
    schedule.interval.seconds = 60
    schedule.spawn.task.add(text="daily")
    await stub.CreateSchedule(pb.CreateScheduleRequest(schedule_id="s", schedule=schedule))
    delivery = await worker.delivery()  # which needs the session service
    world.clock.advance(timedelta(hours=1))
    world.sessions.down = True
    await worker.complete(delivery, "done")
    await world.advance(0)  # the wish of the schedule, and the tidying, have to wait
    world.sessions.down = False
    world.clock.advance(timedelta(hours=-1))
    async with asyncio.timeout(40):
        while not world.sessions.archived or "bots/main/sessions/daily" not in world.sessions.sessions:
            await world.advance(1)
            await asyncio.sleep(0.01)
    assert world.sessions.archived == [child]


async def test_a_cascade_stops_what_was_spawned_and_says_what_did_not_stop(world, stub):
    worker = await Worker(stub, credit=2).start()
    await send(stub, "go", session=PARENT, idempotency_key="root")
    await worker.delivery()
    await stub.SpawnSession(wish("c0", request_id="child"))
    await worker.delivery()
    # There is no room for it: it waits, and is stopped at once.
    await stub.SpawnSession(wish("g0", parent="bots/main/sessions/c0", request_id="grandchild"))
    request = pb.CancelRunRequest(run="root", cascade=True, request_id="c")
    call = asyncio.ensure_future(stub.CancelRun(request))
    asked = {(await asyncio.wait_for(worker.cancellations.get(), 40)).run for _ in range(2)}
    assert asked == {"root", "child"}
    late = wish("g1", parent="bots/main/sessions/c0")
    assert await refusal(stub.SpawnSession(late)) == "RUN_ENDED"
    answer = await call
    assert list(answer.cancelled_runs) == ["root", "child", "grandchild"]
    assert sorted(answer.unstopped_runs) == ["child", "root"]
    assert await stub.CancelRun(request) == answer


async def test_a_cascade_that_is_asked_for_twice_at_once_has_one_answer(world, stub):
    worker = await Worker(stub).start()
    await send(stub, "go", session=PARENT, idempotency_key="root")
    await worker.delivery()
    request = pb.CancelRunRequest(run="root", cascade=True, request_id="c")
    calls = [asyncio.ensure_future(stub.CancelRun(request)) for _ in range(4)]
    await asyncio.wait_for(worker.cancellations.get(), 40)
    first, *others = await asyncio.gather(*calls)
    assert list(first.cancelled_runs) == ["root"]
    assert others == [first] * 3
    assert await stub.CancelRun(request) == first


async def test_a_bot_spawns_from_its_own_sessions_alone(world):
    stub = world.stub(actor="bots/other")
    assert await refusal(stub.SpawnSession(wish())) == "CALLER_NOT_ALLOWED"
    answer = await stub.SpawnSession(wish(parent="bots/other/sessions/main", bot="bots/main"))
    assert answer.receipt.session == "bots/main/sessions/thread:budget-planning"


async def test_a_wish_comes_to_nothing_while_sessions_cannot_be_made(world, stub):
    world.sessions.down = True
    assert await refusal(stub.SpawnSession(wish(request_id="r"))) == "UPSTREAM_UNAVAILABLE"
    world.sessions.down = False
    assert not (await stub.SpawnSession(wish(request_id="r"))).receipt.duplicate


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("spawn.task", lambda s: s.ClearField("task")),
        ("spawn.bot", lambda s: s.ClearField("parent")),
        ("spawn.parent", lambda s: setattr(s, "parent", "bots/main")),
        ("spawn.session_id", lambda s: setattr(s, "session_id", "a/b")),
        ("spawn.session_id", lambda s: setattr(s, "session_id", "main")),
        ("spawn.conflict_policy", lambda s: setattr(s, "conflict_policy", 9)),
        ("spawn.context", lambda s: setattr(s, "context", 9)),
        ("spawn.cleanup", lambda s: setattr(s, "cleanup", 9)),
        ("spawn.timeout", lambda s: setattr(s.timeout, "seconds", -1)),
    ],
)
async def test_a_wish_that_breaks_a_rule_is_refused_by_field(world, stub, field, change):
    request = wish()
    change(request.spawn)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SpawnSession(request)
    error = from_rpc_error(caught.value)
    assert (error.metadata["field"], world.sessions.made) == (field, 0)


async def test_a_child_without_a_key_gets_one(world, stub):
    answer = await stub.SpawnSession(wish(""))
    assert answer.receipt.session.startswith("bots/main/sessions/subagent:")
