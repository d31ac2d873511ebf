"""Declared sets of bots over the wire."""

from registry_world import World, echo, pb, refused

from mobot.registry.v1 import bot_pb2


def declare(*names: str, **fields: object) -> list[bot_pb2.Bot]:
    return [echo(name=f"bots/{name}", **fields) for name in names]


def actions(response: pb.ApplyBotsResponse) -> dict[str, str]:
    return {
        diff.bot.removeprefix("bots/"): pb.ApplyAction.Name(diff.action).removeprefix("APPLY_ACTION_")
        for diff in response.diffs
    }


async def test_a_declared_set_is_created_and_applying_it_again_changes_nothing(world: World):
    request = pb.ApplyBotsRequest(bots=declare("b", "a"), set_name="demo")
    first = await world.stub.ApplyBots(request)
    assert first.applied
    assert [diff.bot for diff in first.diffs] == ["bots/a", "bots/b"]
    assert actions(first) == {"a": "CREATE", "b": "CREATE"}
    assert first.diffs[0].result == await world.get("a")
    assert dict(first.diffs[0].result.labels) == {"mobot.set": "demo"}
    again = await world.stub.ApplyBots(request)
    assert actions(again) == {"a": "UNCHANGED", "b": "UNCHANGED"}
    assert again.diffs[0].result == first.diffs[0].result
    assert again.as_of == first.as_of


async def test_what_differs_is_told_by_path(world: World):
    brain = bot_pb2.Brain(openai=bot_pb2.OpenaiBrain(base_url="https://a.example/v1", model="old"))
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a", brain=brain, emoji="🦊"), set_name="demo"))
    brain.openai.model = "new"
    brain.openai.temperature = 0.0
    wanted = declare("a", brain=brain, memory=bot_pb2.MemorySettings(reflection=True), enabled=False)
    response = await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=wanted, set_name="demo"))
    assert actions(response) == {"a": "UPDATE"}
    assert [(field.path, field.old_value_json, field.new_value_json) for field in response.diffs[0].fields] == [
        ("brain.openai.model", '"old"', '"new"'),
        ("brain.openai.temperature", "", "0.0"),
        ("emoji", '"🦊"', ""),
        ("enabled", "true", "false"),
        ("memory", "", '{"reflection":true}'),
    ]
    assert await world.get("a") == response.diffs[0].result


async def test_brains_of_two_kinds_differ_as_wholes(world: World):
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a")))
    brain = bot_pb2.Brain(worker=bot_pb2.WorkerBrain(model="m"))
    response = await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a", brain=brain)))
    assert [(field.path, field.old_value_json, field.new_value_json) for field in response.diffs[0].fields] == [
        ("brain", '{"echo":{}}', '{"worker":{"model":"m"}}')
    ]


async def test_a_dry_run_says_everything_and_does_nothing(world: World):
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a", "b"), set_name="demo"))
    before = [await world.get("a"), await world.get("b")]
    request = pb.ApplyBotsRequest(
        bots=declare("a", "c", emoji="🐙"), set_name="demo", prune=True, dry_run=True, request_id="r"
    )
    planned = await world.stub.ApplyBots(request)
    assert not planned.applied
    assert actions(planned) == {"a": "UPDATE", "b": "DELETE", "c": "CREATE"}
    assert planned.diffs[2].result.emoji == "🐙"
    assert planned.diffs[2].result.uid == ""
    assert not planned.diffs[1].HasField("result")
    assert [await world.get("a"), await world.get("b")] == before
    assert await world.names() == ["a", "b"]
    request.dry_run = False
    assert actions(await world.stub.ApplyBots(request)) == actions(planned)
    assert await world.names() == ["a", "c"]


async def test_pruning_touches_no_bot_of_another_set_or_of_none(world: World):
    await world.create("free")
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("x"), set_name="other"))
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a"), set_name="demo"))
    response = await world.stub.ApplyBots(pb.ApplyBotsRequest(set_name="demo", prune=True))
    assert actions(response) == {"a": "DELETE"}
    assert await world.names() == ["free", "x"]


