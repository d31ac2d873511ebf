"""The router and the real session service: what a transcript and a session's status show of a run."""

import grpc.aio
import pytest
from router_world import SECRET, Worker, World, send, until

from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.status import from_rpc_error
from chassis.telemetry import Telemetry
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc
from session_service.__main__ import compose
from session_service.settings import SessionSettings

A = "bots/main/sessions/a"


class RealWorld(World):
    """The stand-in of the session service is replaced by the service."""

    async def start(self):
        await super().start()
        directory = self.url.removeprefix("sqlite:///").rpartition("/")[0]
        self.session_service = await compose(
            SessionSettings(database_url=f"sqlite:///{directory}/session.sqlite3"),
            ChassisSettings(data_dir=directory, token=SECRET),
            dialer=self.neighbours,
            clock=self.clock,
            telemetry=Telemetry.off(),
        )
        host = ServiceHost(self.session_service, authenticator=self.authenticator, listen=(), telemetry=Telemetry.off())
        self.neighbours.add_handlers(host.local_handlers)
        self.session_stub = session_service_pb2_grpc.SessionServiceStub(self.neighbours.dial("session"))
        return self

    async def close(self):
        await super().close()
        await self.session_service.end_watches()
        await self.session_service.close()

    async def log(self, session=A):
        request = session_service_pb2.ListEventsRequest(parent=session)
        return [e for e in (await self.session_stub.ListEvents(request)).events if not e.HasField("session_created")]

    async def session(self, name=A):
        return (await self.session_stub.GetSession(session_service_pb2.GetSessionRequest(name=name))).session


@pytest.fixture
async def world(sqlite_url, clock):
    made = RealWorld(sqlite_url, clock)
    await made.start()
    yield made
    await made.close()


async def ended(world, count):
    async def count_ends():
        return sum(event.HasField("run_finished") for event in await world.log())

    while await count_ends() < count:
        await until(lambda: True)


async def test_a_transcript_shows_a_turn_and_the_session_its_state(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub, "hello", idempotency_key="k", user_input=True)
    delivery = await worker.delivery()
    assert (await world.session()).status == session_pb2.SESSION_STATUS_RUNNING
    assert delivery.sequence == next(e.sequence for e in await world.log() if e.HasField("message"))
    await worker.complete(delivery)
    await ended(world, 1)
    assert [event.id.rpartition("/")[0] for event in await world.log()] == ["message", "run/k/started", "run/k"]
    assert (await world.session()).status != session_pb2.SESSION_STATUS_RUNNING
    assert (await world.session()).created_via == "operator"


async def test_a_worker_that_lost_its_lease_can_write_nothing(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub, idempotency_key="k")
    delivery = await worker.delivery()
    await worker.cut()
    await until(lambda: not world.router._dispatcher.current_attachments())
    await world.advance(16)
    while not any(event.HasField("run_retrying") for event in await world.log()):
        await until(lambda: True)
    late = session_service_pb2.SessionAppend(session=A, epoch=delivery.epoch)
    event = late.events.add(id="run/k/reply", run="k")
    event.message.role = event_pb2.ROLE_ASSISTANT
    event.message.parts.add(text="too late")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.session_stub.AppendEvents(session_service_pb2.AppendEventsRequest(append=late))
    assert from_rpc_error(caught.value).reason == "FENCED"


async def test_mail_to_a_deleted_session_is_rejected(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub)
    await worker.complete(await worker.delivery())
    await ended(world, 1)
    await world.session_stub.DeleteSession(session_service_pb2.DeleteSessionRequest(name=A))
    await send(stub, idempotency_key="k")
    answer = await stub.WaitRun(router_service_pb2.WaitRunRequest(run="k"))
    assert answer.message.state == message_pb2.MESSAGE_STATE_REJECTED


