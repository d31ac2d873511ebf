"""Puts over a stream are stored in order and answered in order; and puts offer what says nearly the same."""

import asyncio
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from memory_world import World, draft, pb, put_request, refusal, refused

from mobot.memory.v1 import grant_pb2, memory_pb2

CREATED, TOUCHED = memory_pb2.PUT_OUTCOME_CREATED, memory_pb2.PUT_OUTCOME_TOUCHED


def item(text: str, *, bot: str = "main", request_id: str = "", **fields) -> pb.PutMemoriesItem:
    return pb.PutMemoriesItem(parent=f"bots/{bot}", draft=draft(text, **fields), request_id=request_id)


async def put_frames(world: World, *frames: list[pb.PutMemoriesItem], stub=None) -> list[memory_pb2.PutResult]:
    """The results of all items, in order."""

    async def requests():
        number = 1
        for items in frames:
            yield pb.PutMemoriesRequest(first_number=number, items=items)
            number += len(items)

    results: list[memory_pb2.PutResult] = []
    credit = 0
    async for response in (stub or world.stub).PutMemories(requests()):
        if response.results:
            assert response.first_number == len(results) + 1
        results += response.results
        credit += response.credit
    assert credit >= len(results)
    return results


async def test_results_come_in_order_for_any_number_of_bots(world: World):
    frames = [[item(f"{number} of {bot}", bot=bot) for bot in ("a", "b")] for number in range(20)]
    results = await put_frames(world, *frames)
    assert [result.memory.text for result in results] == [f"{n} of {bot}" for n in range(20) for bot in ("a", "b")]
    assert await world.found("7", bot="a") == ["7 of a"]
    assert (await world.stats("bots/-")).memory_count == 40


async def test_of_two_equal_texts_the_first_is_created_and_the_second_touches_it(world: World):
    results = await put_frames(world, [item("tea"), item("tea")], [item("tea")])
    assert [result.outcome for result in results] == [CREATED, TOUCHED, TOUCHED]
    assert results[2].memory.use_count == 2


async def test_a_refused_item_is_told_and_ends_nothing(world: World):
    bad = pb.PutMemoriesItem(parent="bots/main")
    results = await put_frames(
        world,
        [item("one"), item(""), item("x" * 32_769), item("two", bot="../x"), bad],
        [item("one", dedupe=memory_pb2.DEDUPE_MODE_REJECT), item("three")],
    )
    reasons = [result.refusal.reason for result in results]
    assert reasons == [
        "",
        "FIELD_INVALID",
        "MEMORY_TEXT_TOO_LONG",
        "RESOURCE_NAME_INVALID",
        "FIELD_INVALID",
        "MEMORY_DUPLICATE",
        "",
    ]
    assert sorted(await world.listed()) == ["one", "three"]


async def test_an_item_is_repeatable_on_another_stream(world: World):
    first = await put_frames(world, [item("tea", request_id="r"), item("tea", request_id="r")])
    again = await put_frames(world, [item("tea", request_id="r")])
    assert [result.memory.name for result in [*first, *again]] == [first[0].memory.name] * 3
    assert {result.outcome for result in [*first, *again]} == {CREATED}
    assert (await world.get(first[0].memory.name)).use_count == 0
    other = await put_frames(world, [item("milk", request_id="r")])
    assert other[0].refusal.reason == "REQUEST_ID_REUSED"


async def test_a_bot_puts_only_where_it_may(world: World):
    grant = grant_pb2.Grant(
        grantee="bots/friend",
        access=grant_pb2.GRANT_ACCESS_WRITE,
        slice=grant_pb2.GrantSlice(tags=["shared"]),
    )
    expire_time = Timestamp()
    expire_time.FromDatetime(world.clock.now() + timedelta(days=1))
    grant.expire_time.CopyFrom(expire_time)
    await world.stub.CreateGrant(pb.CreateGrantRequest(parent="bots/main", grant=grant))
    friend = world.acting("bots/friend", root=False)
    items = [item("own", bot="friend"), item("x"), item("lent", tags=["shared"]), item("y", bot="stranger")]
    results = await put_frames(world, items, stub=friend)
    assert [result.refusal.reason for result in results] == ["", "FIELD_INVALID", "", "MEMORY_NOT_FOUND"]
    assert results[2].memory.grant
    accesses = (await world.stub.ListAccesses(pb.ListAccessesRequest(parent="bots/main"))).accesses
    assert [(each.method, list(each.resources)) for each in accesses] == [("PutMemories", [results[2].memory.name])]


