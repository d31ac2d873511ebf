"""Changing memories over the wire: updates, deletions, versions, expiry."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from memory_world import World, draft, pb, refusal, refused, struct

from mobot.memory.v1 import memory_pb2

Memory = memory_pb2.Memory
M1 = "bots/main/memories/m1"


async def test_an_update_changes_the_named_fields_only(world: World):
    before = await world.put("tea", memory_id="m1", author="Ana", tags=["a"])
    world.pass_time(5)
    after = await world.update(Memory(name=M1, text="coffee", author="ignored", tags=["b"]), "text", "tags")
    assert (after.text, after.author, list(after.tags)) == ("coffee", "Ana", ["b"])
    assert after.version == 2
    assert after.etag != before.etag
    assert after.uid == before.uid
    assert after.update_time.ToDatetime() == before.update_time.ToDatetime() + timedelta(seconds=5)
    assert await world.get(M1) == after


async def test_an_update_without_a_mask_takes_what_is_populated(world: World):
    await world.put("tea", memory_id="m1", author="Ana", metadata=struct(a=1))
    after = await world.update(Memory(name=M1, importance=0.0, kind=memory_pb2.MEMORY_KIND_TASK))
    assert (after.importance, after.kind, after.author, after.text) == (0, memory_pb2.MEMORY_KIND_TASK, "Ana", "tea")
    assert after.metadata == struct(a=1)


async def test_a_named_field_that_is_empty_is_cleared(world: World):
    await world.put(
        "tea", memory_id="m1", author="A", tags=["x"], metadata=struct(a=1), context="c", ttl=Duration(seconds=99)
    )
    paths = ("author", "tags", "metadata", "context", "expire_time", "importance", "kind")
    after = await world.update(Memory(name=M1), *paths)
    assert (after.author, list(after.tags), after.context) == ("", [], "")
    assert not after.HasField("metadata")
    assert not after.HasField("expire_time")
    assert (after.importance, after.kind) == (0.5, memory_pb2.MEMORY_KIND_NOTE)
    assert await world.selected(any_tags=["x"]) == set()


async def test_an_update_that_changes_nothing_makes_no_version(world: World):
    before = await world.put("tea", memory_id="m1")
    assert await world.update(before) == before
    assert await world.update(before, "name", "etag", "version", "uid", "create_time", "use_count") == before
    assert len(await world.versions(M1)) == 1


@pytest.mark.parametrize("path", ["colour", "metadata.a", "provenance", "*", "", "Text", "text "])
async def test_a_mask_with_a_path_that_cannot_be_changed_is_refused(world: World, path: str):
    await world.put("tea", memory_id="m1")
    request = pb.UpdateMemoryRequest(memory=Memory(name=M1, text="x"), update_mask=FieldMask(paths=[path]))
    error = await refused(world.stub.UpdateMemory(request))
    assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "FIELD_INVALID", "update_mask")


async def test_an_etag_guards_every_change(world: World):
    old = await world.put("tea", memory_id="m1")
    await world.update(Memory(name=M1, text="coffee", etag=old.etag))
    for call in (
        world.update(Memory(name=M1, text="milk", etag=old.etag)),
        world.delete(M1, etag=old.etag),
        world.delete(M1, etag=old.etag, purge=True),
        world.restore(M1, 1, etag=old.etag),
    ):
        error = await refused(call)
        assert (error.code, error.reason) == ("ABORTED", "ETAG_MISMATCH")
        assert error.metadata == {"name": M1, "etag": old.etag}
    current = await world.get(M1)
    assert current.text == "coffee"
    await world.put("coffee")
    assert (await world.restore(M1, 1, etag=current.etag)).text == "tea"


async def test_of_two_updates_with_one_etag_one_wins(world: World):
    memory = await world.put("tea", memory_id="m1")
    calls = [world.update(Memory(name=M1, text=f"t{n}", etag=memory.etag)) for n in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Memory) for result in results) == 1
    assert (await world.get(M1)).version == 2


async def test_a_deleted_memory_is_hidden_and_can_be_brought_back(world: World):
    before = await world.put("tea time", memory_id="m1")
    deleted = await world.delete(M1, etag=before.etag)
    assert deleted.delete_time.ToDatetime() == before.create_time.ToDatetime()
    assert deleted.purge_time.ToDatetime() == deleted.delete_time.ToDatetime() + timedelta(days=30)
    assert await world.get(M1) == deleted
    assert await world.found("tea") == []
    assert await world.delete(M1, etag=before.etag) == deleted
    back = await world.undelete(M1)
    assert not back.HasField("delete_time")
    assert not back.HasField("purge_time")
    assert await world.found("tea") == ["tea time"]
    assert await refusal(world.undelete(M1)) == ("FAILED_PRECONDITION", "MEMORY_NOT_DELETED")


async def test_a_deleted_memory_cannot_be_changed(world: World):
    await world.put("tea", memory_id="m1")
    await world.delete(M1)
    error = await refused(world.update(Memory(name=M1, text="x")))
    assert (error.code, error.reason, error.metadata) == ("FAILED_PRECONDITION", "MEMORY_DELETED", {"memory": M1})


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_purged_memory_is_gone_with_its_versions(world: World, deleted: bool):
    memory = await world.put("tea", memory_id="m1")
    await world.update(Memory(name=M1, text="coffee"))
    if deleted:
        await world.delete(M1)
    assert await world.delete(M1, purge=True) == Memory(name=M1, uid=memory.uid)
    for call in (world.get(M1), world.undelete(M1), world.versions(M1), world.delete(M1), world.restore(M1, 1)):
        error = await refused(call)
        assert (error.code, error.reason, error.metadata) == ("NOT_FOUND", "MEMORY_NOT_FOUND", {"memory": M1})
    assert await world.found("tea coffee") == []
    stats = await world.stats()
    assert (stats.memory_count, stats.deleted_count, stats.version_count) == (0, 0, 0)


async def test_every_version_is_kept_and_says_how_it_came_about(world: World):
    await world.put("one", memory_id="m1", tags=["a"])
    world.pass_time(1)
    await world.acting("bots/main").UpdateMemory(pb.UpdateMemoryRequest(memory=Memory(name=M1, text="two")))
    await world.delete(M1)
    await world.undelete(M1)
    await world.restore(M1, 1)
    versions = await world.versions(M1)
    assert [(version.memory.text, version.change) for version in versions] == [
        ("one", memory_pb2.CHANGE_KIND_RESTORE),
        ("two", memory_pb2.CHANGE_KIND_UNDELETE),
        ("two", memory_pb2.CHANGE_KIND_DELETE),
        ("two", memory_pb2.CHANGE_KIND_UPDATE),
        ("one", memory_pb2.CHANGE_KIND_PUT),
    ]
    assert versions[0].memory == await world.get(M1)
    assert versions[3].name == f"{M1}/versions/2"
    assert versions[3].principal == "bots/main"
    assert versions[4].principal == "operators/root"
    assert versions[4].create_time == versions[4].memory.update_time
    assert versions[2].memory.HasField("delete_time")


async def test_versions_come_in_pages(world: World):
    await world.put("0", memory_id="m1")
    for number in range(1, 6):
        await world.update(Memory(name=M1, text=str(number)))
    texts: list[list[str]] = []
    token = ""
    while True:
        request = pb.ListMemoryVersionsRequest(parent=M1, page_size=2, page_token=token)
        response = await world.stub.ListMemoryVersions(request)
        texts.append([version.memory.text for version in response.versions])
        token = response.next_page_token
        if not token:
            break
    assert texts == [["5", "4"], ["3", "2"], ["1", "0"]]


async def test_the_last_hundred_versions_are_kept(world: World):
    await world.put("0", memory_id="m1")
    for number in range(1, 105):
        await world.update(Memory(name=M1, text=str(number)))
    versions = await world.versions(M1, page_size=1000)
    assert len(versions) == 100
    assert versions[-1].memory.version == 6
    error = await refused(world.restore(M1, 5))
    assert (error.code, error.reason) == ("NOT_FOUND", "MEMORY_VERSION_NOT_FOUND")
    assert error.metadata == {"name": M1, "version": "5"}


async def test_a_restored_version_is_the_newest_and_found_by_its_words(world: World):
    await world.put("tea", memory_id="m1", tags=["old"], author="Ana")
    await world.update(Memory(name=M1, text="coffee", tags=["new"], author="Bo"))
    restored = await world.restore(M1, 1)
    assert (restored.text, list(restored.tags), restored.author, restored.version) == ("tea", ["old"], "Ana", 3)
    assert await world.found("tea") == ["tea"]
    assert await world.found("coffee") == []
    assert await world.selected(any_tags=["new"]) == set()
    assert await world.selected(any_tags=["old"]) == {"tea"}


async def test_restoring_brings_a_deleted_memory_back(world: World):
    await world.put("tea", memory_id="m1")
    await world.delete(M1)
    restored = await world.restore(M1, 1)
    assert not restored.HasField("delete_time")
    assert await world.found("tea") == ["tea"]
    assert await world.restore(M1, restored.version) == restored


async def test_restoring_does_not_bring_back_an_expiry_that_has_passed(world: World):
    await world.put("tea", memory_id="m1", ttl=Duration(seconds=10))
    await world.update(Memory(name=M1), "expire_time")
    world.pass_time(60)
    assert not (await world.restore(M1, 1)).HasField("expire_time")


async def test_an_expired_memory_is_found_by_nothing(world: World):
    await world.put("tea", memory_id="m1", ttl=Duration(seconds=10))
    kept = await world.put("tea pot", ttl=Duration(seconds=10), pinned=True)
    world.pass_time(10)
    assert await world.found("tea") == ["tea pot"]
    assert await world.listed(show_deleted=True) == ["tea pot"]
    assert (await world.get(kept.name)).text == "tea pot"
    for call in (world.get(M1), world.update(Memory(name=M1, author="x")), world.delete(M1), world.versions(M1)):
        assert await refusal(call) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert (await world.stats()).memory_count == 1


async def test_sweeps_purge_what_is_past_its_time(world: World):
    await world.restart(sweep_interval_s=0.01, retention_days=1)
    await world.put("expired", ttl=Duration(seconds=10))
    await world.put("pinned", ttl=Duration(seconds=10), pinned=True)
    await world.put("deleted", memory_id="m1")
    await world.put("kept")
    await world.delete(M1)
    world.pass_time(86_401)
    async with asyncio.timeout(40):
        while (await world.stats()).deleted_count:  # noqa: ASYNC110 - a sweep has no event to wait for
            await asyncio.sleep(0.01)
    assert await refusal(world.undelete(M1)) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert sorted(await world.listed(show_deleted=True)) == ["kept", "pinned"]


async def test_an_expiry_that_has_passed_may_be_sent_back_but_not_set(world: World):
    memory = await world.put("tea", memory_id="m1", ttl=Duration(seconds=10), pinned=True)
    world.pass_time(60)
    memory.author = "Ana"
    after = await world.update(memory)
    assert (after.author, after.expire_time) == ("Ana", memory.expire_time)
    after.expire_time.FromDatetime(world.clock.now())
    assert await refusal(world.update(after)) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_every_change_can_be_repeated_by_its_request_id(world: World):
    await world.put("tea", memory_id="m1")
    calls = [
        lambda: world.update(Memory(name=M1, text="coffee"), request_id="r1"),
        lambda: world.delete(M1, request_id="r2"),
        lambda: world.undelete(M1, request_id="r3"),
        lambda: world.restore(M1, 1, request_id="r4"),
        lambda: world.delete(M1, purge=True, request_id="r5"),
    ]
    answers = []
    for call in calls:
        answers.append(await call())
        assert await call() == answers[-1]
    assert answers[3].version == 5
    assert await calls[4]() == answers[4]
    assert await refusal(world.delete(M1, request_id="r2", purge=True)) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


def held_in(url: str) -> str:
    """What the tables hold. Pages of a file that are free may keep their bytes for a while."""
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source:
            return "\n".join(source.iterdump())

    async def read() -> str:
        conn = await asyncpg.connect(url)
        try:
            names = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            return "\n".join([str(await conn.fetch(f"SELECT * FROM {name}")) for (name,) in names])
        finally:
            await conn.close()

    return asyncio.run(read())


async def test_what_is_purged_leaves_no_text_behind(world: World):
    secret = "xyzzyplugh"
    request = pb.PutMemoryRequest(parent="bots/main", draft=draft(secret, memory_id="m1"), request_id="r1")
    await world.stub.PutMemory(request)
    await world.update(Memory(name=M1, context=secret, author=secret), request_id="r2")
    await world.update(Memory(name=M1, text="other", context="", author="x"), "text", "context", "author")
    await world.delete(M1, purge=True, request_id="r3")
    await world.put("flush", memory_id="m2")
    await world.stop()
    assert secret not in await asyncio.to_thread(held_in, world.options["database_url"])
