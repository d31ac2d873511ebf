"""Blocks over the wire."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from memory_world import World, pb, refusal, refused

from mobot.memory.v1 import block_pb2, memory_pb2

PERSONA = "bots/main/blocks/persona"


async def get(world: World, name: str = PERSONA, version: int = 0) -> block_pb2.Block:
    return (await world.stub.GetBlock(pb.GetBlockRequest(name=name, version=version))).block


async def listed(world: World, **fields) -> pb.ListBlocksResponse:
    return await world.stub.ListBlocks(pb.ListBlocksRequest(parent="bots/main", **fields))


async def delete(world: World, **fields) -> block_pb2.Block:
    return (await world.stub.DeleteBlock(pb.DeleteBlockRequest(name=PERSONA, **fields))).block


async def test_a_new_block_has_its_defaults(world: World):
    block = await world.put_block("persona", text="kind", paths=("description",))
    assert (block.name, block.text, block.max_characters, block.version) == (PERSONA, "kind", 4_000, 1)
    assert block.principal == "operators/root"
    assert block.uid
    assert block.etag
    await world.restart()
    assert await get(world) == block


async def test_a_put_changes_what_is_populated_or_named(world: World):
    first = await world.put_block("persona", text="kind", description="who it is", order=3)
    second = await world.put_block("persona", text="wise")
    assert (second.text, second.description, second.order, second.version) == ("wise", "who it is", 3, 2)
    assert second.uid == first.uid
    cleared = await world.put_block("persona", paths=("description", "order"), text="ignored")
    assert (cleared.text, cleared.description, cleared.order) == ("wise", "", 0)
    assert await world.put_block("persona", text="wise") == cleared
    assert (await get(world, version=1)).text == "kind"


async def test_versions_are_listed_with_what_made_them(world: World):
    for text in ("one", "two", "three"):
        await world.put_block("persona", text=text)
    request = pb.ListBlockVersionsRequest(parent=PERSONA, page_size=2)
    response = await world.stub.ListBlockVersions(request)
    assert [(each.block.text, each.change) for each in response.versions] == [
        ("three", memory_pb2.CHANGE_KIND_UPDATE),
        ("two", memory_pb2.CHANGE_KIND_UPDATE),
    ]
    request.page_token = response.next_page_token
    (last,) = (await world.stub.ListBlockVersions(request)).versions
    assert (last.block.text, last.change, last.name) == ("one", memory_pb2.CHANGE_KIND_PUT, f"{PERSONA}/versions/1")
    error = await refused(get(world, version=9))
    assert (error.reason, error.metadata) == ("MEMORY_VERSION_NOT_FOUND", {"name": PERSONA, "version": "9"})


async def test_blocks_are_listed_in_their_order_page_by_page(world: World):
    for block_id, order in (("c", 0), ("a", 5), ("b", 0), ("d", -1)):
        await world.put_block(block_id, text=block_id, order=order)
    first = await listed(world, page_size=3)
    assert [block.text for block in first.blocks] == ["d", "b", "c"]
    second = await listed(world, page_size=3, page_token=first.next_page_token)
    assert [block.text for block in second.blocks] == ["a"]
    assert not second.next_page_token


async def test_an_etag_and_newness_guard_the_write(world: World):
    first = await world.put_block("persona", text="kind", must_be_new=True)
    await world.put_block("persona", text="wise", etag=first.etag)
    for call in (
        world.put_block("persona", text="x", etag=first.etag),
        world.put_block("persona", text="x", must_be_new=True),
        world.put_block("other", text="x", etag=first.etag),
        delete(world, etag=first.etag),
    ):
        assert await refusal(call) == ("ABORTED", "ETAG_MISMATCH")
    assert (await get(world)).text == "wise"


async def test_a_text_longer_than_its_block_is_refused(world: World):
    await world.put_block("persona", text="12345", max_characters=5)
    error = await refused(world.put_block("persona", text="123456"))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "BLOCK_TEXT_TOO_LONG")
    assert error.metadata == {"block": PERSONA, "characters": "6", "limit": "5"}
    assert (await refusal(world.put_block("persona", max_characters=4)))[1] == "BLOCK_TEXT_TOO_LONG"
    assert (await world.put_block("persona", text="ääääää", max_characters=6)).text == "ääääää"


async def test_a_read_only_block_is_changed_by_operators_alone(world: World):
    mine = world.acting("bots/main")
    own = block_pb2.Block(name=PERSONA, text="mine", read_only=True)
    assert await refusal(mine.PutBlock(pb.PutBlockRequest(block=own))) == ("FAILED_PRECONDITION", "BLOCK_READ_ONLY")
    await world.put_block("persona", text="fixed", read_only=True)
    for block, mask in (
        (block_pb2.Block(name=PERSONA, text="x"), None),
        (block_pb2.Block(name=PERSONA), FieldMask(paths=["read_only"])),
    ):
        call = mine.PutBlock(pb.PutBlockRequest(block=block, update_mask=mask))
        assert (await refusal(call))[1] == "BLOCK_READ_ONLY"
    assert (await refusal(mine.DeleteBlock(pb.DeleteBlockRequest(name=PERSONA))))[1] == "BLOCK_READ_ONLY"
    assert (await mine.GetBlock(pb.GetBlockRequest(name=PERSONA))).block.text == "fixed"
    await world.put_block("persona", paths=("read_only",))
    await mine.PutBlock(pb.PutBlockRequest(block=block_pb2.Block(name=PERSONA, text="x")))
    assert (await get(world)).principal == "bots/main"


async def test_a_deleted_block_is_gone_with_its_versions(world: World):
    first = await world.put_block("persona", text="kind")
    second = await world.put_block("persona", text="wise")
    assert await delete(world) == second
    assert await refusal(get(world)) == ("NOT_FOUND", "BLOCK_NOT_FOUND")
    assert await refusal(delete(world)) == ("NOT_FOUND", "BLOCK_NOT_FOUND")
    again = await world.put_block("persona", text="new")
    assert (again.version, again.uid == first.uid) == (1, False)
    request = pb.ListBlockVersionsRequest(parent=PERSONA)
    assert len((await world.stub.ListBlockVersions(request)).versions) == 1


async def test_a_sixty_fifth_block_is_refused(world: World):
    for number in range(64):
        await world.put_block(f"b{number}", text="x")
    error = await refused(world.put_block("one-more", text="x"))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "BLOCK_LIMIT_REACHED")
    assert error.quota[0].field == "bots/main"
    await world.put_block("b0", text="y")


async def test_blocks_can_be_put_and_deleted_again_by_request_id(world: World):
    block = block_pb2.Block(name=PERSONA, text="kind")
    request = pb.PutBlockRequest(block=block, request_id="r1")
    first = await world.stub.PutBlock(request)
    await world.put_block("persona", text="wise")
    assert await world.stub.PutBlock(request) == first
    assert first.created
    gone = await delete(world, request_id="r2")
    again = await delete(world, request_id="r2")
    assert (again.name, again.uid, again.version) == (gone.name, gone.uid, gone.version)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "bots/main/blocks/A"}, "RESOURCE_NAME_INVALID"),
        ({"name": "bots/main/blocks/"}, "RESOURCE_NAME_INVALID"),
        ({"name": "bots/main/blocks/" + "a" * 65}, "RESOURCE_NAME_INVALID"),
        ({"name": "bots/../blocks/a"}, "RESOURCE_NAME_INVALID"),
        ({"name": "bots/main/memories/a"}, "RESOURCE_NAME_INVALID"),
        ({"name": PERSONA, "text": "a\0b"}, "FIELD_INVALID"),
        ({"name": PERSONA, "description": "x" * 513}, "FIELD_INVALID"),
        ({"name": PERSONA, "max_characters": 32_001}, "FIELD_INVALID"),
        ({"name": PERSONA, "max_characters": -1}, "FIELD_INVALID"),
        ({"name": PERSONA, "text": "x" * 4_001}, "BLOCK_TEXT_TOO_LONG"),
        ({"name": PERSONA, "etag": "x" * 129}, "FIELD_INVALID"),
    ],
)
async def test_bad_blocks_are_refused(world: World, fields, reason: str):
    call = world.stub.PutBlock(pb.PutBlockRequest(block=block_pb2.Block(**fields)))
    assert await refusal(call) == ("INVALID_ARGUMENT", reason)
    assert not (await listed(world)).blocks
