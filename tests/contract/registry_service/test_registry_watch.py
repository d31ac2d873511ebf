"""Watching over the wire: snapshots, changes, tokens, resets, slowness."""

from google.protobuf.duration_pb2 import Duration
from registry_world import World, about, pb, refused, told

from mobot.registry.v1 import bot_pb2


async def touch(world: World, bot_id: str, text: str) -> None:
    change = bot_pb2.Bot(name=f"bots/{bot_id}", description=text)
    await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change))


async def test_a_watch_begins_with_what_there_is_and_goes_on_with_what_changes(world: World):
    await world.create("a")
    await world.create("b")
    async with world.watching() as watch:
        assert await watch.snapshot() == ["bots/a", "bots/b"]
        await world.create("c")
        await touch(world, "a", "new")
        changes = await watch.changes(2)
        assert [told(change) for change in changes] == [("bot", "bots/c"), ("bot", "bots/a")]
        assert changes[1].bot.description == "new"
        assert changes[1].revision == changes[0].revision + 1
        assert changes[0].change_time.seconds == int(world.clock.now().timestamp())


async def test_an_empty_snapshot_ends_at_once_with_a_token(world: World):
    async with world.watching() as watch:
        frame = await watch.frame()
        assert (frame.phase, len(frame.changes)) == (pb.WATCH_PHASE_SNAPSHOT_END, 0)
        assert frame.resume_token


async def test_a_snapshot_comes_in_frames_of_the_wanted_size_with_one_token_at_its_end(world: World):
    for number in range(5):
        await world.create(f"b{number}")
    async with world.watching(max_batch_size=2) as watch:
        frames = [await watch.frame() for _ in range(3)]
    assert [len(frame.changes) for frame in frames] == [2, 2, 1]
    assert [frame.phase for frame in frames] == [
        pb.WATCH_PHASE_SNAPSHOT,
        pb.WATCH_PHASE_SNAPSHOT,
        pb.WATCH_PHASE_SNAPSHOT_END,
    ]
    assert [bool(frame.resume_token) for frame in frames] == [False, False, True]


async def test_a_token_goes_on_across_a_restart_without_hole_or_double(world: World):
    await world.create("a")
    async with world.watching() as watch:
        await watch.snapshot()
        await touch(world, "a", "1")
        (seen,) = await watch.changes(1)
    await touch(world, "a", "2")
    await world.restart()
    await touch(world, "a", "3")
    await touch(world, "a", "4")
    async with world.watching(resume_token=watch.token) as resumed:
        changes = await resumed.changes(3)
    assert [change.bot.description for change in changes] == ["2", "3", "4"]
    assert [change.revision for change in changes] == [seen.revision + step for step in (1, 2, 3)]


async def test_a_list_and_a_watch_from_its_as_of_have_no_hole(world: World):
    await world.create("a")
    as_of = (await world.stub.ListBots(pb.ListBotsRequest())).as_of
    await world.create("b")
    async with world.watching(resume_token=as_of) as watch:
        assert await watch.told(1) == [("bot", "bots/b")]


async def test_status_changes_are_told_as_such(world: World):
    await world.create("a")
    async with world.watching() as watch:
        await watch.snapshot()
        registered = await world.register("w", "a")
        async with world.heartbeat() as pulse:
            await pulse.beat(registered, bots=[about("a", in_flight=1)])
            await pulse.beat(registered, bots=[about("a", in_flight=1)])
            await pulse.beat(registered, bots=[about("a")])
        changes = await watch.changes(3)
    assert [change.bot_status.status.state for change in changes] == [
        bot_pb2.BOT_STATE_STARTING,
        bot_pb2.BOT_STATE_WORKING,
        bot_pb2.BOT_STATE_IDLE,
    ]


async def test_workers_are_told_when_asked_for(world: World):
    await world.register("old")
    async with world.watching(include_workers=True) as watch:
        assert await watch.snapshot() == ["workers/old"]
        await world.register("new")
        await world.stub.DrainWorker(pb.DrainWorkerRequest(name="workers/new"))
        first, second = await watch.changes(2)
        assert (first.worker.drain, second.worker.drain) == (False, True)
        await world.pass_time(86_500)
        kinds = await watch.told(2)
        assert {kind for kind, _ in kinds} == {"worker"}
        await world.pass_time(86_500)
        assert sorted(await watch.told(2)) == [("removed_worker", "workers/new"), ("removed_worker", "workers/old")]


async def test_a_renewed_lease_alone_is_not_told(world: World):
    registered = await world.register("w")
    async with world.watching(include_workers=True) as watch, world.heartbeat() as pulse:
        await watch.snapshot()
        for _ in range(3):
            await world.pass_time(1)
            await pulse.beat(registered)
        await world.create("a")
        assert await watch.told(1) == [("bot", "bots/a")]


async def test_with_named_bots_only_their_workers_are_told(world: World):
    await world.create("a")
    await world.create("b")
    await world.register("wa", "a")
    await world.register("wb", "b")
    async with world.watching(include_workers=True, filter=bot_pb2.BotFilter(bots=["bots/a"])) as watch:
        assert await watch.snapshot() == ["bots/a", "workers/wa"]


