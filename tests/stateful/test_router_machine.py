"""A router that is sent to, worked for, cancelled, restarted and killed in any order: what it accepted ends, once."""

import asyncio
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract" / "router_service"))

from router_world import Worker, sqlite_world

from mobot.router.v1 import message_pb2, router_service_pb2

SESSIONS = tuple(f"bots/main/sessions/s{number}" for number in range(3))
ENDS = ("SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED")

pytestmark = pytest.mark.stateful


class RouterMachine(stateful.RuleBasedStateMachine):
    """`accepted` maps runs to their sessions in order of acceptance; `held` is what the worker has in hand."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="mobot-router-")
        self.accepted = {}
        self.held = {}
        self.priorities = set()
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
    )
    def send(self, sessions, attempts, twice):
        for session in sessions:
            self._send_one(session, attempts, twice)

    def _send_one(self, session, attempts, twice):
        self.number += 1
        key = f"k{self.number:03}"
        draft = message_pb2.MessageDraft(session=session, idempotency_key=key, max_attempts=attempts)
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

    @stateful.rule(how=st.sampled_from(("complete", "retry", "fail")), count=st.integers(1, 4))
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
            self.held[delivery.message.run] = delivery.epoch

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
                await worker.send(failures=[message_pb2.Failure(run=run, epoch=epoch, retryable=how == "retry")])
            await worker.settlement()
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
                elif event.HasField("run_finished"):
                    active.discard(event.run)


RouterMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRouterMachine = RouterMachine.TestCase
