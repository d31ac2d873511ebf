"""Bots in the store, on both engines."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from registry_store import NO_TICKET, Opened, opened, settings, ticket

from chassis import errors
from registry_service.domain.bot import Bot, Capability, Lifecycle, MemorySettings, NewBot
from registry_service.domain.brain import BrainKind, EchoBrain, OpenaiBrain, OpenclawBrain, WorkerBrain
from registry_service.domain.change import BotChanged
from registry_service.domain.declaration import Declaration, DeclaredBot
from registry_service.domain.errors import BotAlreadyExists, BotLimitReached, BotNotFound, EtagMismatch
from registry_service.domain.selection import BotFilter
from registry_service.domain.status import BotState
from registry_service.store.registry import Recorded

BRAINS = [
    EchoBrain(word_delay_s=0.02),
    OpenaiBrain("https://a.example/v1", "m", "KEY", 0.0, 1.0, 10, 5.5, 4096, 3, "low", 0),
    WorkerBrain("m", {"gpu": "yes"}, {"deep": [1, None, {"x": 1.5}]}),
    OpenclawBrain("wss://up.example", "T", "a", 9.0, "x"),
]


async def test_every_kind_of_brain_is_read_back_as_it_was_written(registry: Opened):
    written = [await registry.create(type(brain).__name__.lower(), brain=brain) for brain in BRAINS]
    assert await registry.store.find_bots([bot.id for bot in written]) == {bot.id: bot for bot in written}


async def test_a_bot_is_read_back_as_it_was_written(registry: Opened):
    written = await registry.create(
        "main",
        enabled=False,
        display_name="Zoë 🦊",
        concurrency=7,
        instructions="line\nline\ttab",
        labels={"a/b": "ü", "c": ""},
        capabilities=(Capability("sum", "Sum", "adds", ("t",), ("1+1",), ("a/b",), ("c/d",)), Capability("x")),
        description="d",
        emoji="🦊",
        avatar_uri="https://a",
        tools=("one", "two"),
        memory=MemorySettings(recall=False, recall_budget_tokens=0, reflection=True),
        metadata={"k": [1, 2.5, "x", None, True, {}]},
    )
    assert await registry.store.get_bot("main") == written
    page = await registry.store.list_bots(BotFilter(), order="name", descending=False, size=10, after=())
    assert page.items == (written,)
    (change,) = await registry.store.changes(0, 10)
    assert change.what == BotChanged(written)


async def test_a_write_survives_and_its_position_goes_on(database_url, clock):
    async with opened(database_url, clock) as first:
        created = await first.create("main")
        before = await first.store.head()
    async with opened(database_url, clock) as second:
        assert await second.store.get_bot("main") == created
        after = await second.store.head()
        assert (after.log_id, after.position) == (before.log_id, before.position)
        await second.create("other")
        assert (await second.store.head()).position == before.position + 1


async def test_a_refused_write_leaves_no_trace(registry: Opened):
    await registry.create("main")
    before = await registry.store.head()
    with pytest.raises(BotAlreadyExists):
        await registry.create("main")
    with pytest.raises(EtagMismatch):
        await registry.store.disable_bot("main", "W99", "x", NO_TICKET)
    with pytest.raises(BotNotFound):
        await registry.store.enable_bot("none", "", NO_TICKET)
    assert await registry.store.head() == before


async def test_one_of_many_racing_creates_wins_and_positions_are_dense(registry: Opened):
    outcomes = await asyncio.gather(
        *(registry.create(f"b{number % 5}") for number in range(25)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Bot) for outcome in outcomes) == 5
    assert sum(isinstance(outcome, BotAlreadyExists) for outcome in outcomes) == 20
    positions = [change.position for change in await registry.store.changes(0, 100)]
    assert positions == list(range(1, 6))


async def test_the_limit_holds_under_a_race(database_url, clock):
    async with opened(database_url, clock, max_bots=3) as registry:
        outcomes = await asyncio.gather(*(registry.create(f"b{number}") for number in range(6)), return_exceptions=True)
    assert sum(isinstance(outcome, BotLimitReached) for outcome in outcomes) == 3


async def test_of_two_writes_with_one_etag_one_wins(registry: Opened):
    etag = (await registry.create("main")).etag
    outcomes = await asyncio.gather(
        registry.store.disable_bot("main", etag, "a", NO_TICKET),
        registry.store.disable_bot("main", etag, "b", NO_TICKET),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Bot", "EtagMismatch"]


async def test_a_repeated_request_gets_the_kept_answer_and_writes_nothing(registry: Opened):
    draft = NewBot("main", settings("main"))
    first = await registry.store.create_bot(draft, ticket("r"))
    position = (await registry.store.head()).position
    assert await registry.store.create_bot(draft, ticket("r")) == Recorded(repr(first).encode())
    assert (await registry.store.head()).position == position
    with pytest.raises(errors.InvalidArgument) as caught:
        await registry.store.create_bot(draft, ticket("r", fingerprint="other"))
    assert caught.value.reason == errors.REQUEST_ID_REUSED


async def test_racing_twins_of_one_request_have_one_effect(registry: Opened):
    draft = NewBot("main", settings("main"))
    outcomes = await asyncio.gather(*(registry.store.create_bot(draft, ticket("r")) for _ in range(5)))
    assert sum(isinstance(outcome, Bot) for outcome in outcomes) == 1
    assert (await registry.store.head()).position == 1


async def test_sql_and_memory_agree_on_what_a_filter_selects(registry: Opened):
    await registry.create("a", labels={"t": "1"}, description="100% Straße_x", owner="bots/x")
    await registry.create("b", labels={"t": "2", "u": ""}, brain=WorkerBrain(), enabled=False)
    await registry.create("c", capabilities=(Capability("sum"),), display_name="ÄPFEL \\ back")
    await registry.create("d", labels={"t": "1"})
    await registry.register("w", "c")
    await registry.store.delete_bot("d", "", uid="", drain=timedelta(0), retention=timedelta(days=1), ticket=NO_TICKET)
    everything = BotFilter(show_deleted=True)
    page = await registry.store.list_bots(everything, order="name", descending=False, size=10, after=())
    assert [bot.id for bot in page.items] == ["a", "b", "c", "d"]
    for selected in (
        BotFilter(),
        everything,
        BotFilter(labels={"t": "1"}),
        BotFilter(labels={"t": "1"}, show_deleted=True),
        BotFilter(labels={"t": "2", "u": ""}),
        BotFilter(states=frozenset({BotState.STARTING})),
        BotFilter(states=frozenset({BotState.OFFLINE, BotState.IDLE})),
        BotFilter(brains=frozenset({BrainKind.WORKER})),
        BotFilter(enabled=False),
        BotFilter(enabled=True),
        BotFilter(bots=frozenset({"a", "z"})),
        BotFilter(text="%"),
        BotFilter(text="_"),
        BotFilter(text="\\"),
        BotFilter(text="STRASSE"),
        BotFilter(text="äpfel"),
        BotFilter(text="A"),
        BotFilter(capability="sum"),
        BotFilter(capability="su"),
        BotFilter(owner="bots/x"),
        BotFilter(owner="bots/x", enabled=False),
    ):
        found = await registry.store.list_bots(selected, order="name", descending=False, size=10, after=())
        assert [bot.id for bot in found.items] == [bot.id for bot in page.items if selected.selects(bot)], selected
        assert found.total_count == len(found.items)
        snapshot = await registry.store.snapshot(selected, workers=False)
        assert snapshot.bots == found.items


ORDERS = {
    "name": lambda bot: bot.id,
    "create_time": lambda bot: bot.create_time,
    "update_time": lambda bot: bot.update_time,
    "display_name": lambda bot: bot.settings.display_name,
}


async def test_every_order_pages_the_same_on_both_engines(registry: Opened):
    for bot_id, display_name in (("b-1", "same"), ("b_2", "same"), ("b10", "Zed"), ("b2", "zed"), ("ba", "Émile")):
        await registry.create(bot_id, display_name=display_name)
        registry.clock.advance(timedelta(seconds=1 if bot_id != "b10" else 0))
    stored = sorted((await registry.store.snapshot(BotFilter(), workers=False)).bots, key=lambda bot: bot.id)
    for (order, key), descending in itertools.product(ORDERS.items(), (False, True)):
        found: list[str] = []
        after: tuple[str | int, ...] = ()
        while not found or after:
            page = await registry.store.list_bots(BotFilter(), order=order, descending=descending, size=2, after=after)
            found += [bot.id for bot in page.items]
            after = page.next
        assert found == [bot.id for bot in sorted(stored, key=key, reverse=descending)], (order, descending)


async def test_a_set_is_applied_wholly_or_not_at_all(registry: Opened):
    def declaration(*names: str, etag: str = "") -> Declaration:
        bots = tuple(DeclaredBot(NewBot(name, settings(name)), etag) for name in names)
        return Declaration(bots, "demo", True, "operators/root")

    await registry.store.apply_bots(declaration("a", "b"), NO_TICKET)
    position = (await registry.store.head()).position
    with pytest.raises(EtagMismatch):
        await registry.store.apply_bots(declaration("a", "c", etag="W99"), NO_TICKET)
    assert (await registry.store.head()).position == position
    await registry.store.apply_bots(declaration("b", "c"), NO_TICKET)
    a, b, c = [await registry.store.get_bot(name) for name in "abc"]
    assert [bot.lifecycle for bot in (a, b, c)] == [Lifecycle.DELETED, Lifecycle.ACTIVE, Lifecycle.ACTIVE]


async def test_old_changes_are_compacted_and_the_head_says_so(database_url, clock):
    async with opened(database_url, clock, kept_changes=10) as registry:
        for number in range(30):
            await registry.create(f"b{number}")
        await registry.store.clean()
        head = await registry.store.head()
        assert (head.position, head.compacted) == (30, 20)
        assert [change.position for change in await registry.store.changes(0, 100)] == list(range(21, 31))
        await registry.create("one-more")
        await registry.store.clean()
        assert (await registry.store.head()).compacted == 20


async def test_every_write_rings_after_its_commit(registry: Opened):
    registry.rings.clear()
    await registry.create("main")
    assert registry.rings


async def test_two_replicas_on_one_database_keep_one_dense_log(postgresql_url, clock):
    async with opened(postgresql_url, clock) as one, opened(postgresql_url, clock) as other:
        assert (await one.store.head()).log_id == (await other.store.head()).log_id
        await asyncio.gather(
            *(one.create(f"a{number}") for number in range(20)), *(other.create(f"b{number}") for number in range(20))
        )
        seen, position = [], 0
        while changes := await one.store.changes(position, 7):
            seen += [change.position for change in changes]
            position = seen[-1]
        assert seen == list(range(1, 41))
        assert await one.store.head() == await other.store.head()
        etag = (await one.store.get_bot("a0")).etag
        outcomes = await asyncio.gather(
            one.store.disable_bot("a0", etag, "x", NO_TICKET),
            other.store.disable_bot("a0", etag, "y", NO_TICKET),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Bot", "EtagMismatch"]
