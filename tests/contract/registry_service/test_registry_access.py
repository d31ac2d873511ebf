"""Who may do what with the registry."""

import pytest
from registry_world import World, echo, pb, refused, report

from chassis.channel import Dialer
from mobot.registry.v1 import bot_pb2, registry_service_pb2_grpc, worker_pb2

WORKER = worker_pb2.Worker(contract_major_version=1)

WRITES = [
    ("CreateBot", pb.CreateBotRequest(bot_id="new", bot=echo())),
    ("UpdateBot", pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", description="x"))),
    ("DeleteBot", pb.DeleteBotRequest(name="bots/main")),
    ("UndeleteBot", pb.UndeleteBotRequest(name="bots/main")),
    ("EnableBot", pb.EnableBotRequest(name="bots/main")),
    ("DisableBot", pb.DisableBotRequest(name="bots/main")),
    ("SuspendBot", pb.SuspendBotRequest(name="bots/main")),
    ("ApplyBots", pb.ApplyBotsRequest(dry_run=True)),
    ("DrainWorker", pb.DrainWorkerRequest(name="workers/w")),
]


@pytest.mark.parametrize("root", [True, False])
async def test_a_bot_reads_all_bots(world: World, root):
    await world.create("main")
    await world.create("other")
    bot = world.acting("bots/main", root=root)
    assert (await bot.GetBot(pb.GetBotRequest(name="bots/other"))).bot.name == "bots/other"
    assert len((await bot.ListBots(pb.ListBotsRequest())).bots) == 2
    assert (await bot.GetAgentCard(pb.GetAgentCardRequest(name="bots/other"))).agent_card.name == "other"
    call = bot.WatchBots(pb.WatchBotsRequest())
    assert len((await call.read()).changes) == 2
    call.cancel()


@pytest.mark.parametrize("actor", ["bots/main", "workers/w"])
@pytest.mark.parametrize(("method", "request_message"), WRITES, ids=[method for method, _ in WRITES])
async def test_bots_and_workers_edit_nothing(world: World, actor, method, request_message):
    before = await world.create("main")
    error = await refused(getattr(world.acting(actor), method)(request_message))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    assert await world.get("main") == before


async def test_a_bot_does_not_look_at_workers(world: World):
    await world.register("w")
    bot = world.acting("bots/main")
    assert (await refused(bot.GetWorker(pb.GetWorkerRequest(name="workers/w")))).reason == "CALLER_NOT_ALLOWED"
    assert (await refused(bot.ListWorkers(pb.ListWorkersRequest()))).reason == "CALLER_NOT_ALLOWED"
    watch = bot.WatchBots(pb.WatchBotsRequest(include_workers=True))
    assert (await refused(watch.read())).reason == "CALLER_NOT_ALLOWED"


async def test_a_bot_registers_a_worker_for_itself_only(world: World):
    await world.create("main")
    await world.create("other")
    bot = world.acting("bots/main", root=False)
    worker = worker_pb2.Worker(contract_major_version=1, bots=["bots/main"])
    registered = await bot.RegisterWorker(pb.RegisterWorkerRequest(worker_id="own", worker=worker))
    assert list(registered.worker.bots) == ["bots/main"]
    call = bot.Heartbeat()
    await call.write(pb.HeartbeatRequest(reports=[report(registered)]))
    assert (await call.read()).acks[0].outcome == worker_pb2.REPORT_OUTCOME_RENEWED
    call.cancel()
    worker.bots.append("bots/other")
    error = await refused(bot.RegisterWorker(pb.RegisterWorkerRequest(worker_id="own", worker=worker)))
    assert error.reason == "CALLER_NOT_ALLOWED"


async def test_a_bot_cannot_smuggle_another_bot_into_its_worker(world: World):
    await world.create("main")
    await world.create("other")
    bot = world.acting("bots/main", root=False)
    registered = await bot.RegisterWorker(pb.RegisterWorkerRequest(worker_id="own", worker=WORKER))
    call = bot.Heartbeat()
    served = worker_pb2.ServedBots(bots=["bots/main", "bots/other"])
    await call.write(pb.HeartbeatRequest(reports=[report(registered, served_bots=served)]))
    (ack,) = (await call.read()).acks
    assert list(ack.removed_bots) == ["bots/other"]
    assert [each.name for each in ack.changed_bots] == ["bots/main"]
    call.cancel()


async def test_a_bot_does_not_push_aside_somebody_elses_worker(world: World):
    await world.register("runner")
    bot = world.acting("bots/main", root=False)
    request = pb.RegisterWorkerRequest(worker_id="runner", worker=WORKER)
    assert (await refused(bot.RegisterWorker(request))).reason == "CALLER_NOT_ALLOWED"


async def test_a_worker_registers_under_its_own_name_and_a_hosted_one_under_any(world: World):
    request = pb.RegisterWorkerRequest(worker_id="w2", worker=WORKER)
    alone = world.acting("workers/w1", root=False)
    assert (await refused(alone.RegisterWorker(request))).reason == "CALLER_NOT_ALLOWED"
    hosted = world.acting("workers/w1")
    assert (await hosted.RegisterWorker(request)).worker.name == "workers/w2"


async def test_an_operator_without_the_root_secret_owns_what_it_makes_and_gives_nothing_away(world: World):
    alice = world.acting("operators/alice", root=False)
    made = (await alice.CreateBot(pb.CreateBotRequest(bot_id="a", bot=echo()))).bot
    assert made.owner == "operators/alice"
    give = bot_pb2.Bot(name="bots/a", owner="operators/bob")
    for call in (
        alice.CreateBot(pb.CreateBotRequest(bot_id="b", bot=echo(owner="operators/bob"))),
        alice.UpdateBot(pb.UpdateBotRequest(bot=give)),
        alice.ApplyBots(pb.ApplyBotsRequest(bots=[echo(name="bots/a", owner="operators/bob")])),
    ):
        assert (await refused(call)).reason == "CALLER_NOT_ALLOWED"
    assert (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=give))).bot.owner == "operators/bob"
    kept = bot_pb2.Bot(name="bots/a", owner="operators/bob", emoji="x")
    assert (await alice.UpdateBot(pb.UpdateBotRequest(bot=kept))).bot.emoji == "x"


async def test_nobody_comes_in_without_a_token(world: World):
    dialer = Dialer({"registry": world.target}, token="wrong", actor=None)
    assert world.host is not None
    dialer.add_handlers(world.host.local_handlers)
    world.dialers.append(dialer)
    stub = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
    error = await refused(stub.GetBot(pb.GetBotRequest(name="bots/main")))
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert (await refused(stub.WatchBots(pb.WatchBotsRequest()).read())).reason == "UNAUTHENTICATED"
