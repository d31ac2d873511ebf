"""Bots over the wire: enabling, disabling, suspending, deleting with a drain, and coming back."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from registry_world import World, about, eventually, pb, refused

from mobot.registry.v1 import bot_pb2

DRAINING = bot_pb2.BOT_LIFECYCLE_DRAINING
DELETED = bot_pb2.BOT_LIFECYCLE_DELETED
ACTIVE = bot_pb2.BOT_LIFECYCLE_ACTIVE


def delete(name: str, **fields: object) -> pb.DeleteBotRequest:
    return pb.DeleteBotRequest(name=f"bots/{name}", **fields)


async def test_a_disabled_bot_says_why_and_is_enabled_again(world: World):
    await world.create("main")
    off = (await world.stub.DisableBot(pb.DisableBotRequest(name="bots/main", reason="repairs"))).bot
    assert (off.enabled, off.state_reason) == (False, "repairs")
    on = (await world.stub.EnableBot(pb.EnableBotRequest(name="bots/main"))).bot
    assert on.enabled
    assert on.etag != off.etag


async def test_enabling_an_enabled_bot_changes_nothing(world: World):
    before = await world.create("main")
    assert (await world.stub.EnableBot(pb.EnableBotRequest(name="bots/main"))).bot == before


async def test_disabling_again_changes_only_the_reason(world: World):
    await world.create("main")
    once = (await world.stub.DisableBot(pb.DisableBotRequest(name="bots/main", reason="a"))).bot
    assert (await world.stub.DisableBot(pb.DisableBotRequest(name="bots/main", reason="a"))).bot == once
    assert (await world.stub.DisableBot(pb.DisableBotRequest(name="bots/main", reason="b"))).bot.state_reason == "b"


async def test_a_suspension_ends_at_its_time(world: World):
    await world.create("main")
    until = Timestamp(seconds=int(world.clock.now().timestamp()) + 60)
    request = pb.SuspendBotRequest(name="bots/main", resume_time=until, reason="lunch")
    suspended = (await world.stub.SuspendBot(request)).bot
    assert (suspended.suspended, suspended.resume_time, suspended.enabled) == (True, until, True)
    await world.pass_time(61)
    resumed = await eventually(lambda: world.get("main"), lambda bot: not bot.suspended)
    assert not resumed.HasField("resume_time")
    assert resumed.etag != suspended.etag


async def test_a_suspension_without_a_time_ends_when_the_bot_is_enabled_or_disabled(world: World):
    await world.create("main")
    await world.stub.SuspendBot(pb.SuspendBotRequest(name="bots/main"))
    assert not (await world.stub.EnableBot(pb.EnableBotRequest(name="bots/main"))).bot.suspended
    await world.stub.SuspendBot(pb.SuspendBotRequest(name="bots/main"))
    off = (await world.stub.DisableBot(pb.DisableBotRequest(name="bots/main"))).bot
    assert (off.suspended, off.enabled) == (False, False)


async def test_a_disabled_bot_is_not_suspended(world: World):
    await world.create("main", enabled=False)
    error = await refused(world.stub.SuspendBot(pb.SuspendBotRequest(name="bots/main")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "BOT_DISABLED")


async def test_a_suspension_must_end_in_the_future(world: World):
    await world.create("main")
    request = pb.SuspendBotRequest(name="bots/main", resume_time=Timestamp(seconds=1))
    assert (await refused(world.stub.SuspendBot(request))).reason == "FIELD_INVALID"


async def test_a_bot_without_workers_becomes_a_tombstone_at_once(world: World):
    await world.create("main")
    gone = (await world.stub.DeleteBot(delete("main", retention=Duration(seconds=100)))).bot
    assert gone.lifecycle == DELETED
    assert gone.purge_time.seconds == gone.delete_time.seconds + 100
    assert await world.names() == []
    assert await world.names(show_deleted=True) == ["main"]
    assert (await world.get("main")).lifecycle == DELETED


async def test_deleting_a_tombstone_again_returns_it_unchanged(world: World):
    await world.create("main")
    gone = (await world.stub.DeleteBot(delete("main"))).bot
    await world.pass_time(5)
    assert (await world.stub.DeleteBot(delete("main", retention=Duration(seconds=1)))).bot == gone


async def test_a_bot_with_runs_in_flight_drains_until_they_end(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered, in_flight_count=1, bots=[about("main", in_flight=1)])
        going = (await world.stub.DeleteBot(delete("main"))).bot
        assert going.lifecycle == DRAINING
        assert not going.HasField("delete_time")
        assert await world.names() == ["main"]
        await world.pass_time(1)
        await pulse.beat(registered, in_flight_count=1)
        assert (await world.get("main")).lifecycle == DRAINING
        await pulse.beat(registered, bots=[about("main")])
        assert (await world.get("main")).lifecycle == DELETED
        removed = await pulse.ack(lambda ack: bool(ack.removed_bots))
        assert list(removed.removed_bots) == ["bots/main"]


async def test_a_drain_ends_at_its_time_whatever_is_in_flight(world: World):
    await world.create("main")
    registered = await world.register("w", "main")
    async with world.heartbeat() as pulse:
        await pulse.beat(registered, in_flight_count=1, bots=[about("main", in_flight=1)])
        await world.stub.DeleteBot(delete("main", drain_timeout=Duration(seconds=3)))
        await world.pass_time(4)
        await eventually(lambda: world.get("main"), lambda bot: bot.lifecycle == DELETED)


async def test_a_drain_of_no_time_makes_the_tombstone_at_once(world: World):
    await world.create("main")
    await world.register("w", "main")
    assert (await world.stub.DeleteBot(delete("main", drain_timeout=Duration()))).bot.lifecycle == DELETED


async def test_a_tombstone_is_purged_and_its_name_is_free_again(world: World):
    old = await world.create("main")
    await world.stub.DeleteBot(delete("main", retention=Duration(seconds=10)))
    error = await refused(world.create("main"))
    assert (error.reason, error.metadata["lifecycle"]) == ("BOT_ALREADY_EXISTS", "DELETED")
    await world.pass_time(11)
    await eventually(lambda: world.names(show_deleted=True), lambda names: names == [])
    new = await world.create("main")
    assert new.uid != old.uid
    assert new.etag != old.etag


async def test_an_undeleted_bot_is_as_it_was(world: World):
    before = await world.create("main", description="kept", labels={"a": "1"})
    await world.stub.DeleteBot(delete("main"))
    after = (await world.stub.UndeleteBot(pb.UndeleteBotRequest(name="bots/main"))).bot
    assert (after.uid, after.description, after.lifecycle) == (before.uid, "kept", ACTIVE)
    assert not after.HasField("delete_time")
    assert not after.HasField("purge_time")
    assert await world.names(labels={"a": "1"}) == ["main"]
    await world.pass_time(40 * 86_400)
    await world.create("other")
    assert await world.names() == ["main", "other"]


async def test_a_draining_bot_is_brought_back(world: World):
    await world.create("main")
    await world.register("w", "main")
    assert (await world.stub.DeleteBot(delete("main"))).bot.lifecycle == DRAINING
    assert (await world.stub.UndeleteBot(pb.UndeleteBotRequest(name="bots/main"))).bot.lifecycle == ACTIVE
    await world.pass_time(120)
    assert (await world.get("main")).lifecycle == ACTIVE


async def test_a_live_bot_is_not_undeleted(world: World):
    await world.create("main")
    error = await refused(world.stub.UndeleteBot(pb.UndeleteBotRequest(name="bots/main")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "BOT_NOT_DELETED")


async def test_a_deleted_bot_is_not_changed(world: World):
    await world.create("main")
    await world.stub.DeleteBot(delete("main"))
    for call in (
        world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", description="x"))),
        world.stub.EnableBot(pb.EnableBotRequest(name="bots/main")),
        world.stub.DisableBot(pb.DisableBotRequest(name="bots/main")),
        world.stub.SuspendBot(pb.SuspendBotRequest(name="bots/main")),
        world.register("w", "main"),
    ):
        error = await refused(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "BOT_DELETED")
        assert error.metadata["lifecycle"] == "DELETED"
    assert (await refused(world.stub.GetAgentCard(pb.GetAgentCardRequest(name="bots/main")))).reason == "BOT_NOT_FOUND"


async def test_another_uid_is_not_deleted(world: World):
    bot = await world.create("main")
    error = await refused(world.stub.DeleteBot(delete("main", expected_uid="other")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "BOT_UID_MISMATCH")
    assert error.metadata == {"bot": "bots/main", "expected_uid": "other", "uid": bot.uid}
    await world.stub.DeleteBot(delete("main", expected_uid=bot.uid))


async def test_a_repeated_write_gets_the_first_answer_each(world: World):
    await world.create("main")
    for call, request in (
        (world.stub.DisableBot, pb.DisableBotRequest(name="bots/main", request_id="1")),
        (world.stub.EnableBot, pb.EnableBotRequest(name="bots/main", request_id="1")),
        (world.stub.SuspendBot, pb.SuspendBotRequest(name="bots/main", request_id="1")),
        (world.stub.UpdateBot, pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", emoji="x"), request_id="1")),
        (world.stub.DeleteBot, pb.DeleteBotRequest(name="bots/main", request_id="1")),
        (world.stub.UndeleteBot, pb.UndeleteBotRequest(name="bots/main", request_id="1")),
    ):
        first = await call(request)
        await world.pass_time(1)
        assert await call(request) == first


async def test_a_remembered_request_is_forgotten_after_seven_days(world: World):
    await world.create("main")
    request = pb.DisableBotRequest(name="bots/main", reason="a", request_id="1")
    await world.stub.DisableBot(request)
    await world.stub.EnableBot(pb.EnableBotRequest(name="bots/main"))
    await world.pass_time(8 * 86_400)
    await world.restart()
    assert (await world.stub.DisableBot(request)).bot == await world.get("main")
