"""Workers over the wire: registering, heartbeats, what silence does, draining."""

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from registry_world import World, about, eventually, pb, refused, report

from mobot.registry.v1 import bot_pb2, worker_pb2

RENEWED = worker_pb2.REPORT_OUTCOME_RENEWED
LEASE_LOST = worker_pb2.REPORT_OUTCOME_LEASE_LOST


async def worker_of(world: World, worker_id: str) -> worker_pb2.Worker:
    return (await world.stub.GetWorker(pb.GetWorkerRequest(name=f"workers/{worker_id}"))).worker


async def worker_names(world: World, **fields: object) -> list[str]:
    return [worker.name for worker in (await world.stub.ListWorkers(pb.ListWorkersRequest(**fields))).workers]


async def state_of(world: World, bot_id: str) -> int:
    return (await world.get(bot_id)).status.state


async def test_a_registered_worker_gets_a_lease_and_its_bots(world: World):
    bot = await world.create("main")
    await world.create("other")
    registered = await world.register("w1", "other", "main", capacity=4, host="h", process_id=7, labels={"gpu": "yes"})
    worker = registered.worker
    assert worker.name == "workers/w1"
    assert worker.state == worker_pb2.WORKER_STATE_ACTIVE
    assert list(worker.bots) == ["bots/main", "bots/other"]
    assert (worker.capacity, worker.host, worker.process_id, worker.display_name) == (4, "h", 7, "w1")
    assert registered.lease_id
    assert registered.lease_duration.seconds == 15
    assert registered.heartbeat_interval.seconds == 5
    assert worker.expire_time.seconds == int(world.clock.now().timestamp()) + 15
    assert [each.name for each in registered.bots] == ["bots/main", "bots/other"]
    assert registered.bots[0].etag == bot.etag
    assert await worker_of(world, "w1") == worker


async def test_a_worker_without_an_id_gets_one(world: World):
    worker = worker_pb2.Worker(contract_major_version=1)
    made = (await world.stub.RegisterWorker(pb.RegisterWorkerRequest(worker=worker))).worker
    assert await worker_of(world, made.name.removeprefix("workers/")) == made


