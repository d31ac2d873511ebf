"""A router of which children are asked, to which is published, whose schedules run, and that is restarted and killed in
any order: each thing happens once, and every parent learns of every end."""

import asyncio
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract" / "router_service"))

from family_world import family_world
from router_world import Worker

from chassis.clock import FakeClock
from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.settings import RouterSettings

pb = router_service_pb2
PARENTS = ("bots/main/sessions/p0", "bots/main/sessions/p1")
LISTENERS = tuple(f"bots/main/sessions/l{number}" for number in range(3))
TICKED = "bots/main/sessions/ticked"
STEP_S = 600
FAN_OUT = 3

pytestmark = pytest.mark.stateful


class FanMachine(stateful.RuleBasedStateMachine):
    """`children` maps runs of tasks to parents; `published` maps keys to how many copies there must be; `beats` are the
    times since which the schedule runs."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="mobot-router-")
        self.clock = FakeClock()
        url = f"sqlite:///{self.directory.name}/router.sqlite3"
        limits = RouterSettings(spawn_fan_out=FAN_OUT, spawn_depth=2)
        self.world = family_world(url, self.clock, settings=limits)
        self.children = {}
        self.published = {}
        self.subscribed = set()
        self.number = 0
        self.worker = None
        self.held = {}
        self.expected_ticks = None
        self.run(self._begin())

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 150))

    @stateful.rule(parent=st.sampled_from(PARENTS), twice=st.booleans(), timeout=st.sampled_from((0, 60)))
    def spawn(self, parent, twice, timeout):
        self.number += 1
        run = f"c{self.number:03}"
        wish = message_pb2.Spawn(parent=parent, session_id=f"thread:{run}", announce=True)
        wish.task.add(text=run)
        if timeout:
            wish.timeout.seconds = timeout
        for attempt in range(1 + twice):
            receipt = self.run(self._spawn(pb.SpawnSessionRequest(spawn=wish, request_id=run)))
            if receipt is None:
                assert attempt == 0
                return
            assert receipt.duplicate == bool(attempt)
        self.children[run] = parent

    @stateful.rule(listener=st.sampled_from(LISTENERS), on=st.booleans())
    def listen(self, listener, on):
        kind = pb.SubscribeTopicRequest if on else pb.UnsubscribeTopicRequest
        request = kind(topic="topics/news", subscriber=listener)
        self.run(self._call("SubscribeTopic" if on else "UnsubscribeTopic", request))
        (self.subscribed.add if on else self.subscribed.discard)(listener)

    @stateful.rule(twice=st.booleans())
    def publish(self, twice):
        self.number += 1
        key = f"p{self.number:03}"
        draft = message_pb2.MessageDraft(topic="topics/news", idempotency_key=key)
        draft.parts.add(text=key)
        for _ in range(1 + twice):
            receipt = self.run(self._call("PublishTopic", pb.PublishTopicRequest(message=draft))).receipt
        assert receipt.duplicate == twice
        assert receipt.fan_out_count == len(self.subscribed)
        self.published[key] = len(self.subscribed)

    @stateful.rule(how=st.sampled_from(("complete", "say", "retry", "fail")), count=st.integers(1, 4))
    def work(self, how, count):
        self.run(self._work(how, count))

    @stateful.rule(place=st.integers(0, 5))
    def cancel(self, place):
        runs = list(reversed(self.children))
        if place < len(runs):
            self.run(self._call("CancelRun", pb.CancelRunRequest(run=runs[place])))

    @stateful.rule(seconds=st.sampled_from((1, 20, 70, STEP_S)))
    def pass_time(self, seconds):
        self.run(self.world.advance(seconds))

    @stateful.rule(kill=st.booleans())
    def restart(self, kill):
        self.run(self._restart(kill))

    def teardown(self):
        try:
            self.run(self._finish())
            self._check()
        finally:
            self.run(self.world.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            self.directory.cleanup()

    async def _begin(self):
        await self.world.start()
        await self._attach()
        stub = self.world.stub()
        await stub.CreateTopic(pb.CreateTopicRequest(topic_id="news"))
        made = message_pb2.Schedule(missed_run_policy=message_pb2.MISSED_RUN_POLICY_RUN_ALL)
        made.interval.seconds = STEP_S
        made.draft.session = TICKED
        made.draft.parts.add(text="tick")
        await stub.CreateSchedule(pb.CreateScheduleRequest(schedule_id="tick", schedule=made))
        self.began = self.clock.now()

    async def _call(self, name, request):
        return await getattr(self.world.stub(), name)(request)

    async def _spawn(self, request):
        try:
            return (await self.world.stub().SpawnSession(request)).receipt
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error).reason
        assert refusal == "SPAWN_LIMIT_REACHED"
        ended, parent = self._ended(), request.spawn.parent
        assert sum(p == parent and run not in ended for run, p in self.children.items()) >= FAN_OUT
        return None

    async def _attach(self):
        self.worker = await Worker(self.world.stub(), held=list(self.held.items())).start()
        for lost in self.worker.welcome.lost_leases:
            self.held.pop(lost.run, None)

    async def _take(self):
        await asyncio.sleep(0.004)
        while not self.worker.deliveries.empty():
            delivery = self.worker.deliveries.get_nowait()
            self.held[delivery.message.run] = delivery.epoch

    async def _work(self, how, count):
        for _ in range(count):
            await self._take()
            if not self.held:
                continue
            run, epoch = next(iter(self.held.items()))
            if how in ("complete", "say"):
                done = message_pb2.Completion(run=run, epoch=epoch)
                if how == "say":
                    done.reply.add(text=f"result of {run}")
                await self.worker.send(completions=[done])
            else:
                await self.worker.send(failures=[message_pb2.Failure(run=run, epoch=epoch, retryable=how == "retry")])
            await self.worker.settlement()
            del self.held[run]

    async def _restart(self, kill):
        worker = self.worker
        await (self.world.crash() if kill else self.world.stop_router())
        await worker.cut()
        await self.world.start_router()
        await self._attach()

    async def _finish(self):
        await self.world.advance(STEP_S)
        ticks = (self.clock.now() - self.began) // timedelta(seconds=STEP_S)
        self.ticks = ticks
        deadline = self.loop.time() + 120
        while self.loop.time() < deadline:
            if self._is_complete():
                return
            await self._take()
            done = [message_pb2.Completion(run=run, epoch=epoch) for run, epoch in self.held.items()]
            if not done:
                self.clock.advance(timedelta(seconds=61))
                await self.world.router.timers.tick()
                continue
            await self.worker.send(completions=done)
            for _ in done:
                await self.worker.settlement()
            self.held.clear()
        raise AssertionError("unfinished")

    def _is_complete(self):
        ended = self._ended()
        return (
            all(run in ended and f"reply/{run}" in ended for run in self.children)
            and sum(session in LISTENERS for session in ended.values()) == sum(self.published.values())
            and sum(session == TICKED for session in ended.values()) >= self.ticks
        )

    def _ended(self):
        return {
            event.run: session
            for session, events in self.world.sessions.events.items()
            for event in events
            if event.HasField("run_finished")
        }

    def _check(self):
        for session, events in self.world.sessions.events.items():
            ids = [event.id for event in events]
            assert len(ids) == len(set(ids))
            finished = Counter(event.run for event in events if event.HasField("run_finished"))
            assert not finished or max(finished.values()) == 1, (session, finished)
        ended = self._ended()
        for parent in PARENTS:
            told = sorted(run.removeprefix("reply/") for run, session in ended.items() if session == parent)
            assert told == sorted(run for run, p in self.children.items() if p == parent)
        ticks = [int(run.rpartition("/")[2]) for run, session in ended.items() if session == TICKED]
        assert len(ticks) == len(set(ticks))
        texts = Counter(
            event.message.parts[0].text
            for session in LISTENERS
            for event in self.world.sessions.events.get(session, ())
            if event.HasField("message")
        )
        assert texts == Counter({key: count for key, count in self.published.items() if count})


FanMachine.TestCase.settings = settings(
    max_examples=10,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFanMachine = FanMachine.TestCase
