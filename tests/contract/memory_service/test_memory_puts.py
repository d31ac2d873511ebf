"""Putting memories over the wire: what is stored, what is touched, what is refused, and what repeating does."""

import asyncio
import unicodedata
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from memory_world import World, draft, pb, put_request, refusal, refused, struct

from mobot.memory.v1 import memory_pb2


async def batch(world: World, *drafts: memory_pb2.MemoryDraft, **fields):
    request = pb.BatchPutMemoriesRequest(parent="bots/main", drafts=drafts, **fields)
    return (await world.stub.BatchPutMemories(request)).results


async def test_a_put_memory_has_its_defaults(world: World):
    result = (await world.stub.PutMemory(put_request("Ana likes tea"))).result
    memory = result.memory
    assert result.outcome == memory_pb2.PUT_OUTCOME_CREATED
    assert memory.name.startswith("bots/main/memories/")
    assert memory.kind == memory_pb2.MEMORY_KIND_NOTE
    assert memory.importance == 0.5
    assert memory.version == 1
    assert memory.etag
    assert memory.uid
    assert memory.create_time == memory.update_time
    assert memory.provenance.source == memory_pb2.MEMORY_SOURCE_API
    assert memory.provenance.principal == "operators/root"
    assert memory.vector_state == memory_pb2.VECTOR_STATE_PENDING
    assert not memory.HasField("expire_time")
    assert memory.use_count == 0
    assert await world.get(memory.name) == memory


async def test_everything_a_caller_writes_is_read_back(world: World):
    wanted = memory_pb2.Memory(
        text="Zoë moved\tto 東京 🗼\n'); DROP TABLE memory; --",
        kind=memory_pb2.MEMORY_KIND_EPISODE,
        tags=["b", "a", "Ä b"],
        author="Zoë",
        importance=0.0,
        pinned=True,
        metadata=struct(project={"name": "x", "sizes": [1, 2.5, None, True]}, empty={}),
        context="they spoke of flats",
        provenance=memory_pb2.Provenance(
            session="bots/main/sessions/s1",
            event_sequence=7,
            session_uid="u",
            run_id="r",
            source=memory_pb2.MEMORY_SOURCE_TOOL,
        ),
    )
    wanted.expire_time.FromDatetime(world.clock.now() + timedelta(days=1))
    wanted.event_time.FromJsonString("1999-12-31T23:59:59.123456Z")
    request = pb.PutMemoryRequest(
        parent="bots/main", draft=memory_pb2.MemoryDraft(memory=wanted, memory_id="M1.a~b-c_d")
    )
    stored = (await world.stub.PutMemory(request)).result.memory
    assert stored.name == "bots/main/memories/M1.a~b-c_d"
    for field in ("text", "kind", "tags", "author", "importance", "pinned", "metadata", "context", "event_time"):
        assert getattr(stored, field) == getattr(wanted, field), field
    assert stored.expire_time == wanted.expire_time
    assert stored.provenance.session == "bots/main/sessions/s1"
    assert stored.provenance.event_sequence == 7
    await world.restart()
    assert await world.get(stored.name) == stored


@pytest.mark.parametrize("again", ["Ana likes tea", "  Ana  likes\n\ttea ", "Ana\u00a0likes tea"])
async def test_the_same_text_touches_what_is_there(world: World, again: str):
    first = await world.put("Ana likes tea")
    world.pass_time(60)
    result = (await world.stub.PutMemory(put_request(again, memory_id="other"))).result
    assert result.outcome == memory_pb2.PUT_OUTCOME_TOUCHED
    assert result.memory.name == first.name
    assert result.memory.use_count == 1
    assert result.memory.use_time.ToDatetime() == first.create_time.ToDatetime() + timedelta(seconds=60)
    assert (result.memory.version, result.memory.etag) == (first.version, first.etag)
    assert result.memory.update_time == first.update_time
    assert await world.listed() == ["Ana likes tea"]


async def test_texts_that_differ_in_unicode_form_alone_are_the_same(world: World):
    await world.put(unicodedata.normalize("NFC", "Café"))
    await world.put(unicodedata.normalize("NFD", "Café"))
    assert len(await world.listed()) == 1