async def test_another_major_version_is_refused(world: World):
    worker = worker_pb2.Worker(contract_major_version=2, contract_minor_version=5)
    error = await refused(world.stub.RegisterWorker(pb.RegisterWorkerRequest(worker_id="w1", worker=worker)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "WORKER_VERSION_UNSUPPORTED")
    assert error.metadata == {"worker": "workers/w1", "version": "2", "supported": "1"}
    assert (await refused(worker_of(world, "w1"))).reason == "WORKER_NOT_FOUND"


async def test_a_worker_of_an_unknown_bot_is_refused_and_serves_nothing(world: World):
    await world.create("main")
    assert (await refused(world.register("w1", "main", "nobody"))).reason == "BOT_NOT_FOUND"
    assert await worker_names(world) == []


async def test_the_lease_is_as_wished_within_bounds(world: World):
    worker = worker_pb2.Worker(contract_major_version=1)
    request = pb.RegisterWorkerRequest(worker_id="w", worker=worker, lease_duration=Duration(seconds=30))
    assert (await world.stub.RegisterWorker(request)).lease_duration.seconds == 30
    request.lease_duration.seconds = 4_000
    assert (await refused(world.stub.RegisterWorker(request))).reason == "FIELD_INVALID"


async def test_a_repeated_registration_gets_the_same_lease(world: World):
    request = pb.RegisterWorkerRequest(worker=worker_pb2.Worker(contract_major_version=1), request_id="r")
    assert await world.stub.RegisterWorker(request) == await world.stub.RegisterWorker(request)


async def test_a_bot_goes_from_starting_over_idle_and_working_back(world: World):
    await world.create("main")
    assert await state_of(world, "main") == bot_pb2.BOT_STATE_OFFLINE
    registered = await world.register("w", "main")
    status = (await world.get("main")).status
    assert (status.state, list(status.workers), status.worker_count) == (bot_pb2.BOT_STATE_STARTING, ["workers/w"], 1)
    async with world.heartbeat() as pulse:
        await pulse.beat(registered, bots=[about("main", health=bot_pb2.BRAIN_HEALTH_STARTING)])
        assert await state_of(world, "main") == bot_pb2.BOT_STATE_STARTING
        await pulse.beat(registered, bots=[about("main")])
        idle = (await world.get("main")).status
        assert (idle.state, idle.brain_health) == (bot_pb2.BOT_STATE_IDLE, bot_pb2.BRAIN_HEALTH_HEALTHY)
        await world.pass_time(1)
        await pulse.beat(registered, in_flight_count=2, bots=[about("main", in_flight=2)])
        working = (await world.get("main")).status
        assert (working.state, working.in_flight_count) == (bot_pb2.BOT_STATE_WORKING, 2)
        assert working.since.seconds == idle.since.seconds + 1
        assert (await worker_of(world, "w")).in_flight_count == 2
        await pulse.beat(
            registered, bots=[about("main", health=bot_pb2.BRAIN_HEALTH_FAILING, detail="no answer from the endpoint")]
        )
        degraded = (await world.get("main")).status
        assert (degraded.state, degraded.detail) == (bot_pb2.BOT_STATE_DEGRADED, "no answer from the endpoint")


async def test_a_change_of_status_keeps_the_etag(world: World):
    before = await world.create("main")
    await world.register("w", "main")
    after = await world.get("main")
    assert (after.etag, after.update_time) == (before.etag, before.update_time)


async def test_silence_makes_suspect_then_offline_and_deletes_nothing(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered, bots=[about("main")])
        await world.pass_time(8)
        await eventually(lambda: state_of(world, "main"), lambda state: state == bot_pb2.BOT_STATE_SUSPECT)
        assert (await worker_of(world, "w")).state == worker_pb2.WORKER_STATE_SUSPECT
        ack = await pulse.beat(registered)
        assert (ack.outcome, ack.lease_duration.seconds) == (RENEWED, 15)
        assert await state_of(world, "main") == bot_pb2.BOT_STATE_IDLE
        await world.pass_time(16)
        await eventually(lambda: state_of(world, "main"), lambda state: state == bot_pb2.BOT_STATE_OFFLINE)
        lost = await pulse.ack(lambda ack: ack.outcome == LEASE_LOST)
        assert lost.detail
        assert (await pulse.beat(registered)).outcome == LEASE_LOST
    assert (await worker_of(world, "w")).state == worker_pb2.WORKER_STATE_OFFLINE
    assert await world.names() == ["main"]
    await world.register("w", "main")
    assert await state_of(world, "main") == bot_pb2.BOT_STATE_STARTING


async def test_an_offline_worker_is_dropped_from_the_list_after_a_day(world: World):
    await world.register("w")
    await world.pass_time(20)
    await eventually(
        lambda: worker_names(world, states=[worker_pb2.WORKER_STATE_OFFLINE]), lambda names: names == ["workers/w"]
    )
    await world.pass_time(23 * 3_600)
    assert await worker_names(world) == ["workers/w"]
    await world.pass_time(2 * 3_600)
    await eventually(lambda: worker_names(world), lambda names: names == [])


async def test_the_newest_registration_of_a_name_wins(world: World):
    await world.create("main")
    old = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        await pulse.beat(old)
        new = await world.register("w", "main")
        assert new.worker.uid != old.worker.uid
        lost = await pulse.ack(lambda ack: ack.outcome == LEASE_LOST)
        assert lost.worker == "workers/w"
        assert (await pulse.beat(old)).outcome == LEASE_LOST
        renewed = await pulse.beat(new)
        assert (renewed.outcome, [bot.name for bot in renewed.changed_bots]) == (RENEWED, ["bots/main"])
    await world.register("w")
    assert await state_of(world, "main") == bot_pb2.BOT_STATE_OFFLINE


async def test_a_leaving_worker_ends_its_lease_at_once(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        assert (await pulse.beat(registered, leaving=True)).outcome == worker_pb2.REPORT_OUTCOME_LEFT
        assert await state_of(world, "main") == bot_pb2.BOT_STATE_OFFLINE
        assert (await pulse.beat(registered)).outcome == LEASE_LOST


async def test_one_frame_reports_many_workers_and_a_lost_one_harms_no_other(world: World):
    first, second = await world.register("a"), await world.register("b")
    stranger = worker_pb2.WorkerReport(worker="workers/none", lease_id="x", sequence=1)
    async with world.heartbeat() as pulse:
        await pulse.send(report(first), stranger, report(second))
        acks = {ack.worker: ack.outcome for ack in (await pulse.read()).acks}
        assert acks == {"workers/a": RENEWED, "workers/none": LEASE_LOST, "workers/b": RENEWED}


async def test_the_first_ack_has_all_bots_and_later_ones_what_changed(world: World):
    await world.create("main")
    await world.create("other")
    registered = await world.register("w", "main", "other")
    async with world.heartbeat() as pulse:
        first = await pulse.beat(registered)
        assert [bot.name for bot in first.changed_bots] == ["bots/main", "bots/other"]
        assert not (await pulse.beat(registered)).changed_bots
        await world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", instructions="new")))
        notice = await pulse.ack()
        assert [(bot.name, bot.instructions) for bot in notice.changed_bots] == [("bots/main", "new")]
        assert not notice.HasField("lease_duration")
    async with world.heartbeat() as again:
        assert len((await again.beat(registered)).changed_bots) == 2


async def test_a_deleted_bot_is_taken_from_its_workers(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered)
        await world.stub.DeleteBot(pb.DeleteBotRequest(name="bots/main", drain_timeout=Duration()))
        notice = await pulse.ack(lambda ack: bool(ack.removed_bots))
        assert list(notice.removed_bots) == ["bots/main"]
    assert list((await worker_of(world, "w")).bots) == []


async def test_a_report_replaces_the_set_of_bots(world: World):
    await world.create("a")
    await world.create("b")
    registered = await world.register("w", "a")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered)
        ack = await pulse.beat(registered, served_bots=worker_pb2.ServedBots(bots=["bots/b", "bots/none"]))
        assert [bot.name for bot in ack.changed_bots] == ["bots/b"]
        assert set(ack.removed_bots) == {"bots/a", "bots/none"}
        assert list((await worker_of(world, "w")).bots) == ["bots/b"]
        assert await state_of(world, "a") == bot_pb2.BOT_STATE_OFFLINE
        await pulse.beat(registered, served_bots=worker_pb2.ServedBots())
    assert list((await worker_of(world, "w")).bots) == []


async def test_a_report_about_a_bot_that_is_not_served_is_answered_as_removed(world: World):
    await world.create("main")
    registered = await world.register("w")
    async with world.heartbeat() as pulse:
        assert list((await pulse.beat(registered, bots=[about("main")])).removed_bots) == ["bots/main"]


async def test_only_workers_with_the_labels_serve_a_worker_brain(world: World):
    brain = bot_pb2.Brain(worker=bot_pb2.WorkerBrain(worker_labels={"gpu": "yes"}))
    await world.create("main", brain=brain)
    plain = await world.register("plain", "main")
    assert list(plain.worker.bots) == []
    fit = await world.register("fit", "main", labels={"gpu": "yes", "zone": "a"})
    assert list(fit.worker.bots) == ["bots/main"]
    async with world.heartbeat() as pulse:
        await pulse.beat(fit)
        brain.worker.worker_labels["zone"] = "b"
        await world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", brain=brain)))
        assert list((await pulse.ack(lambda ack: bool(ack.removed_bots))).removed_bots) == ["bots/main"]
    assert await state_of(world, "main") == bot_pb2.BOT_STATE_OFFLINE


async def test_a_drained_worker_is_told_at_once_and_stays_so(world: World):
    registered = await world.register("w")
    async with world.heartbeat() as pulse:
        assert not (await pulse.beat(registered)).drain
        request = pb.DrainWorkerRequest(name="workers/w", drain_timeout=Duration(seconds=10), reason="update")
        drained = (await world.stub.DrainWorker(request)).worker
        assert (drained.drain, drained.state) == (True, worker_pb2.WORKER_STATE_DRAINING)
        assert drained.drain_reason == "update"
        notice = await pulse.ack()
        assert (notice.drain, notice.detail) == (True, "update")
        assert notice.drain_deadline.seconds == int(world.clock.now().timestamp()) + 10
        assert (await pulse.beat(registered)).drain
        await world.pass_time(11)
        await pulse.ack(lambda ack: ack.outcome == LEASE_LOST)
    assert not (await world.register("w")).worker.drain


async def test_a_worker_that_wants_to_drain_does(world: World):
    registered = await world.register("w")
    async with world.heartbeat() as pulse:
        assert (await pulse.beat(registered, draining=True)).drain
        assert (await pulse.beat(registered)).drain
    assert (await worker_of(world, "w")).state == worker_pb2.WORKER_STATE_DRAINING


async def test_a_worker_that_is_unknown_or_has_no_lease_is_not_drained(world: World):
    error = await refused(world.stub.DrainWorker(pb.DrainWorkerRequest(name="workers/none")))
    assert (error.code, error.reason) == ("NOT_FOUND", "WORKER_NOT_FOUND")
    await world.register("w")
    await world.pass_time(16)
    error = await refused(world.stub.DrainWorker(pb.DrainWorkerRequest(name="workers/w")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "WORKER_LEASE_LOST")


async def test_workers_are_listed_by_bot_state_and_label_in_pages(world: World):
    await world.create("main")
    await world.register("a", "main", labels={"gpu": "yes"})
    await world.register("b", labels={"gpu": "yes"})
    await world.register("c", "main")
    assert await worker_names(world, bot="bots/main") == ["workers/a", "workers/c"]
    assert await worker_names(world, labels={"gpu": "yes"}) == ["workers/a", "workers/b"]
    assert await worker_names(world, states=[worker_pb2.WORKER_STATE_OFFLINE]) == []
    page = await world.stub.ListWorkers(pb.ListWorkersRequest(page_size=2))
    rest = await world.stub.ListWorkers(pb.ListWorkersRequest(page_size=2, page_token=page.next_page_token))
    assert [w.name for w in (*page.workers, *rest.workers)] == ["workers/a", "workers/b", "workers/c"]
    assert (rest.next_page_token, rest.as_of) == ("", page.as_of)
    request = pb.ListWorkersRequest(page_token=page.next_page_token, bot="bots/main")
    assert (await refused(world.stub.ListWorkers(request))).reason == "PAGE_TOKEN_INVALID"


async def test_a_lease_survives_a_restart_of_the_registry(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    await world.restart()
    async with world.heartbeat() as pulse:
        assert (await pulse.beat(registered)).outcome == RENEWED


async def test_a_long_absence_of_the_registry_costs_no_worker_its_lease(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    await world.stop()
    await world.pass_time(600)
    await world.start()
    async with world.heartbeat() as pulse:
        assert (await pulse.beat(registered)).outcome == RENEWED
        await world.pass_time(16)
        await pulse.ack(lambda ack: ack.outcome == LEASE_LOST)


async def test_no_more_acks_are_sent_than_there_is_credit_for(world: World):
    registered = [await world.register(f"w{number}") for number in range(3)]
    async with world.heartbeat() as pulse:
        await pulse.send(*(report(each) for each in registered), credit=2)
        frame = await pulse.read()
        assert len(frame.acks) == 2
        assert frame.credit == 3
        await pulse.send(credit=1)
        assert len((await pulse.read()).acks) == 1


async def test_a_process_that_reads_no_acks_is_ended_as_slow(world: World):
    registered = await world.register("w")
    reports = [report(registered, sequence) for sequence in range(1, 1_001)]
    async with world.heartbeat() as pulse:
        await pulse.send(reports[0], credit=1)
        await pulse.read()

        async def flood() -> None:
            for _ in range(6):
                await pulse.send(*reports)
            while True:
                await pulse.read()

        error = await refused(asyncio.wait_for(flood(), 30))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "SLOW_CONSUMER")


async def test_a_malformed_report_ends_the_stream_with_the_field(world: World):
    async with world.heartbeat() as pulse:
        await pulse.send(worker_pb2.WorkerReport(worker="workers/../x", lease_id="x"))
        error = await refused(pulse.call.read())
    assert (error.reason, error.metadata["field"]) == ("RESOURCE_NAME_INVALID", "reports[0].worker")


async def test_a_stream_that_its_worker_closes_ends_after_the_last_ack(world: World):
    registered = await world.register("w")
    async with world.heartbeat() as pulse:
        await pulse.send(report(registered))
        await pulse.call.done_writing()
        assert (await pulse.read()).acks[0].outcome == RENEWED
        assert await pulse.call.read() is grpc.aio.EOF


async def test_heartbeats_end_with_draining_when_the_service_stops(world: World):
    registered = await world.register("w")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered)
        assert world.host is not None
        await world.host.announce_drain()
        error = await refused(pulse.call.read())
    assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")


@pytest.mark.parametrize("major", [0, -1])
async def test_a_worker_must_say_which_contract_it_speaks(world: World, major):
    worker = worker_pb2.Worker(contract_major_version=major)
    error = await refused(world.stub.RegisterWorker(pb.RegisterWorkerRequest(worker_id="w", worker=worker)))
    assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "worker.contract_major_version")
