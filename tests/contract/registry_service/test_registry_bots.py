"""Bots over the wire: creating, reading, listing, changing."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from registry_world import World, echo, pb, refused

from mobot.registry.v1 import bot_pb2


async def test_a_created_bot_has_its_defaults(world: World):
    bot = await world.create("main")
    assert bot.name == "bots/main"
    assert bot.display_name == "main"
    assert bot.concurrency == 10
    assert bot.enabled is True
    assert bot.owner == "operators/root"
    assert bot.lifecycle == bot_pb2.BOT_LIFECYCLE_ACTIVE
    assert bot.status.state == bot_pb2.BOT_STATE_OFFLINE
    assert bot.uid
    assert bot.etag
    assert bot.create_time == bot.update_time
    assert await world.get("main") == bot


async def test_everything_a_caller_writes_is_read_back(world: World):
    metadata, settings = Struct(), Struct()
    metadata.update({"team": {"size": 3, "names": ["a", None, True]}})
    settings.update({"x": 1.5})
    wanted = bot_pb2.Bot(
        display_name="Zoë 🦊",
        enabled=False,
        concurrency=3,
        brain=bot_pb2.Brain(worker=bot_pb2.WorkerBrain(model="m", worker_labels={"gpu": "yes"}, settings=settings)),
        instructions="be kind\n",
        labels={"team": "blue"},
        capabilities=[bot_pb2.Capability(id="sum", tags=["math"], examples=["1+1"], output_modes=["text/html"])],
        description="adds",
        emoji="🦊",
        avatar_uri="https://example.org/a.png",
        owner="bots/boss",
        tools=["sessions_list", "memory_save"],
        memory=bot_pb2.MemorySettings(recall=False, recall_budget_tokens=0, reflection=True),
        metadata=metadata,
    )
    stored = (await world.stub.CreateBot(pb.CreateBotRequest(bot_id="full", bot=wanted))).bot
    for field, value in wanted.ListFields():
        assert getattr(stored, field.name) == value, field.name
    assert await world.get("full") == stored


@pytest.mark.parametrize(
    "brain",
    [
        bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay={"nanos": 20_000_000})),
        bot_pb2.Brain(
            openai=bot_pb2.OpenaiBrain(
                base_url="http://127.0.0.1:9/v1",
                model="m",
                api_key_env="KEY",
                temperature=0.0,
                top_p=1.0,
                max_output_tokens=10,
                timeout={"seconds": 5},
                context_window_tokens=2_048,
                max_tool_rounds=4,
                reasoning_effort="low",
                max_retries=0,
            )
        ),
        bot_pb2.Brain(
            openclaw=bot_pb2.OpenclawBrain(
                url="wss://up.example/ws", token_env="T", agent_id="a", timeout={"seconds": 9}, model="x"
            )
        ),
    ],
    ids=lambda brain: brain.WhichOneof("settings"),
)
async def test_every_kind_of_brain_is_kept_as_it_is(world: World, brain):
    await world.create("b", brain=brain)
    assert (await world.get("b")).brain == brain


async def test_a_taken_id_is_refused(world: World):
    await world.create("main")
    error = await refused(world.create("main"))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "BOT_ALREADY_EXISTS")
    assert error.metadata == {"bot": "bots/main", "lifecycle": "ACTIVE"}


async def test_an_unknown_bot_is_not_found(world: World):
    error = await refused(world.get("nobody"))
    assert (error.code, error.reason, error.domain) == ("NOT_FOUND", "BOT_NOT_FOUND", "registry.mobot")


async def test_the_limit_of_bots_is_kept_and_named(world: World):
    world.options["max_bots"] = 2
    await world.restart()
    await world.create("a")
    await world.create("b")
    error = await refused(world.create("c"))
    assert (error.code, error.reason, error.metadata["limit"]) == ("RESOURCE_EXHAUSTED", "BOT_LIMIT_REACHED", "2")
    assert error.quota


async def test_a_repeated_create_gets_the_first_answer(world: World):
    request = pb.CreateBotRequest(bot_id="main", bot=echo(description="one"), request_id="r1")
    first = await world.stub.CreateBot(request)
    again = await world.stub.CreateBot(request)
    assert again == first
    request.bot.description = "two"
    error = await refused(world.stub.CreateBot(request))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_the_same_request_id_of_two_callers_is_two_requests(world: World):
    request = pb.CreateBotRequest(bot_id="main", bot=echo(), request_id="r1")
    await world.stub.CreateBot(request)
    other = world.acting("operators/alice")
    assert (await refused(other.CreateBot(request))).reason == "BOT_ALREADY_EXISTS"


async def test_a_replay_survives_a_restart(world: World):
    request = pb.CreateBotRequest(bot_id="main", bot=echo(), request_id="r1")
    first = await world.stub.CreateBot(request)
    await world.restart()
    assert await world.stub.CreateBot(request) == first


async def test_pages_hold_every_bot_once_and_share_a_count_and_an_as_of(world: World):
    for number in range(5):
        await world.create(f"b{number}")
    request = pb.ListBotsRequest(page_size=2)
    first = await world.stub.ListBots(request)
    await world.create("a-late-one")
    names, pages = [bot.name for bot in first.bots], [first]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(await world.stub.ListBots(request))
        names += [bot.name for bot in pages[-1].bots]
    assert names == [f"bots/b{number}" for number in range(5)]
    assert {page.as_of for page in pages} == {first.as_of}
    assert first.total_count == 5


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("name desc", ["c", "b", "a"]),
        ("create_time", ["b", "c", "a"]),
        ("create_time desc", ["a", "c", "b"]),
        ("display_name", ["c", "a", "b"]),
        ("update_time desc", ["b", "a", "c"]),
    ],
)
async def test_every_order_pages_without_gaps(world: World, order_by, expected):
    for bot_id, display_name in (("b", "zoe"), ("c", "amy"), ("a", "bob")):
        await world.create(bot_id, display_name=display_name)
        await world.pass_time(1)
    await world.stub.DisableBot(pb.DisableBotRequest(name="bots/b"))
    names, token = [], ""
    while True:
        page = await world.stub.ListBots(pb.ListBotsRequest(page_size=1, order_by=order_by, page_token=token))
        names += [bot.name.removeprefix("bots/") for bot in page.bots]
        token = page.next_page_token
        if not token:
            break
    assert names == expected


async def test_a_page_token_of_another_query_is_refused(world: World):
    for bot_id in ("a", "b"):
        await world.create(bot_id)
    page = await world.stub.ListBots(pb.ListBotsRequest(page_size=1))
    for request in (
        pb.ListBotsRequest(page_token=page.next_page_token, order_by="name desc"),
        pb.ListBotsRequest(page_token="nonsense"),
    ):
        assert (await refused(world.stub.ListBots(request))).reason == "PAGE_TOKEN_INVALID"


async def test_a_negative_page_size_is_refused(world: World):
    assert (await refused(world.stub.ListBots(pb.ListBotsRequest(page_size=-1)))).reason == "FIELD_INVALID"


async def test_filters_select_what_they_say(world: World):
    await world.create("red", labels={"team": "red"}, description="Straße und ÄPFEL")
    await world.create("blue", labels={"team": "blue", "tier": "1"}, capabilities=[bot_pb2.Capability(id="sum")])
    await world.create("off", enabled=False, owner="bots/boss", display_name="50%_off")
    assert await world.names() == ["blue", "off", "red"]
    assert await world.names(labels={"team": "blue", "tier": "1"}) == ["blue"]
    assert await world.names(labels={"team": "green"}) == []
    assert await world.names(capability="sum") == ["blue"]
    assert await world.names(enabled=False) == ["off"]
    assert await world.names(owner="bots/boss") == ["off"]
    assert await world.names(text="äpfel") == ["red"]
    assert await world.names(text="STRASSE") == ["red"]
    assert await world.names(text="%_") == ["off"]
    assert await world.names(bots=["bots/red", "bots/none"]) == ["red"]
    assert await world.names(brains=[bot_pb2.BRAIN_KIND_OPENAI]) == []
    assert await world.names(states=[bot_pb2.BOT_STATE_OFFLINE, bot_pb2.BOT_STATE_IDLE]) == ["blue", "off", "red"]


async def test_an_update_changes_the_named_paths_only(world: World):
    brain = bot_pb2.Brain(openai=bot_pb2.OpenaiBrain(base_url="https://a.example/v1", model="old", temperature=1.0))
    before = await world.create("main", description="kept", brain=brain, labels={"a": "1"})
    await world.pass_time(1)
    change = bot_pb2.Bot(
        name="bots/main", brain=bot_pb2.Brain(openai=bot_pb2.OpenaiBrain(model="new")), labels={"b": "2"}
    )
    mask = FieldMask(paths=["brain.openai.model", "brain.openai.temperature", "labels", "status", "enabled"])
    after = (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change, update_mask=mask))).bot
    assert after.brain.openai.model == "new"
    assert after.brain.openai.base_url == "https://a.example/v1"
    assert not after.brain.openai.HasField("temperature")
    assert dict(after.labels) == {"b": "2"}
    assert after.description == "kept"
    assert after.enabled is True
    assert after.etag != before.etag
    assert after.update_time.seconds == before.update_time.seconds + 1
    assert await world.names(labels={"b": "2"}) == ["main"]
    assert await world.names(labels={"a": "1"}) == []


async def test_an_update_without_a_mask_changes_what_is_populated(world: World):
    await world.create("main", description="old", emoji="🦊")
    change = bot_pb2.Bot(name="bots/main", description="new", enabled=False)
    after = (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change))).bot
    assert (after.description, after.emoji, after.enabled) == ("new", "🦊", True)


async def test_a_path_in_the_mask_that_is_left_out_is_cleared(world: World):
    await world.create("main", description="old", memory=bot_pb2.MemorySettings(recall=False))
    mask = FieldMask(paths=["description", "memory"])
    after = (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main"), update_mask=mask))).bot
    assert after.description == ""
    assert not after.HasField("memory")


async def test_an_update_that_changes_nothing_keeps_the_etag(world: World):
    before = await world.create("main", description="same")
    change = bot_pb2.Bot(name="bots/main", description="same")
    assert (await world.stub.UpdateBot(pb.UpdateBotRequest(bot=change))).bot == before


async def test_an_unknown_path_is_refused(world: World):
    await world.create("main")
    for path in ("nonsense", "brain.nonsense", "labels.a", "description.x", ""):
        request = pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main"), update_mask=FieldMask(paths=[path]))
        assert (await refused(world.stub.UpdateBot(request))).reason == "FIELD_INVALID", path


async def test_an_update_that_leaves_the_bot_invalid_is_refused_whole(world: World):
    before = await world.create("main")
    change = bot_pb2.Bot(
        name="bots/main", description="new", brain=bot_pb2.Brain(openai=bot_pb2.OpenaiBrain(model="m"))
    )
    mask = FieldMask(paths=["description", "brain.openai.model"])
    error = await refused(world.stub.UpdateBot(pb.UpdateBotRequest(bot=change, update_mask=mask)))
    assert error.metadata["field"] == "bot.brain.openai.base_url"
    assert await world.get("main") == before


async def test_a_stale_etag_is_refused_on_every_write_that_takes_one(world: World):
    stale = (await world.create("main")).etag
    await world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", description="new", etag=stale)))
    for call in (
        world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name="bots/main", description="x", etag=stale))),
        world.stub.DeleteBot(pb.DeleteBotRequest(name="bots/main", etag=stale)),
        world.stub.EnableBot(pb.EnableBotRequest(name="bots/main", etag=stale)),
        world.stub.DisableBot(pb.DisableBotRequest(name="bots/main", etag=stale)),
        world.stub.SuspendBot(pb.SuspendBotRequest(name="bots/main", etag=stale)),
    ):
        error = await refused(call)
        assert (error.code, error.reason) == ("ABORTED", "ETAG_MISMATCH")
        assert error.metadata == {"name": "bots/main", "etag": stale}


async def test_every_write_to_an_unknown_bot_is_not_found(world: World):
    name = "bots/nobody"
    for call in (
        world.stub.UpdateBot(pb.UpdateBotRequest(bot=bot_pb2.Bot(name=name, description="x"))),
        world.stub.DeleteBot(pb.DeleteBotRequest(name=name)),
        world.stub.UndeleteBot(pb.UndeleteBotRequest(name=name)),
        world.stub.EnableBot(pb.EnableBotRequest(name=name)),
        world.stub.DisableBot(pb.DisableBotRequest(name=name)),
        world.stub.SuspendBot(pb.SuspendBotRequest(name=name)),
        world.stub.GetAgentCard(pb.GetAgentCardRequest(name=name)),
    ):
        assert (await refused(call)).reason == "BOT_NOT_FOUND"


async def test_the_agent_card_is_made_of_the_bot(world: World):
    bot = await world.create(
        "main",
        display_name="Main",
        description="helps",
        avatar_uri="https://example.org/a.png",
        capabilities=[bot_pb2.Capability(id="sum", tags=["math"]), bot_pb2.Capability(id="x", output_modes=["a/b"])],
    )
    card = (await world.stub.GetAgentCard(pb.GetAgentCardRequest(name="bots/main"))).agent_card
    assert (card.name, card.description, card.version, card.bot) == ("Main", "helps", bot.etag, "bots/main")
    assert [skill.id for skill in card.skills] == ["sum", "x"]
    assert list(card.skills[0].input_modes) == ["text/plain"]
    assert list(card.skills[1].output_modes) == ["a/b"]
    assert card.capabilities.streaming
    assert [scheme.scheme for scheme in card.security_schemes] == ["bearer"]