async def test_texts_that_differ_in_case_are_not_the_same(world: World):
    await world.put("polish")
    await world.put("Polish")
    assert len(await world.listed()) == 2


async def test_a_touch_moves_the_expiry_on_and_never_back(world: World):
    first = await world.put("tea", ttl=Duration(seconds=100))
    shorter = await world.put("tea", ttl=Duration(seconds=10))
    longer = await world.put("tea", ttl=Duration(seconds=1000))
    forever = await world.put("tea")
    assert shorter.expire_time == first.expire_time
    assert longer.expire_time.ToDatetime() == first.create_time.ToDatetime() + timedelta(seconds=1000)
    assert not forever.HasField("expire_time")


async def test_dedupe_may_be_told_to_add_or_to_refuse(world: World):
    first = await world.put("tea")
    second = await world.put("tea", dedupe=memory_pb2.DEDUPE_MODE_ALLOW)
    error = await refused(world.stub.PutMemory(put_request("tea", dedupe=memory_pb2.DEDUPE_MODE_REJECT)))
    assert second.name != first.name
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "MEMORY_DUPLICATE")
    assert error.metadata["memory"] == first.name
    assert error.domain == "memory.mobot"


async def test_the_same_text_of_another_bot_is_another_memory(world: World):
    mine = await world.put("tea")
    other = await world.put("tea", bot="other")
    assert (mine.name, mine.use_count) != (other.name, 1)
    assert other.use_count == 0


async def test_a_deleted_memory_is_not_touched(world: World):
    first = await world.put("tea")
    await world.delete(first.name)
    assert (await world.put("tea")).name != first.name


async def test_an_id_is_taken_while_its_memory_is_kept(world: World):
    first = await world.put("tea", memory_id="m1")
    assert await refusal(world.stub.PutMemory(put_request("milk", memory_id="m1"))) == (
        "ALREADY_EXISTS",
        "MEMORY_ALREADY_EXISTS",
    )
    await world.delete(first.name)
    assert (await refusal(world.stub.PutMemory(put_request("milk", memory_id="m1"))))[1] == "MEMORY_ALREADY_EXISTS"
    await world.delete(first.name, purge=True)
    again = await world.put("milk", memory_id="m1")
    assert again.uid != first.uid
    assert again.etag != first.etag


async def test_an_expired_memory_frees_its_id_and_its_text(world: World):
    first = await world.put("tea", memory_id="m1", ttl=Duration(seconds=10))
    world.pass_time(11)
    again = await world.put("tea", memory_id="m1")
    assert again.uid != first.uid
    assert await world.found("tea") == ["tea"]


async def test_a_full_namespace_takes_no_more_and_evicts_nothing(world: World):
    await world.restart(max_memories=2)
    await world.put("one")
    two = await world.put("two")
    error = await refused(world.stub.PutMemory(put_request("three")))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "MEMORY_LIMIT_REACHED")
    assert error.metadata == {"bot": "bots/main", "limit": "2"}
    assert error.quota[0].field == "bots/main"
    assert (await world.put("two")).use_count == 1
    await world.put("three", bot="other")
    await world.delete(two.name, purge=True)
    assert (await world.put("three")).text == "three"


async def test_a_batch_answers_each_draft_in_order(world: World):
    results = await batch(
        world,
        draft("one"),
        draft("one"),
        draft("x" * 40_000),
        draft("two", memory_id="m2"),
        draft("three", memory_id="m2"),
        draft("one", dedupe=memory_pb2.DEDUPE_MODE_REJECT),
    )
    assert [result.outcome for result in results] == [
        memory_pb2.PUT_OUTCOME_CREATED,
        memory_pb2.PUT_OUTCOME_TOUCHED,
        memory_pb2.PUT_OUTCOME_UNSPECIFIED,
        memory_pb2.PUT_OUTCOME_CREATED,
        memory_pb2.PUT_OUTCOME_UNSPECIFIED,
        memory_pb2.PUT_OUTCOME_UNSPECIFIED,
    ]
    assert [result.refusal.reason for result in results if result.HasField("refusal")] == [
        "MEMORY_TEXT_TOO_LONG",
        "MEMORY_ALREADY_EXISTS",
        "MEMORY_DUPLICATE",
    ]
    assert results[2].refusal.code == 3
    assert results[2].refusal.metadata["field"] == "drafts[2].memory.text"
    assert sorted(await world.listed()) == ["one", "two"]
    assert (await world.get(results[0].memory.name)).use_count == 1


