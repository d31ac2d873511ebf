"""Grants, exports, imports and near-duplicates on both engines."""

from dataclasses import replace
from datetime import timedelta

import pytest
from memory_store import ME, change, delete, found, listed, new, put, put_all, ref, ticket

from chassis.clock import FakeClock
from memory_service.domain.block import BlockPatch
from memory_service.domain.errors import GrantAlreadyExists, GrantEnded, ResumeTokenTooOld
from memory_service.domain.grant import NO_REACH, Grant, GrantAccess, GrantState, Reach
from memory_service.domain.memory import Kind, Memory
from memory_service.domain.portability import Conflict, ExportOptions, Imported, Record
from memory_service.domain.selection import MemoryFilter, Slice
from memory_service.store.grant_store import GrantStore
from memory_service.store.grants import AccessQuery
from memory_service.store.portability_store import PortabilityStore
from memory_service.store.store import MemoryStore

WHOLE = ExportOptions(versions=True, deleted=True, grants=True)


def grant_of(clock: FakeClock, memories: Slice | None, **fields) -> Grant:
    values = {
        "bot": "main",
        "id": "g1",
        "grantee": "friend",
        "access": GrantAccess.WRITE,
        "memories": memories,
        "blocks": (),
        "expire_time": clock.now() + timedelta(days=1),
        "reason": "",
        "create_time": clock.now(),
        "principal": ME,
    }
    return Grant(**(values | fields))


async def fill(store: MemoryStore, clock: FakeClock) -> Memory:
    first = await put(store, "Zoë moved to 東京", id="m1", kind=Kind.FACT, tags=("a", "b"), metadata='{"n":1}')
    clock.advance(timedelta(seconds=1))
    first = await change(store, first, text="Zoë stayed")
    gone = await put(store, "gone", id="m2", tags=("a",))
    await delete(store, gone)
    await put(store, "soon over", id="m3", expire_time=clock.now() + timedelta(days=2))
    for body in ("one", "two"):
        patch = BlockPatch(text=body)
        await store.put_block(
            Reach("main"), "persona", patch, ticket(), whole=patch, etag="", must_be_new=False, trusted=True, by=ME
        )
    return first


SLICES = [
    (Slice(), {"m1", "m3"}),
    (Slice(kinds=frozenset({Kind.FACT})), {"m1"}),
    (Slice(tags=frozenset({"a", "z"})), {"m1"}),
    (Slice(kinds=frozenset({Kind.NOTE}), tags=frozenset({"b"})), set()),
    (Slice(sessions=frozenset({"bots/main/sessions/s"})), set()),
    (None, set()),
]


@pytest.mark.parametrize(("part", "seen"), SLICES)
async def test_a_reach_selects_what_its_slices_hold(store: MemoryStore, clock: FakeClock, part, seen: set[str]):
    await fill(store, clock)
    grants = GrantStore(store.transactions)
    await grants.create(grant_of(clock, part, blocks=("persona",)), ticket())
    reach = await grants.reach("bots/friend", "main", GrantAccess.READ, method="Test")
    selected = MemoryFilter(slices=reach.slices)
    assert set(await found(store, "Zoë stayed soon over gone", selected=selected)) == {
        {"m1": "Zoë stayed", "m3": "soon over"}[each] for each in seen
    }
    everything = await listed(store)
    assert {memory.id for memory in everything if reach.admits(memory)} == seen
    assert reach.grant_of_block("persona") is not None
    assert await grants.reach("bots/other", "main", GrantAccess.READ) is NO_REACH


