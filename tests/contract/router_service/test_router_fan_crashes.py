"""The router dies at each commit of a spawn, a publication and a schedule: everything happens once all the same."""

import asyncio
import contextlib
from datetime import timedelta
from itertools import pairwise

import grpc.aio
import pytest
from family_world import family_world
from router_world import until
from test_router_crashes import KillAt, keep_working

from mobot.router.v1 import message_pb2, router_service_pb2

pb = router_service_pb2
PARENT = "bots/main/sessions/main"
CHILD = "bots/main/sessions/thread:plan"
LISTENERS = ("bots/main/sessions/l0", "bots/main/sessions/l1")
TICKED = "bots/main/sessions/ticked"
# The writer's thread is what dies.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


async def insist(call):
    """Calls until there is an answer, as a client does that hears nothing."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return await call()
        await asyncio.sleep(0.005)


async def use(world):
    schedule = message_pb2.Schedule(missed_run_policy=message_pb2.MISSED_RUN_POLICY_RUN_ALL)
    schedule.interval.seconds = 5
    schedule.draft.session = TICKED
    schedule.draft.parts.add(text="tick")
    create = pb.CreateScheduleRequest(schedule_id="tick", schedule=schedule, request_id="s")
    await insist(lambda: world.stub().CreateSchedule(create))
    topic = pb.CreateTopicRequest(topic_id="news", request_id="t")
    await insist(lambda: world.stub().CreateTopic(topic))
    for number, listener in enumerate(LISTENERS):
        request = pb.SubscribeTopicRequest(topic="topics/news", subscriber=listener, request_id=f"l{number}")
        await insist(lambda request=request: world.stub().SubscribeTopic(request))
    wish = message_pb2.Spawn(
        parent=PARENT, session_id="thread:plan", announce=True, cleanup=message_pb2.SPAWN_CLEANUP_ARCHIVE
    )
    wish.task.add(text="plan")
    spawn = pb.SpawnSessionRequest(spawn=wish, request_id="r")
    await insist(lambda: world.stub().SpawnSession(spawn))
    letter = message_pb2.MessageDraft(topic="topics/news", idempotency_key="p")
    letter.parts.add(text="extra")
    publish = pb.PublishTopicRequest(message=letter)
    await insist(lambda: world.stub().PublishTopic(publish))


def finished(world, session):
    return [event.run for event in world.sessions.events.get(session, ()) if event.HasField("run_finished")]


def complete(world):
    return (
        finished(world, PARENT)
        and all(finished(world, listener) for listener in LISTENERS)
        and len(finished(world, TICKED)) >= 3
        and world.sessions.archived
    )


def check(world, began_us, *, crashed):
    assert finished(world, CHILD) == ["r"]
    assert finished(world, PARENT) == ["reply/r"]
    assert [len(finished(world, listener)) for listener in LISTENERS] == [1, 1]
    assert world.sessions.made == 1
    # A death between the archiving and its record makes the next router repeat it, which changes nothing; once, and
    # never without a death.
    assert world.sessions.archived in ([[CHILD], [CHILD, CHILD]] if crashed else [[CHILD]])
    ticks = [int(run.rpartition("/")[2]) for run in finished(world, TICKED)]
    steps = [later - earlier for earlier, later in pairwise(ticks)]
    assert set(steps) == {5_000_000}
    assert ticks[0] > began_us


@pytest.mark.parametrize(("commit", "stage"), [(n, ("before", "after")[n % 2]) for n in range(1, 21)])
async def test_everything_happens_once_when_the_router_dies(sqlite_url, clock, commit, stage):
    kill = KillAt(commit, stage)
    world = family_world(sqlite_url, clock, commit_hook=kill)
    began_us = int(clock.now().timestamp() * 1e6)
    await world.start()
    crashed = False
    everything = asyncio.create_task(until(lambda: complete(world)))
    killed = asyncio.create_task(kill.killed.wait())
    tasks = [everything, killed, asyncio.create_task(keep_working(world)), asyncio.create_task(use(world))]
    tasks.append(asyncio.create_task(keep_time(world, clock)))
    try:
        await asyncio.wait((everything, killed), return_when=asyncio.FIRST_COMPLETED)
        crashed = killed.done()
        if crashed:
            await world.crash()
            await world.start_router()
        await everything
        check(world, began_us, crashed=crashed)
    finally:
        kill.disarm()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if kill.killed.is_set() and not crashed:
            await world.crash()
        await world.close()


async def keep_time(world, clock):
    """Time goes on, and so do timers, whatever they meet."""
    while True:
        await asyncio.sleep(0.02)
        clock.advance(timedelta(seconds=2))
        router = world.router
        if router is not None:
            router.chores.wake()
            router.timers.wake(1)
