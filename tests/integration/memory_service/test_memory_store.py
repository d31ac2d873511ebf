"""The store on both engines: what is written is read, found, counted, and gone when it is gone."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from memory_store import change, delete, found, listed, new, put, put_all, ref, ticket, undelete

from chassis.clock import FakeClock
from chassis.errors import InvalidArgument
from memory_service.domain.block import BlockPatch
from memory_service.domain.errors import EtagMismatch, MemoryAlreadyExists, MemoryNotFound
from memory_service.domain.grant import Reach
from memory_service.domain.memory import Content, Dedupe, Kind, Memory, NewMemory, Provenance, Purged, Source
from memory_service.domain.selection import Condition, MemoryFilter, Operator, TimeField, TimeRange
from memory_service.store.ledger import PutShown, Refused
from memory_service.store.lists import ListQuery
from memory_service.store.memories import MemoryRef
from memory_service.store.store import MemoryStore

MAIN = Reach("main")
RICH = Content(
    text="Zoë moved\tto 東京 🗼 '); DROP TABLE memory; --",
    kind=Kind.EPISODE,
    tags=("b", "a", "Ä b"),
    author="Zoë",
    importance=1 / 3,
    pinned=True,
    metadata='{"a":{"b":[1,2.5,null,"\\u0000"]}}',
    expire_time=datetime(2030, 1, 1, 1, 1, 1, 123456, tzinfo=UTC),
    event_time=datetime(1, 1, 1, tzinfo=UTC),
    context="they spoke of flats",
)
WHERE_FROM = Provenance("bots/main/sessions/s", 2**60, "u", "r", Source.TOOL, "bots/main")


async def test_a_memory_is_read_back_whole_and_outlives_the_store(open_store, store: MemoryStore):
    shown = await store.put_memory(MAIN, NewMemory(RICH, WHERE_FROM, "m1"), ticket())
    await store.close()
    again = await open_store()
    memory = await again.get_memory(MemoryRef("main", "m1"))
    assert memory == shown.memory
    assert (memory.content, memory.provenance) == (RICH, WHERE_FROM)


async def test_an_earlier_version_is_read_back_whole(store: MemoryStore, clock: FakeClock):
    await store.put_memory(MAIN, NewMemory(RICH, WHERE_FROM, "m1"), ticket())
    first = await store.get_memory(MemoryRef("main", "m1"))
    clock.advance(timedelta(seconds=5))
    await change(store, first, text="other", tags=())
    page = await store.list_versions(ref(first), 10, ())
    assert page.items[1] == first
    assert await found(store, "moved") == []


async def test_ids_are_ordered_by_code_point(store: MemoryStore):
    for memory_id in ("b", "B", "a", "A", "~".join("aa"), "0"):
        await put(store, memory_id, id=memory_id)
    assert [memory.id for memory in await listed(store)] == ["0", "A", "B", "a", "a~a", "b"]


@pytest.mark.parametrize("order", ["create_time", "use_time", "expire_time", "importance", "event_time", "name"])
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_hold_everything_once(store: MemoryStore, clock: FakeClock, order: str, descending: bool):
    for number in range(11):
        clock.advance(timedelta(seconds=number % 3))
        expire_time = clock.now() + timedelta(days=number % 4 + 1) if number % 4 else None
        await put(store, f"m{number}", importance=number % 5 / 7, expire_time=expire_time)
        if number % 3 == 0:
            await put(store, f"m{number}")
    whole = await store.list_memories("main", ListQuery(MemoryFilter(), order, descending, 100))
    seen: list[Memory] = []
    after: tuple[str | int, ...] = ()
    while True:
        page = await store.list_memories("main", ListQuery(MemoryFilter(), order, descending, 3, after))
        seen += page.items
        after = page.next
        if not after:
            break
    assert seen == list(whole.items)
    assert len({memory.id for memory in seen}) == 11


async def test_filters_select_alike_on_both_engines(store: MemoryStore, clock: FakeClock):
    now = clock.now()
    await put(store, "a", kind=Kind.FACT, tags=("x", "y"), author="Ana", importance=0.9, metadata='{"n":1}')
    await put(store, "b", tags=("y",), pinned=True, event_time=now - timedelta(days=9))
    await put(store, "c", tags=("X",), metadata='{"n":2}', expire_time=now + timedelta(days=1))

    async def selected(**fields) -> str:
        page = await store.list_memories("main", ListQuery(MemoryFilter(**fields), "create_time", False, 10))
        texts = sorted(memory.content.text for memory in page.items)
        same = sorted(await found(store, "a b c", selected=MemoryFilter(**fields)))
        assert same == [text for text in texts if text != "a"]  # "a" is a stop word
        return "".join(texts)

    assert await selected() == "abc"
    assert await selected(kinds=frozenset({Kind.FACT})) == "a"
    assert await selected(all_tags=frozenset({"x", "y"})) == "a"
    assert await selected(any_tags=frozenset({"x", "X"})) == "ac"
    assert await selected(authors=frozenset({"Ana"})) == "a"
    assert await selected(pinned=True) == "b"
    assert await selected(pinned=False) == "ac"
    assert await selected(min_importance=0.9) == "a"
    assert await selected(time_ranges=(TimeRange(TimeField.EVENT_TIME, None, now),)) == "b"
    assert await selected(time_ranges=(TimeRange(TimeField.EXPIRE_TIME, None, None),)) == "c"
    assert await selected(conditions=(Condition(("n",), Operator.GREATER, (1.0,)),)) == "c"
    assert await selected(sources=frozenset({Source.TOOL})) == ""


async def test_puts_that_race_for_one_text_add_it_once(store: MemoryStore):
    shown = await asyncio.gather(*(store.put_memory(MAIN, new("tea"), ticket()) for _ in range(20)))
    memories = [each.memory for each in shown]
    assert len({memory.uid for memory in memories}) == 1
    (memory,) = await listed(store)
    assert memory.use_count == 19


async def test_a_refused_write_leaves_no_trace_and_hinders_no_other(store: MemoryStore):
    await put(store, "one", id="m1")
    results = await asyncio.gather(
        put(store, "two"),
        put(store, "three", id="m1"),
        put(store, "four"),
        return_exceptions=True,
    )
    assert isinstance(results[1], MemoryAlreadyExists)
    assert sorted(memory.content.text for memory in await listed(store)) == ["four", "one", "two"]
    assert await found(store, "three") == []


async def test_counts_follow_every_change(store: MemoryStore, clock: FakeClock):
    memories = await put_all(store, ["one", "two", "three", "four"])
    await delete(store, memories[0])
    await delete(store, memories[1], purge=True)
    await delete(store, memories[2])
    await undelete(store, memories[2])
    await delete(store, memories[0], purge=True)
    await put(store, "short-lived", expire_time=clock.now() + timedelta(seconds=1))
    clock.advance(timedelta(seconds=2))
    assert await store.sweep() == 1
    stats = await store.stats("main")
    assert (sum(stats.kinds.values()), stats.deleted_count, stats.version_count) == (2, 0, 2)
    assert stats.backlog_count == 2


async def test_sweeps_purge_in_pieces_and_leave_the_rest(store: MemoryStore, clock: FakeClock):
    soon = clock.now() + timedelta(seconds=10)
    for bot in ("bo", "di"):
        drafts = [new(f"{bot} {number}", expire_time=soon if number % 2 else None) for number in range(1_400)]
        await store.put_memories(Reach(bot), drafts, ticket(), atomic=True)
    clock.advance(timedelta(seconds=11))
    assert await store.sweep() == 1_400
    assert await store.sweep() == 0
    for bot in ("bo", "di"):
        assert len(await found(store, bot, bot=bot, size=1_000)) == 700
        stats = await store.stats(bot)
        assert sum(stats.kinds.values()) == 700


async def test_a_batch_may_touch_add_and_refuse_together(store: MemoryStore):
    await put(store, "old", id="m1")
    drafts = [new("old"), new("new"), new("new"), new("x", id="m1"), new("old", dedupe=Dedupe.REJECT)]
    answers = await store.put_memories(MAIN, drafts, ticket("Batch", "r1"), atomic=False)
    shown = [answer.memory.use_count for answer in answers if isinstance(answer, PutShown)]  # type: ignore[union-attr]
    refused = [answer.reason for answer in answers if isinstance(answer, Refused)]
    assert (shown, refused) == ([1, 0, 1], ["MEMORY_ALREADY_EXISTS", "MEMORY_DUPLICATE"])
    again = await store.put_memories(MAIN, drafts, ticket("Batch", "r1"), atomic=False)
    assert [type(answer) for answer in again] == [type(answer) for answer in answers]
    assert len(await listed(store)) == 2


async def test_the_ledger_keeps_no_text_and_answers_from_the_history(store: MemoryStore):
    first = await put(store, "tea", id="m1", request_id="r1")
    await change(store, first, text="coffee")
    assert await put(store, "tea", id="m1", request_id="r1") == first
    await delete(store, first, purge=True)
    shown = await store.put_memory(MAIN, new("tea", id="m1"), ticket("PutMemory", "r1"))
    assert shown.memory == Purged(first.name, first.uid)
    with pytest.raises(InvalidArgument):
        await store.put_memory(MAIN, new("x"), replace(ticket("PutMemory", "r1"), fingerprint="another"))


async def test_an_etag_of_an_earlier_life_does_not_fit(store: MemoryStore):
    first = await put(store, "tea", id="m1")
    await delete(store, first, purge=True)
    await put(store, "tea", id="m1")
    with pytest.raises(EtagMismatch):
        await store.update_memory(ref(first), first.etag, lambda content: content, "x", ticket(), MAIN)


async def test_blocks_are_kept_with_their_versions(store: MemoryStore):
    async def put_block(text: str, etag: str = ""):
        patch = BlockPatch(text=text, order=-5)
        return await store.put_block(
            MAIN, "p", patch, ticket(), whole=patch, etag=etag, must_be_new=False, trusted=True, by="x"
        )

    first, created = await put_block("one 東京")
    second, _ = await put_block("two", first.etag)
    assert created
    assert await store.get_block("main", "p", 0) == second
    assert await store.get_block("main", "p", 1) == first
    assert (await store.list_blocks(MAIN, [], 10, ())).by_reach == ((MAIN, (second,)),)
    assert (await store.list_block_versions("main", "p", 10, ())).items == (second, first)
    with pytest.raises(EtagMismatch):
        await put_block("three", first.etag)
    assert await store.delete_block("main", "p", second.etag, ticket(), trusted=True) == second
    assert (await store.list_blocks(MAIN, [], 10, ())).by_reach == ()


async def test_a_bot_is_not_found_under_another(store: MemoryStore):
    memory = await put(store, "tea", id="m1")
    with pytest.raises(MemoryNotFound):
        await store.get_memory(MemoryRef("other", memory.id))
    assert await listed(store, bot="other") == []