async def test_a_pruned_bot_that_is_declared_again_comes_back(world: World):
    created = await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a"), set_name="demo"))
    await world.stub.ApplyBots(pb.ApplyBotsRequest(set_name="demo", prune=True))
    back = await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a", emoji="🦊"), set_name="demo"))
    assert actions(back) == {"a": "UNDELETE"}
    assert back.diffs[0].result.uid == created.diffs[0].result.uid
    assert [field.path for field in back.diffs[0].fields] == ["emoji"]
    assert await world.names() == ["a"]


async def test_a_bot_of_no_set_is_taken_into_one(world: World):
    await world.create("a", owner="bots/boss")
    response = await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a"), set_name="demo"))
    assert [field.path for field in response.diffs[0].fields] == ["labels"]
    assert response.diffs[0].result.owner == "bots/boss"


async def test_a_bot_of_another_set_is_left_alone_and_so_is_all_the_rest(world: World):
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("b"), set_name="other"))
    for set_name in ("demo", ""):
        error = await refused(world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a", "b"), set_name=set_name)))
        assert (error.code, error.reason) == ("ALREADY_EXISTS", "BOT_ALREADY_EXISTS")
        assert error.metadata == {"bot": "bots/b", "lifecycle": "ACTIVE", "set": "other"}
    assert await world.names() == ["b"]


async def test_a_stale_etag_leaves_everything_as_it_was(world: World):
    stale = (await world.create("b")).etag
    await world.stub.DisableBot(pb.DisableBotRequest(name="bots/b"))
    wanted = [*declare("a"), *declare("b", etag=stale)]
    error = await refused(world.stub.ApplyBots(pb.ApplyBotsRequest(bots=wanted)))
    assert (error.code, error.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert await world.names() == ["b"]


async def test_the_limit_of_bots_holds_for_sets(world: World):
    world.options["max_bots"] = 2
    await world.restart()
    for dry_run in (True, False):
        request = pb.ApplyBotsRequest(bots=declare("a", "b", "c"), dry_run=dry_run)
        assert (await refused(world.stub.ApplyBots(request))).reason == "BOT_LIMIT_REACHED"
    assert await world.names() == []


async def test_a_repeated_apply_gets_the_first_answer(world: World):
    request = pb.ApplyBotsRequest(bots=declare("a"), set_name="demo", request_id="r")
    first = await world.stub.ApplyBots(request)
    assert await world.stub.ApplyBots(request) == first
    request.bots[0].emoji = "x"
    assert (await refused(world.stub.ApplyBots(request))).reason == "REQUEST_ID_REUSED"


async def test_the_set_label_stays_through_an_update_and_cannot_be_forged(world: World):
    await world.stub.ApplyBots(pb.ApplyBotsRequest(bots=declare("a"), set_name="demo"))
    change = bot_pb2.Bot(name="bots/a", labels={"x": "1"})
    after = (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change))).bot
    assert dict(after.labels) == {"x": "1", "mobot.set": "demo"}
    forged = bot_pb2.Bot(name="bots/a", labels={"mobot.set": "other"})
    assert (await refused(world.stub.UpdateBot(pb.UpdateBotRequest(bot=forged)))).reason == "FIELD_INVALID"
    assert (await refused(world.create("b", labels={"mobot.set": "demo"}))).reason == "FIELD_INVALID"


async def test_a_malformed_declaration_names_the_bot_and_the_field(world: World):
    for request, field in (
        (pb.ApplyBotsRequest(bots=declare("a", "a")), "bots"),
        (pb.ApplyBotsRequest(bots=[*declare("a"), bot_pb2.Bot(name="bots/b")]), "bots[1].brain"),
        (pb.ApplyBotsRequest(bots=declare("a", concurrency=5_000)), "bots[0].concurrency"),
        (pb.ApplyBotsRequest(prune=True), "prune"),
        (pb.ApplyBotsRequest(set_name="No Set"), "set_name"),
        (pb.ApplyBotsRequest(bots=[echo(name="nonsense")]), "bots[0].name"),
    ):
        error = await refused(world.stub.ApplyBots(request))
        assert (error.code, error.metadata["field"]) == ("INVALID_ARGUMENT", field)