async def test_a_transcript_is_whole_after_the_router_crashed(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    for number in range(4):
        await send(stub, str(number), idempotency_key=f"k{number}")
    delivery = await worker.delivery()
    await world.crash()
    await world.start_router()
    back = await Worker(world.stub(), held=[(delivery.message.run, delivery.epoch)]).start()
    await back.complete(delivery)
    for _ in range(3):
        await back.complete(await back.delivery())
    await ended(world, 4)
    texts = [event.message.parts[0].text for event in await world.log() if event.HasField("message")]
    assert texts == ["0", "1", "2", "3"]


async def test_a_redriven_dead_letter_is_not_doubled_in_the_transcript(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    receipt = await send(stub, "poison", max_attempts=1)
    await worker.fail(await worker.delivery(), retryable=True)
    await stub.RedriveDeadLetters(router_service_pb2.RedriveDeadLettersRequest(messages=[receipt.message]))
    await worker.complete(await worker.delivery())
    await ended(world, 2)
    assert sum(event.HasField("message") for event in await world.log()) == 1


async def test_a_router_that_lost_its_database_raises_its_epochs_above_those_of_the_log(world, tmp_path):
    stub = world.stub()
    worker = await Worker(stub).start()
    for _ in range(3):
        await send(stub)
        await worker.complete(await worker.delivery())
    await world.stop_router()
    world.url = f"sqlite:///{tmp_path / 'fresh.sqlite3'}"
    await world.start_router()
    worker = await Worker(world.stub()).start()
    await send(world.stub())
    delivery = await worker.delivery()
    assert delivery.epoch > 3
    assert (await worker.complete(delivery)).state == message_pb2.MESSAGE_STATE_SUCCEEDED


def wish(key, **fields):
    spawn = message_pb2.Spawn(parent="bots/main/sessions/main", session_id=key, announce=True, **fields)
    spawn.task.add(text="work")
    spawn.session.label = f"label of {key}"
    return router_service_pb2.SpawnSessionRequest(spawn=spawn, request_id=key)


async def test_a_child_is_a_session_of_its_parent_and_is_archived_when_done(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub, "hello", session="bots/main/sessions/main", idempotency_key="k")
    await worker.complete(await worker.delivery())
    cleanup = message_pb2.SPAWN_CLEANUP_ARCHIVE
    answer = await stub.SpawnSession(wish("thread:plan", cleanup=cleanup))
    assert answer.created
    assert (await stub.SpawnSession(wish("thread:plan", cleanup=cleanup))).receipt.duplicate
    child = await world.session(answer.receipt.session)
    assert (child.parent, child.created_via, child.spawn_depth) == ("bots/main/sessions/main", "spawn", 1)
    assert child.label == "label of thread:plan"
    await worker.complete(await worker.delivery(), "planned")
    result = await worker.delivery()
    assert result.message.draft.parts[0].text == "planned"
    await worker.complete(result)
    while (await world.session(answer.receipt.session)).state != session_pb2.SESSION_STATE_ARCHIVED:
        await world.advance(3)
        await until(lambda: True)
    assert [e.WhichOneof("payload") for e in await world.log(answer.receipt.session)][:3] == [
        "message",
        "run_started",
        "run_finished",
    ]


async def test_a_forked_child_has_read_what_its_parent_has(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub, "the secret is 7", session="bots/main/sessions/main", idempotency_key="k")
    await worker.complete(await worker.delivery())
    await ended_in(world, "bots/main/sessions/main", 1)
    forked = message_pb2.SPAWN_CONTEXT_FORKED
    answer = await stub.SpawnSession(wish("fork", context=forked))
    assert answer.created
    await worker.complete(await worker.delivery(), "it is 7")
    await ended_in(world, answer.receipt.session, 1)
    texts = [e.message.parts[0].text for e in await world.log(answer.receipt.session) if e.HasField("message")]
    assert texts[0] == "the secret is 7"
    assert texts[-1] == "work"


async def test_a_thread_goes_on_is_refused_or_begins_anew(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    first = (await stub.SpawnSession(wish("thread:t"))).receipt
    await worker.complete(await worker.delivery())
    await worker.complete(await worker.delivery())
    uid = (await world.session(first.session)).uid
    request = wish("thread:t")
    request.request_id = "second"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SpawnSession(request)
    assert from_rpc_error(caught.value).reason == "SESSION_ALREADY_EXISTS"
    request.spawn.conflict_policy = message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING
    assert not (await stub.SpawnSession(request)).created
    assert (await world.session(first.session)).uid == uid
    await worker.complete(await worker.delivery())
    await worker.complete(await worker.delivery())
    request.request_id = "third"
    request.spawn.conflict_policy = message_pb2.SPAWN_CONFLICT_POLICY_REPLACE
    await stub.SpawnSession(request)
    assert (await world.session(first.session)).uid != uid
    # What a person protects is not replaced.
    await worker.complete(await worker.delivery())
    await worker.complete(await worker.delivery())
    protect = session_service_pb2.UpdateSessionRequest()
    protect.session.name, protect.session.persistent = first.session, True
    protect.update_mask.paths.append("persistent")
    await world.session_stub.UpdateSession(protect)
    request.request_id = "fourth"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SpawnSession(request)
    assert from_rpc_error(caught.value).reason == "SESSION_PERSISTENT"


async def ended_in(world, session, count):
    async def count_ends():
        return sum(event.HasField("run_finished") for event in await world.log(session))

    while await count_ends() < count:
        await until(lambda: True)


async def test_a_transcript_shows_what_joined_a_turn_and_what_a_person_was_asked(world):
    stub = world.stub()
    worker = await Worker(stub).start()
    await send(stub, "book the flight", idempotency_key="k")
    delivery = await worker.delivery()
    await send(stub, "a seat by the window", idempotency_key="s", mode=message_pb2.BUSY_MODE_STEER)
    steering = await worker.steering()
    assert (await world.log())[-1].sequence == steering.sequence
    await worker.take_in(steering)
    for number in range(2):
        await send(stub, f"part {number}", idempotency_key=f"c{number}", mode=message_pb2.BUSY_MODE_COLLECT)
    await worker.complete(delivery, "booked")
    collected = await worker.delivery()
    failure = message_pb2.Failure(run="c0", epoch=collected.epoch)
    failure.decision_request.question = "Pay twice?"
    failure.decision_request.choices.extend(["yes", "no"])
    await worker.send(failures=[failure])
    await worker.settlement()
    own = await worker.delivery()
    while not any(event.HasField("decision_requested") for event in await world.log()):
        await until(lambda: True)
    assert list((await world.session()).active_runs) in ([], ["c1"])
    await worker.complete(own)
    request = router_service_pb2.ResolveRunRequest(run="c0")
    request.decision.answer = "no"
    await stub.ResolveRun(request)
    resumed = await worker.delivery()
    assert (await world.session()).status == session_pb2.SESSION_STATUS_RUNNING
    await worker.complete(resumed)
    await ended(world, 4)
    log = await world.log()
    texts = [event.message.parts[0].text for event in log if event.HasField("message")]
    assert texts == ["book the flight", "a seat by the window", "part 0", "part 1"]
    assert [event.run for event in log if event.HasField("run_finished")] == ["s", "k", "c1", "c0"]
    session = await world.session()
    assert (list(session.active_runs), session.last_run.run) == ([], "c0")
