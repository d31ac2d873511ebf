"""A router that is sent to, worked for, cancelled, restarted and killed in any order: what it accepted ends, once."""

import asyncio
import sys
import tempfile
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract" / "router_service"))

from router_world import Worker, sqlite_world

from chassis.status import from_rpc_error
from mobot.router.v1 import message_pb2, router_service_pb2

SESSIONS = tuple(f"bots/main/sessions/s{number}" for number in range(3))
ENQUEUE, STEER, COLLECT = message_pb2.BUSY_MODE_ENQUEUE, message_pb2.BUSY_MODE_STEER, message_pb2.BUSY_MODE_COLLECT
ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED")

pytestmark = pytest.mark.stateful


class RouterMachine(stateful.RuleBasedStateMachine):
    """`accepted` maps runs to their sessions in order of acceptance; `held` is what the worker has in hand, `steps`
    what runs were told is remembered, `asked` those that a person must decide about."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="mobot-router-")
        self.accepted = {}
        self.held = {}
        self.steps = {}
        self.asked = set()
        self.number = 0
        self.worker = None
        self.world = sqlite_world(Path(self.directory.name))
        self.run(self.world.start())
        self.run(self._attach())

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 30))

    @stateful.rule(
        sessions=st.lists(st.sampled_from(SESSIONS), min_size=1, max_size=4),
        attempts=st.integers(1, 3),
        twice=st.booleans(),
        mode=st.sampled_from((ENQUEUE, ENQUEUE, STEER, COLLECT)),
    )
    def send(self, sessions, attempts, twice, mode):
        for session in sessions:
            self._send_one(session, attempts, twice, mode)

    def _send_one(self, session, attempts, twice, mode):
        self.number += 1
        key = f"k{self.number:03}"
        draft = message_pb2.MessageDraft(session=session, idempotency_key=key, max_attempts=attempts, mode=mode)
        draft.parts.add(text=key)
        request = router_service_pb2.SendMessageRequest(message=draft)
        for _ in range(1 + twice):
            receipt = self.run(self._send(request))
        assert receipt.duplicate == twice
        self.accepted[key] = session

    @stateful.rule()
    def attach(self):
        if self.worker is None:
            self.run(self._attach())

    @stateful.rule()
    def cut(self):
        if self.worker is not None:
            self.run(self.worker.cut())
            self.worker = None

    @stateful.rule()
    def take_in(self):
        """Running turns take in what was handed to them."""
        if self.worker is not None:
            self.run(self._take_in())

    @stateful.rule(count=st.integers(1, 2))
    def remember(self, count):
        if self.worker is not None:
            self.run(self._remember(count))

    @stateful.rule()
    def decide(self):
        self.run(self._decide())

    @stateful.rule(how=st.sampled_from(("complete", "retry", "fail", "ask")), count=st.integers(1, 4))
    def work(self, how, count):
        self.run(self._work(how, count))

    @stateful.rule(place=st.integers(0, 5))
    def cancel(self, place):
        """Preferably what is being worked on."""
        runs = [*self.held, *reversed(self.accepted)]
        if place < len(runs):
            self.run(self._cancel(router_service_pb2.CancelRunRequest(run=runs[place])))

    @stateful.rule()
    def take(self):
        """The worker gets what there is, and keeps it."""
        if self.worker is not None:
            self.run(self._take())

    @stateful.rule(seconds=st.sampled_from((1, 6, 20, 70)))
    def pass_time(self, seconds):
        self.run(self.world.advance(seconds))

    @stateful.rule()
    def restart(self):
        self.run(self._restart(kill=False))

    @stateful.rule()
    def kill(self):
        self.run(self._restart(kill=True))

    def teardown(self):
        try:
            self.run(self._finish())
            self._check()
        finally:
            self.run(self.world.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            self.directory.cleanup()

    async def _send(self, request):
        return (await self.world.stub().SendMessage(request)).receipt

    async def _cancel(self, request):
        await self.world.stub().CancelRun(request)

    async def _attach(self):
        self.worker = await Worker(self.world.stub(), held=list(self.held.items())).start()
        for lost in self.worker.welcome.lost_leases:
            self.held.pop(lost.run, None)

    async def _take(self):
        await asyncio.sleep(0.004)
        while not self.worker.deliveries.empty():
            delivery = self.worker.deliveries.get_nowait()
            run = delivery.message.run
            self.held[run] = delivery.epoch
            assert [step.step for step in delivery.steps] == self.steps.get(run, [])
            assert {message.joined_run for message in delivery.collected} <= {run}

    async def _take_in(self):
        await self._take()
        while not self.worker.steerings.empty():
            steering = self.worker.steerings.get_nowait()
            if self.held.get(steering.run) == steering.epoch:
                await self.worker.take_in(steering)

    async def _remember(self, count):
        await self._take()
        if not self.held:
            return
        run, epoch = next(iter(self.held.items()))
        for _ in range(count):
            known = self.steps.setdefault(run, [])
            step = message_pb2.RunStep(run=run, epoch=epoch, step=f"step {len(known)}", result=b"x")
            await self.worker.send(steps=[step])
            receipt = await self.worker.receipts.get()
            if not receipt.HasField("refusal"):
                known.append(step.step)

    async def _decide(self):
        stub = self.world.stub()
        for run in sorted(self.asked):
            request = router_service_pb2.ResolveRunRequest(run=run)
            request.decision.answer = "go on"
            try:
                await stub.ResolveRun(request)
            except grpc.aio.AioRpcError as error:
                if from_rpc_error(error).reason != "NO_DECISION_PENDING":  # else it was cancelled meanwhile
                    raise
        self.asked.clear()

    async def _work(self, how, count):
        worker = self.worker
        for _ in range(count):
            if worker is None:
                return
            await self._take()
            if not self.held:
                continue
            run, epoch = next(iter(self.held.items()))
            if how == "complete":
                await worker.send(completions=[message_pb2.Completion(run=run, epoch=epoch)])
            else:
                failure = message_pb2.Failure(run=run, epoch=epoch, retryable=how == "retry")
                if how == "ask":
                    failure.decision_request.question = "Shall it go on?"
                await worker.send(failures=[failure])
            settlement = await worker.settlement()
            if settlement.state == message_pb2.MESSAGE_STATE_NEEDS_DECISION:
                self.asked.add(run)
            del self.held[run]

    async def _restart(self, *, kill):
        worker, self.worker = self.worker, None
        if kill:
            await self.world.crash()
        else:
            await self.world.stop_router()
        if worker is not None:
            await worker.cut()
        await self.world.start_router()

    async def _finish(self):
        if self.worker is None:
            await self._attach()
        for _ in range(300):
            if len(self._ended()) == len(self.accepted):
                return
            await self._decide()
            await self._take()
            done = [message_pb2.Completion(run=run, epoch=epoch) for run, epoch in self.held.items()]
            if not done:
                await self.world.advance(70)
                continue
            await self.worker.send(completions=done)
            for _ in done:
                await self.worker.settlement()
            self.held.clear()
        raise AssertionError(f"unfinished: {set(self.accepted) - set(self._ended())}")

    def _ended(self):
        return {run: end for session in SESSIONS for run, end in self.world.sessions.outcomes(session).items()}

    def _check(self):
        ended = self._ended()
        assert ended.keys() == self.accepted.keys()
        assert set(ended.values()) <= set(ENDS)
        for session in SESSIONS:
            events = self.world.sessions.events.get(session, [])
            ids = [event.id for event in events]
            assert len(ids) == len(set(ids))
            finished = [event.run for event in events if event.HasField("run_finished")]
            assert len(finished) == len(set(finished))
            started = [event.run for event in events if event.HasField("run_started")]
            first_starts = list(dict.fromkeys(started))
            assert first_starts == sorted(first_starts)
            active = set()
            for event in events:
                if event.HasField("run_started"):
                    assert active <= {event.run}
                    active = {event.run}
                elif event.HasField("run_finished") or event.HasField("decision_requested"):
                    active.discard(event.run)


RouterMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRouterMachine = RouterMachine.TestCase