BAD_FRAMES = {
    "a number too low": ([pb.PutMemoriesRequest(first_number=0, items=[item("x")])], "FIELD_INVALID"),
    "a gap": ([pb.PutMemoriesRequest(first_number=2, items=[item("x")])], "FIELD_INVALID"),
    "no items": ([pb.PutMemoriesRequest(first_number=1)], "FIELD_INVALID"),
    "too many items": ([pb.PutMemoriesRequest(first_number=1, items=[item("x")] * 1_001)], "FIELD_INVALID"),
    "too many bytes": (
        [pb.PutMemoriesRequest(first_number=1, items=[item("x" * 32_768, context="y" * 8_192)] * 450)],
        "FIELD_INVALID",
    ),
}


@pytest.mark.parametrize(("frames", "reason"), BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_a_frame_that_breaks_the_rules_ends_the_stream(world: World, frames, reason: str):
    async def requests():
        for frame in frames:
            yield frame

    async def run() -> None:
        async for _ in world.stub.PutMemories(requests()):
            pass

    assert await refusal(run()) == ("INVALID_ARGUMENT", reason)


async def test_a_stream_ends_when_the_service_stops(world: World):
    open_ = asyncio.Event()

    async def requests():
        yield pb.PutMemoriesRequest(first_number=1, items=[item("tea")])
        await open_.wait()

    stored = asyncio.Event()

    async def run() -> None:
        async for response in world.stub.PutMemories(requests()):
            if response.results:
                stored.set()

    task = asyncio.create_task(run())
    async with asyncio.timeout(60):
        await stored.wait()
        assert world.host is not None
        drain = asyncio.create_task(world.host.drain())
        error = await refused(task)
        await drain
    world.host = None
    assert (error.code, error.reason) == ("UNAVAILABLE", "DRAINING")


async def test_what_says_nearly_the_same_is_offered(world: World):
    await world.put("Caroline drinks green tea in the morning", memory_id="near")
    await world.put("Caroline drinks green tea in the morning, mostly", memory_id="nearer")
    await world.put("The train to Porto leaves at nine", memory_id="far")
    await world.put("Caroline drinks green tea in the morning hours", bot="other")
    request = put_request("Caroline drinks green tea in the morning mostly.", near_duplicate_limit=5)
    result = (await world.stub.PutMemory(request)).result
    assert result.outcome == CREATED
    found = [(each.memory.rpartition("/")[2], round(each.similarity, 2)) for each in result.near_duplicates]
    assert [name for name, _ in found] == ["nearer", "near"]
    assert found[0][1] == 1.0
    assert found[1][1] < 1.0
    assert result.near_duplicates[1].excerpt == "Caroline drinks green tea in the morning"
    request.draft.near_duplicate_limit = 1
    request.draft.memory.text = "Caroline drinks green tea each morning"
    batch = pb.BatchPutMemoriesRequest(parent="bots/main", drafts=[draft("unlike"), request.draft])
    unlike, like = (await world.stub.BatchPutMemories(batch)).results
    assert (len(unlike.near_duplicates), len(like.near_duplicates)) == (0, 1)
    (streamed,) = await put_frames(world, [item("The train to Porto leaves at ten", near_duplicate_limit=3)])
    assert [each.memory for each in streamed.near_duplicates] == ["bots/main/memories/far"]
    asked_nothing = (await world.stub.PutMemory(put_request("The train to Porto leaves at one"))).result
    assert not asked_nothing.near_duplicates


@pytest.mark.parametrize("text", ['"', "東京東京東京", "x", "the of and", "a" * 32_000, "OR NOT NEAR(", "é" * 500])
async def test_any_text_can_be_asked_for_its_like(world: World, text: str):
    await world.put(text + " again")
    result = (await world.stub.PutMemory(put_request(text, near_duplicate_limit=10))).result
    assert result.outcome == CREATED


async def test_deleted_and_expired_memories_are_not_offered(world: World):
    for memory_id, fields in (("gone", {}), ("over", {"expire_time": world.clock.now() + timedelta(seconds=5)})):
        await world.put(f"green tea in the morning {memory_id}", memory_id=memory_id, **fields)
    await world.delete("bots/main/memories/gone")
    world.pass_time(10)
    result = (await world.stub.PutMemory(put_request("green tea in the morning", near_duplicate_limit=10))).result
    assert not result.near_duplicates