async def test_an_atomic_batch_stores_all_or_nothing(world: World):
    await world.put("old", memory_id="taken")
    refused_late = batch(world, draft("one"), draft("two", memory_id="taken"), atomic=True)
    assert (await refusal(refused_late)) == ("ALREADY_EXISTS", "MEMORY_ALREADY_EXISTS")
    refused_early = batch(world, draft("one"), draft(""), atomic=True)
    assert (await refusal(refused_early)) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert await world.listed() == ["old"]
    assert await world.found("one") == []
    assert len(await batch(world, draft("one"), draft("two"), atomic=True)) == 2


async def test_a_thousand_drafts_are_one_batch_and_no_more(world: World):
    results = await batch(world, *(draft(f"thing {index}") for index in range(1_000)))
    assert {result.outcome for result in results} == {memory_pb2.PUT_OUTCOME_CREATED}
    assert (await world.stats()).memory_count == 1_000
    assert await world.found("thing 777", page_size=1) == ["thing 777"]
    for count in (0, 1_001):
        assert (await refusal(batch(world, *[draft("x")] * count)))[1] == "FIELD_INVALID"


async def test_a_repeated_request_is_answered_alike_and_done_once(world: World):
    request = put_request("tea", request_id="7d0c")
    first = await world.stub.PutMemory(request)
    assert await world.stub.PutMemory(request) == first
    await world.restart()
    assert await world.stub.PutMemory(request) == first
    assert (await world.get(first.result.memory.name)).use_count == 0


async def test_a_repeated_put_shows_the_memory_as_it_was_then(world: World):
    request = put_request("tea", request_id="7d0c")
    first = (await world.stub.PutMemory(request)).result
    await world.update(memory_pb2.Memory(name=first.memory.name, text="coffee"))
    assert (await world.stub.PutMemory(request)).result == first
    await world.delete(first.memory.name, purge=True)
    gone = (await world.stub.PutMemory(request)).result
    assert (gone.outcome, gone.memory.name, gone.memory.uid, gone.memory.text) == (
        first.outcome,
        first.memory.name,
        first.memory.uid,
        "",
    )


async def test_a_request_id_is_not_for_two_requests(world: World):
    await world.stub.PutMemory(put_request("tea", request_id="7d0c"))
    error = await refused(world.stub.PutMemory(put_request("milk", request_id="7d0c")))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    mine = world.acting("bots/main")
    assert (await mine.PutMemory(put_request("milk", request_id="7d0c"))).result.memory.text == "milk"


async def test_a_repeated_batch_is_answered_alike(world: World):
    drafts = (draft("one"), draft(""), draft("one"))
    first = await batch(world, *drafts, request_id="b1")
    assert list(await batch(world, *drafts, request_id="b1"))[1:2] == list(first)[1:2]
    assert (await world.get(first[0].memory.name)).use_count == 1


async def test_a_refused_request_may_be_mended_and_sent_again(world: World):
    kept = await world.put("milk", memory_id="m1")
    request = put_request("tea", memory_id="m1", request_id="r1")
    assert (await refusal(world.stub.PutMemory(request)))[0] == "ALREADY_EXISTS"
    await world.delete(kept.name, purge=True)
    assert (await world.stub.PutMemory(request)).result.memory.text == "tea"


async def test_requests_with_one_id_at_the_same_moment_are_done_once(world: World):
    texts = ("tea", "tea", "milk", "tea")
    calls = [world.stub.PutMemory(put_request(text, request_id="7d0c")) for text in texts]
    *answers, _ = await asyncio.gather(*calls, world.stub.PutMemory(put_request("sea")), return_exceptions=True)
    # Which of them comes first over a socket is nobody's promise; that the others agree with it is.
    done = [answer for answer in answers if not isinstance(answer, grpc.aio.AioRpcError)]
    first = done[0].result.memory
    assert all(answer == done[0] for answer in done)
    assert len(done) == texts.count(first.text)
    assert sorted(await world.listed()) == sorted(["sea", first.text])
    assert (await world.get(first.name)).use_count == 0
