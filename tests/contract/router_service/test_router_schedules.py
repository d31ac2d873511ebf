"""Schedules: each due time is sent for once, whoever looks, and missed ones as the policy says."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc.aio
import pytest
from family_world import family_world, running_family
from google.protobuf.field_mask_pb2 import FieldMask
from prometheus_client import CollectorRegistry
from router_world import Worker

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2
A = "bots/main/sessions/a"
SKIP, ONCE, ALL = (message_pb2.MissedRunPolicy.Value(f"MISSED_RUN_POLICY_{n}") for n in ("SKIP", "RUN_ONCE", "RUN_ALL"))


@pytest.fixture(params=["local", "unix"])
async def world(request, sqlite_url, clock):
    async with running_family(sqlite_url, clock, over=request.param) as found:
        yield found


@pytest.fixture
def stub(world):
    return world.stub()


def schedule(cron="", interval_s=0, session=A, **fields):
    made = message_pb2.Schedule(**fields)
    if cron:
        made.cron = cron
    elif interval_s:
        made.interval.seconds = interval_s
    made.draft.session = session
    made.draft.parts.add(text="tick")
    return made


async def create(stub, name, made, **fields):
    request = pb.CreateScheduleRequest(schedule_id=name, schedule=made, **fields)
    return (await stub.CreateSchedule(request)).schedule


async def sent(stub, session=A):
    request = pb.ListMessagesRequest(filter=pb.MessageFilter(session=session), page_size=1000, ascending=True)
    return list((await stub.ListMessages(request)).messages)


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return error.metadata.get("field") or error.reason


async def test_an_interval_sends_at_each_of_its_times_and_says_when_next(world, stub):
    made = await create(stub, "beat", schedule(interval_s=60))
    assert made.next_time.ToDatetime(UTC) == world.clock.now() + timedelta(seconds=60)
    for count in range(1, 4):
        await world.advance(60)
        messages = await sent(stub)
        assert len(messages) == count
    assert messages[0].draft.source == messages[0].sender == "operators/root"
    listed = (await stub.ListSchedules(pb.ListSchedulesRequest())).schedules
    assert listed[0].last_time.ToDatetime(UTC) == world.clock.now()
    assert listed[0].next_time.ToDatetime(UTC) == world.clock.now() + timedelta(seconds=60)


async def test_a_time_that_finds_no_room_is_left_out_counted_and_logged(sqlite_url, clock, caplog):
    async with running_family(sqlite_url, clock, over="local", settings=RouterSettings(mailbox_limit=2)) as world:
        stub = world.stub()
        await create(stub, "beat", schedule(interval_s=60))
        await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news"))
        await stub.SubscribeTopic(pb.SubscribeTopicRequest(topic="topics/news", subscriber=A))
        news = schedule(interval_s=60)
        news.draft.topic = "topics/news"
        await create(stub, "news", news)
        for _ in range(3):
            await world.advance(60)
        assert len(await sent(stub)) == 2
        registry = CollectorRegistry()
        registry.register(world.router.meters)
        assert registry.get_sample_value("mail_schedules_refused_total", {"reason": "MAILBOX_FULL"}) == 4
    told = {
        (record.schedule, record.reason)
        for record in caplog.records
        if record.message == "a time of a schedule is left out"
    }
    assert told == {("schedules/beat", "MAILBOX_FULL"), ("schedules/news", "MAILBOX_FULL")}


async def test_a_cron_expression_means_the_time_of_its_zone(world, stub):
    made = await create(stub, "morning", schedule(cron="30 9 * * mon-fri", time_zone="America/New_York"))
    # 2026-01-01 is a Thursday; New York is five hours behind.
    assert made.next_time.ToDatetime(UTC) == datetime(2026, 1, 1, 14, 30, tzinfo=UTC)
    await world.advance(14.5 * 3600)
    await world.advance(24 * 3600)
    assert len(await sent(stub)) == 2
    (now,) = (await stub.ListSchedules(pb.ListSchedulesRequest())).schedules
    assert now.next_time.ToDatetime(UTC) == datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


async def test_clocks_that_are_put_forward_and_back_neither_lose_nor_double_a_daily_time(world, stub):
    await create(stub, "night", schedule(cron="30 2 * * *", time_zone="Europe/Berlin", missed_run_policy=ALL))
    days = (datetime(2026, 12, 1, tzinfo=UTC) - world.clock.now()).days
    for _ in range(-(-days // 50)):
        await world.advance(min(50, days) * 86400)
    messages = await sent(stub)
    dates = [m.run.rpartition("/")[2] for m in messages]
    local = [datetime.fromtimestamp(int(us) / 1e6, UTC).date() for us in dates]
    assert len(set(local)) == len(local) >= days


@pytest.mark.parametrize(("policy", "count"), [(SKIP, 1), (ONCE, 1), (ALL, 11), (0, 1)])
async def test_missed_times_are_left_out_collapsed_or_made_up_for(world, stub, policy, count):
    await create(stub, "beat", schedule(interval_s=600, missed_run_policy=policy))
    await world.stop_router()
    world.clock.advance(timedelta(seconds=600 * 11))
    await world.start_router()
    await world.advance(0)
    assert len(await sent(world.stub())) == count


async def test_no_more_than_a_hundred_missed_times_are_made_up_for(world, stub):
    await create(stub, "beat", schedule(cron="* * * * *", missed_run_policy=ALL))
    await world.advance(400 * 86400)
    assert len(await sent(stub)) == 100


async def test_a_paused_schedule_sends_nothing_and_owes_nothing(world, stub):
    made = await create(stub, "beat", schedule(interval_s=60))
    made.paused = True
    made = (
        await stub.UpdateSchedule(pb.UpdateScheduleRequest(schedule=made, update_mask=FieldMask(paths=["paused"])))
    ).schedule
    assert not made.HasField("next_time")
    await world.advance(600)
    assert not await sent(stub)
    made.paused = False
    made = (
        await stub.UpdateSchedule(pb.UpdateScheduleRequest(schedule=made, update_mask=FieldMask(paths=["paused"])))
    ).schedule
    assert made.next_time.ToDatetime(UTC) == world.clock.now() + timedelta(seconds=60)
    await world.advance(60)
    assert len(await sent(stub)) == 1


async def test_a_change_of_content_and_time_holds_from_the_next_time_on(world, stub):
    made = await create(stub, "beat", schedule(interval_s=60))
    changed = schedule(interval_s=30, name=made.name, etag=made.etag)
    changed.draft.parts[0].text = "tock"
    await stub.UpdateSchedule(pb.UpdateScheduleRequest(schedule=changed))
    await world.advance(30)
    assert [m.draft.parts[0].text for m in await sent(stub)] == ["tock"]
    assert await refusal(stub.UpdateSchedule(pb.UpdateScheduleRequest(schedule=changed))) == "ETAG_MISMATCH"


async def test_a_deleted_schedule_is_gone_and_its_name_free(world, stub):
    made = await create(stub, "beat", schedule(interval_s=60), request_id="r")
    assert await create(stub, "beat", schedule(interval_s=60), request_id="r") == made
    assert await refusal(create(stub, "beat", schedule(interval_s=60))) == "SCHEDULE_ALREADY_EXISTS"
    await stub.DeleteSchedule(pb.DeleteScheduleRequest(name=made.name, etag=made.etag))
    assert await refusal(stub.DeleteSchedule(pb.DeleteScheduleRequest(name=made.name))) == "SCHEDULE_NOT_FOUND"
    await world.advance(60)
    assert not await sent(stub)
    await create(stub, "beat", schedule(interval_s=60))
    await world.advance(60)
    assert len(await sent(stub)) == 1


async def test_a_schedule_is_run_by_hand_once_for_a_request(world, stub):
    made = await create(stub, "beat", schedule(interval_s=60))
    first = (await stub.RunSchedule(pb.RunScheduleRequest(name=made.name, request_id="r"))).receipt
    again = (await stub.RunSchedule(pb.RunScheduleRequest(name=made.name, request_id="r"))).receipt
    assert (again.message, again.duplicate) == (first.message, True)
    await stub.RunSchedule(pb.RunScheduleRequest(name=made.name))
    assert len(await sent(stub)) == 2


async def test_a_schedule_goes_on_with_a_named_session(world, stub):
    worker = await Worker(stub).start()
    made = message_pb2.Schedule()
    made.interval.seconds = 60
    made.spawn.bot, made.spawn.session_id = "bots/main", "thread:digest"
    made.spawn.conflict_policy = message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING
    made.spawn.task.add(text="digest")
    await create(stub, "digest", made)
    for _ in range(3):
        await world.advance(60)
        delivery = await worker.delivery()
        assert delivery.session == "bots/main/sessions/thread:digest"
        await worker.complete(delivery)
    assert world.sessions.made == 1


async def test_a_schedule_publishes_to_a_topic(world, stub):
    await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news"))
    for number in range(3):
        subscriber = f"bots/main/sessions/s{number}"
        await stub.SubscribeTopic(pb.SubscribeTopicRequest(topic="topics/news", subscriber=subscriber))
    made = schedule(interval_s=60)
    made.draft.topic = "topics/news"
    await create(stub, "news", made)
    await world.advance(60)
    assert [len(await sent(stub, f"bots/main/sessions/s{number}")) for number in range(3)] == [1, 1, 1]


async def test_a_bot_sees_and_changes_its_own_schedules_alone(world, stub):
    other = world.stub(actor="bots/other")
    await create(stub, "mine", schedule(interval_s=60))
    await create(other, "theirs", schedule(interval_s=60, session="bots/other/sessions/a"))
    assert [s.name for s in (await other.ListSchedules(pb.ListSchedulesRequest())).schedules] == ["schedules/theirs"]
    assert await refusal(other.DeleteSchedule(pb.DeleteScheduleRequest(name="schedules/mine"))) == "SCHEDULE_NOT_FOUND"
    first = await stub.ListSchedules(pb.ListSchedulesRequest(page_size=1))
    second = await stub.ListSchedules(pb.ListSchedulesRequest(page_size=1, page_token=first.next_page_token))
    assert [s.name for s in (*first.schedules, *second.schedules)] == ["schedules/mine", "schedules/theirs"]
    assert not second.next_page_token


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("schedule.timing", lambda s: s.ClearField("interval")),
        ("schedule.interval", lambda s: setattr(s.interval, "seconds", 0)),
        ("schedule.cron", lambda s: setattr(s, "cron", "61 * * * *")),
        ("schedule.cron", lambda s: setattr(s, "cron", "* * * *")),
        ("schedule.cron", lambda s: setattr(s, "cron", "* * * * * *")),
        ("schedule.time_zone", lambda s: setattr(s, "time_zone", "Mars/Olympus")),
        ("schedule.time_zone", lambda s: setattr(s, "time_zone", "../etc/passwd")),
        ("schedule.missed_run_policy", lambda s: setattr(s, "missed_run_policy", 9)),
        ("schedule.draft", lambda s: s.ClearField("draft")),
        ("schedule.draft", lambda s: s.spawn.task.add(text="x")),
        ("schedule.draft.parts", lambda s: s.draft.ClearField("parts")),
        ("schedule.draft.idempotency_key", lambda s: setattr(s.draft, "idempotency_key", "k")),
        ("schedule.draft.not_before_time", lambda s: setattr(s.draft.not_before_time, "seconds", 1)),
    ],
)
async def test_a_schedule_that_breaks_a_rule_is_refused_by_field(stub, field, change):
    made = schedule(interval_s=60)
    change(made)
    assert await refusal(create(stub, "bad", made)) == field
    assert not (await stub.ListSchedules(pb.ListSchedulesRequest())).schedules


@pytest.mark.parametrize("name", ["", "A", "a/b", "x" * 65])
async def test_a_bad_schedule_id_is_refused(stub, name):
    assert await refusal(create(stub, name, schedule(interval_s=60))) == "schedule_id"


async def test_replicas_send_for_each_due_time_once(postgresql_url, clock):
    first, second = family_world(postgresql_url, clock), family_world(postgresql_url, clock)
    second.sessions = first.sessions
    await first.start()
    await second.start()
    try:
        await create(first.stub(), "beat", schedule(interval_s=60, missed_run_policy=ALL))
        for count in range(1, 6):
            clock.advance(timedelta(seconds=60))
            await asyncio.gather(*(world.router.chores.tick() for world in (first, second) for _ in range(3)))
            assert len(await sent(second.stub())) == count
    finally:
        await second.close()
        await first.close()


async def test_a_clock_that_is_put_back_sends_nothing_twice(world, stub):
    await create(stub, "beat", schedule(interval_s=60))
    await world.advance(60)
    await world.advance(-600)
    await world.advance(300)
    assert len(await sent(stub)) == 1
    await world.advance(360)
    assert len(await sent(stub)) == 2
