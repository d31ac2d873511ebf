"""What sessions consumed: exact at once, by day, over restarts, and counted once."""

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from session_world import World, append_to, create, finished, message, name, pb, refusal, started

from mobot.session.v1 import event_pb2, part_pb2


@pytest.fixture
async def world(database_url, tmp_path):
    running = World(database_url, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


def stamp(world) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(world.clock.now())
    return time


async def turn(world, stub, session: str, run: str, *, seconds: int, tokens: int, bot: str = "main") -> None:
    """A question, a tool call and an answer; the run reports what it consumed."""
    start = stamp(world)
    call = event_pb2.Event(id=f"{run}/call", run=run, tool_called=event_pb2.ToolCalled(call_id="1", tool="look"))
    await append_to(stub, name(session, bot), message(f"{run}/q", run=run), started(run), call)
    world.clock.advance(timedelta(seconds=seconds))
    usage = part_pb2.Usage(input_tokens=tokens, output_tokens=tokens // 2, request_count=1, tool_call_count=7)
    answer = message(f"{run}/a", "done", role=event_pb2.ROLE_ASSISTANT, run=run, usage=usage)
    await append_to(stub, name(session, bot), answer, finished(run, usage=usage, start_time=start))


async def usage_of(stub, session: str, **fields) -> pb.GetSessionUsageResponse:
    return await stub.GetSessionUsage(pb.GetSessionUsageRequest(name=name(session), **fields))


async def test_a_session_is_accounted_for_by_day_at_once_and_after_a_restart(world):
    stub = world.stub()
    await create(stub, "a")
    await turn(world, stub, "a", "r1", seconds=5, tokens=100)
    first_day = stamp(world)
    world.clock.advance(timedelta(days=2))
    await turn(world, stub, "a", "r2", seconds=7, tokens=10)
    at_once = await usage_of(stub, "a")
    assert [day.message_count for day in at_once.days] == [2, 2]
    assert [day.usage.input_tokens for day in at_once.days] == [100, 10]
    assert [day.usage.tool_call_count for day in at_once.days] == [1, 1]
    assert [day.run_time.seconds for day in at_once.days] == [5, 7]
    assert (at_once.total.input_tokens, at_once.total.output_tokens, at_once.sum.run_count) == (110, 55, 2)
    assert at_once.days[0].day == first_day.ToDatetime().date().isoformat()
    await world.restart()
    assert await usage_of(world.stub(), "a") == at_once
    until = await usage_of(world.stub(), "a", end_time=first_day)
    assert [day.usage.input_tokens for day in until.days] == [100]
    since = await usage_of(world.stub(), "a", start_time=stamp(world))
    assert [day.usage.input_tokens for day in since.days] == [10]


async def test_the_summary_adds_up_sessions_and_bots(world):
    stub = world.stub()
    await create(stub, "a")
    await create(stub, "b")
    await create(stub, "c", bot="helper")
    await turn(world, stub, "a", "r1", seconds=1, tokens=2)
    await turn(world, stub, "b", "r2", seconds=1, tokens=20)
    await turn(world, stub, "c", "r3", seconds=1, tokens=200, bot="helper")
    everything = await stub.GetUsageSummary(pb.GetUsageSummaryRequest())
    assert (everything.total.input_tokens, everything.session_count) == (222, 3)
    of_main = await stub.GetUsageSummary(pb.GetUsageSummaryRequest(bot="bots/main"))
    assert (of_main.total.input_tokens, of_main.session_count, of_main.sum.message_count) == (22, 2, 4)
    seen_by_helper = await world.stub("bots/helper").GetUsageSummary(pb.GetUsageSummaryRequest())
    assert (seen_by_helper.total.input_tokens, seen_by_helper.session_count) == (200, 1)


async def test_a_purged_session_counts_no_more(world):
    stub = world.stub()
    session = await create(stub, "a")
    await turn(world, stub, "a", "r1", seconds=1, tokens=2)
    await stub.DeleteSession(pb.DeleteSessionRequest(name=name("a")))
    await stub.PurgeSession(pb.PurgeSessionRequest(name=name("a"), expected_uid=session.uid))
    summary = await stub.GetUsageSummary(pb.GetUsageSummaryRequest())
    assert (summary.total.input_tokens, summary.session_count, list(summary.days)) == (0, 0, [])


async def test_wrong_questions(world):
    stub = world.stub()
    await create(stub, "a")
    now = stamp(world)
    backwards = pb.GetSessionUsageRequest(
        name=name("a"), start_time=now, end_time=Timestamp(seconds=now.seconds - 86_400)
    )
    assert (await refusal(stub.GetSessionUsage(backwards))).reason == "FIELD_INVALID"
    missing = pb.GetSessionUsageRequest(name=name("nosuch"))
    assert (await refusal(stub.GetSessionUsage(missing))).reason == "SESSION_NOT_FOUND"
    foreign = pb.GetSessionUsageRequest(name=name("a"))
    assert (await refusal(world.stub("bots/helper").GetSessionUsage(foreign))).reason == "SESSION_NOT_FOUND"
