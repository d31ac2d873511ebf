"""Whatever dies, and whenever: what was accepted is finished, once."""

import asyncio
import contextlib

import grpc.aio
import pytest
from router_world import Worker, World, draft, until

from mobot.router.v1 import message_pb2, router_service_pb2

SESSIONS = ("bots/main/sessions/a", "bots/main/sessions/b")
# The writer's thread is what dies.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

KEYS = tuple(f"k{number}" for number in range(4))


def session_of(key):
    return SESSIONS[KEYS.index(key) % len(SESSIONS)]


class KillAt:
    """Ends the writer's thread at one of its commits: right before it, or right after."""

    def __init__(self, commit, stage):
        self._left, self._stage = commit, stage
        self.killed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def disarm(self):
        self._left = -1

    def __call__(self, stage):
        if stage == "before":
            self._left -= 1
        if self._left == 0 and stage == self._stage:
            self._left = -1
            self._loop.call_soon_threadsafe(self.killed.set)
            raise SystemExit  # a thread ends with this without a word


async def keep_sending(world, key):
    """Sends until it is accepted, as a client does that hears nothing."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = router_service_pb2.SendMessageRequest(message=draft(key, session_of(key), idempotency_key=key))
            return (await world.stub().SendMessage(request)).receipt
        await asyncio.sleep(0.005)


async def keep_working(world, refuse_first=False):
    """A worker that comes back with the leases it holds and completes what it is given."""
    held = {}
    while True:
        try:
            worker = await Worker(world.stub(), held=list(held.items())).start()
            if worker.welcome is None:
                await asyncio.sleep(0.005)
                continue
            for lost in worker.welcome.lost_leases:
                held.pop(lost.run, None)
            for run, epoch in held.items():
                await worker.send(completions=[message_pb2.Completion(run=run, epoch=epoch)])
            while not worker.ended.is_set():
                while not worker.deliveries.empty():
                    delivery = worker.deliveries.get_nowait()
                    held[delivery.message.run] = delivery.epoch
                    if refuse_first and delivery.attempt == 1:
                        failure = message_pb2.Failure(run=delivery.message.run, epoch=delivery.epoch, retryable=True)
                        failure.retry_delay.nanos = 1
                        await worker.send(failures=[failure])
                    else:
                        done = message_pb2.Completion(run=delivery.message.run, epoch=delivery.epoch)
                        await worker.send(completions=[done])
                while not worker.settlements.empty():
                    settled = worker.settlements.get_nowait()
                    held.pop(settled.run, None)
                await asyncio.sleep(0.002)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.005)
        except asyncio.InvalidStateError:
            await asyncio.sleep(0.005)


def finished(world):
    return {run: outcome for session in SESSIONS for run, outcome in world.sessions.outcomes(session).items()}


def check_logs(world):
    for session in SESSIONS:
        ids = world.sessions.ids(session)
        assert len(ids) == len(set(ids))
        runs = [event.run for event in world.sessions.events[session] if event.HasField("run_finished")]
        assert runs == [key for key in KEYS if session_of(key) == session]
        texts = [e.message.parts[0].text for e in world.sessions.events[session] if e.HasField("message")]
        assert texts == runs


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("commit", range(1, 13))
async def test_what_was_accepted_is_finished_once_when_the_router_dies(sqlite_url, clock, commit, stage):
    kill = KillAt(commit, stage)
    world = World(sqlite_url, clock, commit_hook=kill)
    await world.start()
    crashed = False
    tasks = [asyncio.create_task(keep_working(world, refuse_first=commit % 2 == 0))]

    async def send_all():
        for key in KEYS:
            await keep_sending(world, key)

    sending = asyncio.create_task(send_all())
    tasks.append(sending)
    try:
        everything = asyncio.create_task(until(lambda: len(finished(world)) == len(KEYS)))
        killed = asyncio.create_task(kill.killed.wait())
        tasks += [everything, killed]
        await asyncio.wait((everything, killed), return_when=asyncio.FIRST_COMPLETED)
        crashed = killed.done()
        if crashed:
            await world.crash()
            await world.start_router()
        ticking = asyncio.create_task(keep_time(world))
        tasks.append(ticking)
        await everything
        assert finished(world) == dict.fromkeys(KEYS, "SUCCEEDED")
        check_logs(world)
    finally:
        kill.disarm()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if kill.killed.is_set() and not crashed:
            # It died when all was done already; closing would wait for its writer.
            await world.crash()
        await world.close()


async def keep_time(world):
    while True:
        await asyncio.sleep(0.05)
        if world.router is not None:
            await world.advance(1)


async def test_a_crash_before_the_attempt_is_in_the_log_loses_nothing(sqlite_url, clock):
    world = World(sqlite_url, clock)
    await world.start()
    try:
        world.sessions.hold = asyncio.Event()
        worker = await Worker(world.stub()).start()
        await keep_sending(world, "k0")
        await until(lambda: world.sessions.calls == 1)
        await world.crash()
        world.sessions.hold = None
        await world.start_router()
        assert not worker.deliveries.qsize()
        back = await Worker(world.stub()).start()
        delivery = await back.delivery()
        await back.complete(delivery)
        await until(lambda: finished(world) == {"k0": "SUCCEEDED"})
        assert world.sessions.ids(SESSIONS[0]).count("run/k0/finished") == 1
    finally:
        await world.close()


async def test_an_end_that_the_log_does_not_have_is_written_after_a_restart(sqlite_url, clock):
    world = World(sqlite_url, clock)
    await world.start()
    try:
        worker = await Worker(world.stub()).start()
        await keep_sending(world, "k0")
        delivery = await worker.delivery()
        world.sessions.down = True
        await worker.complete(delivery)
        await world.crash()
        world.sessions.down = False
        await world.start_router()
        await until(lambda: finished(world) == {"k0": "SUCCEEDED"})
    finally:
        await world.close()


async def test_leases_that_nobody_comes_back_for_are_given_to_others_after_a_restart(sqlite_url, clock):
    world = World(sqlite_url, clock)
    await world.start()
    try:
        worker = await Worker(world.stub()).start()
        await keep_sending(world, "k0")
        await worker.delivery()
        await world.crash()
        await world.start_router()
        other = await Worker(world.stub(), name="workers/w2").start()
        await world.advance(14)
        assert other.deliveries.empty()
        await world.advance(2)
        again = await other.delivery()
        assert (again.message.run, again.attempt) == ("k0", 2)
    finally:
        await world.close()


TOGETHER = ("k0", "s0", "c0", "c1", "c2")
MODES = {"s": message_pb2.BUSY_MODE_STEER, "c": message_pb2.BUSY_MODE_COLLECT}


class CarefulWorker:
    """Remembers a step before it completes, asks about the run "k0", and takes in whatever is handed to it.

    `kept` are the steps that it was told are remembered.
    """

    def __init__(self, world):
        self._world = world
        self._held = {}
        self.kept = set()
        self._decided = set()

    async def keep_working(self):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                worker = await Worker(self._world.stub(), held=list(self._held.items())).start()
                if worker.welcome is not None:
                    self._held = {held.run: held.epoch for held in worker.welcome.confirmed_leases}
                    for run in list(self._held):
                        await self._go_on(worker, run)
                    await self._work(worker)
            await asyncio.sleep(0.005)

    async def _work(self, worker):
        while not worker.ended.is_set():
            while not worker.deliveries.empty():
                delivery = worker.deliveries.get_nowait()
                run = delivery.message.run
                self._held[run] = delivery.epoch
                remembered = {step.step for step in delivery.steps}
                assert self.kept & {f"{run}/first"} <= {f"{run}/{step}" for step in remembered}
                if delivery.HasField("decision"):
                    self._decided.add(run)
                await self._go_on(worker, run)
            while not worker.receipts.empty():
                receipt = worker.receipts.get_nowait()
                if not receipt.HasField("refusal") and receipt.run in self._held:
                    self.kept.add(f"{receipt.run}/{receipt.step}")
                    await self._go_on(worker, receipt.run)
            while not worker.steerings.empty():
                await worker.take_in(worker.steerings.get_nowait())
            while not worker.settlements.empty():
                self._held.pop(worker.settlements.get_nowait().run, None)
            await asyncio.sleep(0.002)

    async def _go_on(self, worker, run):
        epoch = self._held[run]
        if f"{run}/first" not in self.kept:
            await worker.send(steps=[message_pb2.RunStep(run=run, epoch=epoch, step="first")])
        elif run == "k0" and run not in self._decided:
            failure = message_pb2.Failure(run=run, epoch=epoch)
            failure.decision_request.question = "?"
            await worker.send(failures=[failure])
        else:
            await worker.send(completions=[message_pb2.Completion(run=run, epoch=epoch)])


async def keep_deciding(world):
    asked = router_service_pb2.ListMessagesRequest()
    asked.filter.states.append(message_pb2.MESSAGE_STATE_NEEDS_DECISION)
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            for message in (await world.stub().ListMessages(asked)).messages:
                request = router_service_pb2.ResolveRunRequest(run=message.run, request_id=message.run)
                request.decision.answer = "go on"
                await world.stub().ResolveRun(request)
        await asyncio.sleep(0.01)


async def keep_sending_together(world):
    for key in TOGETHER:
        made = draft(key, SESSIONS[0], idempotency_key=key, mode=MODES.get(key[0], 0))
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await world.stub().SendMessage(router_service_pb2.SendMessageRequest(message=made))
                break
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("commit", range(2, 17, 2))
async def test_joined_turns_steps_and_decisions_survive_the_death_of_the_router(sqlite_url, clock, commit, stage):
    kill = KillAt(commit, stage)
    world = World(sqlite_url, clock, commit_hook=kill)
    await world.start()
    crashed = False
    worker = CarefulWorker(world)
    working = asyncio.create_task(worker.keep_working())
    tasks = [working, asyncio.create_task(keep_sending_together(world)), asyncio.create_task(keep_deciding(world))]
    try:
        everything = asyncio.create_task(until(lambda: len(finished(world)) == len(TOGETHER)))
        killed = asyncio.create_task(kill.killed.wait())
        tasks += [everything, killed]
        await asyncio.wait((everything, killed, working), return_when=asyncio.FIRST_COMPLETED)
        crashed = killed.done()
        if crashed:
            await world.crash()
            await world.start_router()
        tasks.append(asyncio.create_task(keep_time(world)))
        await asyncio.wait((everything, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        await everything
        assert finished(world) == dict.fromkeys(TOGETHER, "SUCCEEDED")
        ids = world.sessions.ids(SESSIONS[0])
        assert len(ids) == len(set(ids))
        assert sum(each.startswith("message/") for each in ids) == len(TOGETHER)
        assert any(each.startswith("run/k0/question/") for each in ids)
    finally:
        kill.disarm()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if kill.killed.is_set() and not crashed:
            await world.crash()
        await world.close()