async def test_grants_end_and_their_accesses_are_kept_in_order(store: MemoryStore, clock: FakeClock):
    memory = await fill(store, clock)
    grants = GrantStore(store.transactions)
    made = await grants.create(grant_of(clock, Slice()), ticket("CreateGrant", "r"))
    assert await grants.create(grant_of(clock, Slice()), ticket("CreateGrant", "r")) == made
    with pytest.raises(GrantAlreadyExists):
        await grants.create(grant_of(clock, Slice()), ticket())
    reach = await grants.reach("bots/friend", "main", GrantAccess.WRITE, method="GetMemory", trace_id="t")
    for count in range(3):
        clock.advance(timedelta(seconds=1))
        await grants.record(reach, [memory] * count)
    put_there = new("through a grant")
    shown = await store.put_memory(reach, put_there, ticket())
    page = await grants.list_accesses("main", AccessQuery(grantee="friend"), 2, ())
    rest = await grants.list_accesses("main", AccessQuery(grantee="friend"), 2, page.next)
    assert [each.count for each in (*page.items, *rest.items)] == [1, 2, 1, 0]
    assert page.items[0].resources == (shown.memory.name,)
    (given,) = (await grants.list_given("main", frozenset(), 10, ())).items
    assert (given.access_count, given.access_time) == (4, clock.now())
    assert [each.bot for each in await grants.lent_to("friend")] == ["main"]
    assert (await grants.list_received("friend", 10, ())).items == (given,)
    await grants.revoke("main", "g1", ticket())
    with pytest.raises(GrantEnded):
        await grants.revoke("main", "g1", ticket())
    assert await grants.lent_to("friend") == []
    ended = await grants.list_given("main", frozenset({GrantState.REVOKED, GrantState.EXPIRED}), 10, ())
    assert [each.state(clock.now()) for each in ended.items] == [GrantState.REVOKED]
    clock.advance(timedelta(days=367))
    await grants.forget_old()
    assert (await grants.list_accesses("main", AccessQuery(), 10, ())).items == ()
    assert (await grants.list_given("main", frozenset(GrantState), 10, ())).items == ()


async def exported(portability: PortabilityStore, bot: str = "main", options: ExportOptions = WHOLE) -> list[Record]:
    place = await portability.begin_export(bot, options)
    records: list[Record] = []
    while place.part < 4:
        some, place = await portability.read_page(bot, options, place)
        records += some
    assert place.done == place.total == len(records)
    return records


async def test_an_export_is_imported_whole_and_twice_is_once(store: MemoryStore, clock: FakeClock):
    await fill(store, clock)
    await GrantStore(store.transactions).create(grant_of(clock, Slice(), blocks=("persona",)), ticket())
    portability = PortabilityStore(store.transactions, max_memories=1_000)
    records = await exported(portability)

    async def take(*, dry_run: bool = False) -> list:
        moved = [replace(each, bot="copy") if isinstance(each, (Memory, Grant)) else each for each in records]
        return await portability.take("copy", moved, Conflict.SKIP, ME, trusted=True, dry_run=dry_run)

    assert set(await take(dry_run=True)) == {Imported.CREATED, Imported.UNCHANGED}
    assert await listed(store, bot="copy") == []
    assert await take(dry_run=True) == await take()
    assert set(await take()) == {Imported.UNCHANGED}
    copied = await listed(store, bot="copy")
    assert [(each.id, each.uid, each.version, each.content) for each in copied] == [
        (each.id, each.uid, each.version, each.content) for each in await listed(store)
    ]
    assert await found(store, "stayed", bot="copy") == ["Zoë stayed"]
    assert await found(store, "gone moved", bot="copy") == []
    versions = await store.list_versions(ref(copied[0]), 10, ())
    assert [each.content.text for each in versions.items] == ["Zoë stayed", "Zoë moved to 東京"]
    stats = await store.stats("copy")
    assert (sum(stats.kinds.values()), stats.deleted_count, stats.block_count, stats.grant_count) == (2, 1, 1, 1)


async def test_an_export_pages_through_many_and_ends_after_a_day(store: MemoryStore, clock: FakeClock):
    await put_all(store, [f"number {number}" for number in range(700)])
    portability = PortabilityStore(store.transactions, max_memories=1_000)
    assert len(await exported(portability)) == 1 + 2 * 700
    only = ExportOptions(selected=MemoryFilter(kinds=frozenset({Kind.FACT})))
    assert len(await exported(portability, options=only)) == 1
    place = await portability.begin_export("main", WHOLE)
    clock.advance(timedelta(hours=25))
    with pytest.raises(ResumeTokenTooOld):
        await portability.read_page("main", WHOLE, place)


async def test_near_duplicates_are_found_among_what_is_reached(store: MemoryStore, clock: FakeClock):
    await put(store, "Caroline drinks green tea in the morning", id="near", tags=("shared",))
    await put(store, "Caroline drinks green tea in the morning, mostly", id="nearer")
    await put(store, "The train leaves at nine", id="far")
    await put(store, "Caroline drinks green tea in the morning", bot="other")
    memory = await put(store, "Caroline drinks green tea in the morning mostly!")
    owner = await store.near_duplicates(Reach("main"), [(memory, 5), (memory, 1), (memory, 0)])
    assert [[each.memory.id for each in some] for some in owner] == [["nearer", "near"], ["nearer"], []]
    lent = Reach("main", (grant_of(clock, Slice(tags=frozenset({"shared"}))),))
    assert [each.memory.id for each in (await store.near_duplicates(lent, [(memory, 5)]))[0]] == ["near"]