async def test_a_bot_that_leaves_the_filter_is_told_as_removed_and_one_that_enters_as_a_bot(world: World):
    await world.create("a", labels={"team": "red"})
    await world.create("b", labels={"team": "blue"})
    async with world.watching(filter=bot_pb2.BotFilter(labels={"team": "red"})) as watch:
        assert await watch.snapshot() == ["bots/a"]
        await touch(world, "b", "unseen")
        for bot_id, team in (("a", "blue"), ("b", "red")):
            change = bot_pb2.Bot(name=f"bots/{bot_id}", labels={"team": team})
            await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change))
        assert await watch.told(2) == [("removed_bot", "bots/a"), ("bot", "bots/b")]


async def test_a_watch_by_state_follows_the_status(world: World):
    await world.create("a")
    await world.create("b")
    async with world.watching(filter=bot_pb2.BotFilter(states=[bot_pb2.BOT_STATE_STARTING])) as watch:
        assert await watch.snapshot() == []
        registered = await world.register("w", "a")
        assert await watch.told(1) == [("bot", "bots/a")]
        async with world.heartbeat() as pulse:
            await pulse.beat(registered, bots=[about("a")])
        assert await watch.told(1) == [("removed_bot", "bots/a")]


async def test_a_tombstone_is_removed_for_some_and_a_change_for_those_who_see_the_deleted(world: World):
    await world.create("a")
    async with world.watching() as plain, world.watching(filter=bot_pb2.BotFilter(show_deleted=True)) as all_of_it:
        await plain.snapshot()
        await all_of_it.snapshot()
        await world.stub.DeleteBot(pb.DeleteBotRequest(name="bots/a", retention=Duration(seconds=5)))
        assert await plain.told(1) == [("removed_bot", "bots/a")]
        (change,) = await all_of_it.changes(1)
        assert change.bot.lifecycle == bot_pb2.BOT_LIFECYCLE_DELETED
        await world.pass_time(6)
        assert await all_of_it.told(1) == [("removed_bot", "bots/a")]
        await world.create("a")
        assert await plain.told(1) == [("bot", "bots/a")]


async def test_an_idle_watch_says_where_it_is(world: World):
    async with world.watching(checkpoint_interval=Duration(seconds=1)) as watch:
        await watch.snapshot()
        frame = await watch.frame()
        assert (frame.phase, len(frame.changes)) == (pb.WATCH_PHASE_CHECKPOINT, 0)
    await world.create("a")
    async with world.watching(resume_token=frame.resume_token) as resumed:
        assert await resumed.told(1) == [("bot", "bots/a")]


async def outgrow(world: World) -> str:
    """A token whose changes are no longer kept."""
    await world.create("a")
    token = (await world.stub.ListBots(pb.ListBotsRequest())).as_of
    for number in range(30):
        await touch(world, "a", str(number))
    world.options["kept_changes"] = 5
    await world.restart()
    return token


async def test_a_token_that_is_too_old_begins_again_with_a_reset(world: World):
    token = await outgrow(world)
    async with world.watching(resume_token=token) as watch:
        assert (await watch.frame()).phase == pb.WATCH_PHASE_RESET
        assert await watch.snapshot() == ["bots/a"]
        await touch(world, "a", "after")
        assert await watch.told(1) == [("bot", "bots/a")]


async def test_a_token_that_is_too_old_fails_when_asked_to(world: World):
    token = await outgrow(world)
    async with world.watching(resume_token=token, fail_when_too_old=True) as watch:
        error = await refused(watch.frame())
    assert (error.code, error.reason) == ("OUT_OF_RANGE", "WATCH_TOKEN_TOO_OLD")
    assert int(error.metadata["oldest_revision"]) > 20


async def test_a_token_of_another_installation_is_refused(world: World):
    await world.create("a")
    token = (await world.stub.ListBots(pb.ListBotsRequest())).as_of
    await world.stop()
    for file in world.directory.glob("registry.sqlite3*"):
        file.unlink()
    await world.start()
    for other in (token, "nonsense"):
        async with world.watching(resume_token=other) as watch:
            error = await refused(watch.frame())
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "WATCH_TOKEN_INVALID")


async def test_a_watcher_that_falls_behind_is_closed_with_a_token_that_loses_nothing(world: World):
    # A socket holds some 4 MB that nobody has read, so it takes more than that to fall behind on one.
    total = 150
    await world.create("a", instructions="x" * 60_000)
    async with world.watching(window=10, max_batch_size=1) as watch:
        await watch.snapshot()
        for number in range(total):
            await touch(world, "a", str(number))
        seen: list[str] = []

        async def read_on() -> None:
            while True:
                seen.extend(change.bot.description for change in await watch.changes(1))

        error = await refused(read_on())
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "SLOW_CONSUMER")
    assert int(error.metadata["queued"]) > 10
    async with world.watching(resume_token=error.metadata["resume_token"], window=10) as resumed:
        seen += [change.bot.description for change in await resumed.changes(total - len(seen))]
    assert seen == [str(number) for number in range(total)]


async def test_a_watch_ends_with_draining_when_the_service_stops(world: World):
    async with world.watching() as watch:
        await watch.snapshot()
        assert world.host is not None
        await world.host.announce_drain()
        error = await refused(watch.frame())
    assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")


async def test_many_watchers_hear_the_same_in_the_same_order(world: World):
    calls = [world.stub.WatchBots(pb.WatchBotsRequest()) for _ in range(20)]
    for call in calls:
        await call.read()
    for number in range(10):
        await world.create(f"b{number}")
    for call in calls:
        heard: list[str] = []
        while len(heard) < 10:
            heard += [change.bot.name for change in (await call.read()).changes]
        assert heard == [f"bots/b{number}" for number in range(10)]
        call.cancel()
