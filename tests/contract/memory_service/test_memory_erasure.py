"""A bot's memory is erased wholly, with a certificate of what went."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from memory_world import World, pb, refusal

from mobot.memory.v1 import grant_pb2, operation_pb2

DONE, CANCELLED = operation_pb2.OPERATION_STATE_SUCCEEDED, operation_pb2.OPERATION_STATE_CANCELLED


async def erase(world: World, bot: str = "bots/main", **fields) -> operation_pb2.Operation:
    response = await world.stub.EraseNamespace(pb.EraseNamespaceRequest(name=bot, confirm=bot, **fields))
    return response.operation


async def ended(world: World, name: str) -> operation_pb2.Operation:
    async with asyncio.timeout(60):
        while True:
            operation = (await world.stub.GetOperation(pb.GetOperationRequest(name=name))).operation
            if operation.HasField("end_time"):
                return operation
            await asyncio.sleep(0.01)


async def fill(world: World, bot: str = "main") -> None:
    first = await world.put("tea with milk", bot=bot, memory_id="m1", tags=["t"], request_id=f"p1-{bot}")
    await world.put("coffee, deleted", bot=bot, memory_id="m2")
    first.text = "tea with sugar"
    await world.update(first, "text")
    await world.delete(f"bots/{bot}/memories/m2")
    await world.put("water, expired", bot=bot, memory_id="m3", expire_time=world.clock.now() + timedelta(seconds=5))
    await world.put_block("persona", bot=bot, text="one")
    await world.put_block("persona", bot=bot, text="two")
    grant = grant_pb2.Grant(
        grantee="bots/friend",
        access=grant_pb2.GRANT_ACCESS_READ,
        slice=grant_pb2.GrantSlice(all_memories=True),
        expire_time=world.clock.now() + timedelta(days=1),
    )
    await world.stub.CreateGrant(pb.CreateGrantRequest(parent=f"bots/{bot}", grant=grant, grant_id="g1"))
    await world.acting("bots/friend").GetMemory(pb.GetMemoryRequest(name=f"bots/{bot}/memories/m1"))
    world.pass_time(10)


async def test_everything_goes_and_the_certificate_says_what_went(world: World):
    await fill(world)
    await fill(world, "other")
    listed = await world.stub.ListMemories(pb.ListMemoriesRequest(parent="bots/main", show_deleted=True))
    uids = {memory.name: memory.uid for memory in listed.memories}
    operation = await ended(world, (await erase(world)).name)
    assert operation.state == DONE
    certificate = operation.erase_certificate
    assert certificate.bot == "bots/main"
    assert (certificate.memory_count, certificate.version_count, certificate.block_count) == (3, 3, 1)
    assert (certificate.grant_count, certificate.access_count, certificate.left_count) == (1, 1, 0)
    assert certificate.text_bytes == len("tea with sugar") + len("coffee, deleted") + len("water, expired")
    assert certificate.verify_time.seconds == int(world.clock.now().timestamp())
    assert len(uids) == 2
    assert (operation.done_count, operation.total_count, operation.attempt_count) == (6, 6, 1)
    for word in ("tea", "coffee", "water", "sugar", "milk"):
        assert await world.found(word) == []
        assert len(await world.found(word, bot="other")) == (word in ("tea", "sugar"))
    stats = await world.stats()
    assert (stats.memory_count, stats.deleted_count, stats.block_count, stats.version_count) == (0, 0, 0, 0)
    assert not (await world.stub.ListBlocks(pb.ListBlocksRequest(parent="bots/main"))).blocks
    states = [1, 2, 3]
    assert not (await world.stub.ListGrants(pb.ListGrantsRequest(parent="bots/main", states=states))).grants
    assert not (await world.stub.ListAccesses(pb.ListAccessesRequest(parent="bots/main"))).accesses
    missing = ("NOT_FOUND", "MEMORY_NOT_FOUND")
    for memory_id in ("m1", "m2", "m3"):
        assert await refusal(world.get(f"bots/main/memories/{memory_id}")) == missing
        assert await refusal(world.undelete(f"bots/main/memories/{memory_id}")) == missing


async def test_the_digest_is_over_what_went(world: World):
    made = [await world.put(f"text of {memory_id}", memory_id=memory_id) for memory_id in ("b", "a", "a-", "B")]
    block = await world.put_block("persona", text="one")
    lines = sorted(f"{each.name} {each.uid}\n" for each in [*made, block])
    certificate = (await ended(world, (await erase(world)).name)).erase_certificate
    assert certificate.digest == hashlib.sha256("".join(lines).encode()).hexdigest()


async def test_a_bot_remembers_anew_after_its_erasure(world: World):
    await fill(world)
    before = (await world.search("tea")).as_of
    await ended(world, (await erase(world)).name)
    assert (await world.search("tea")).as_of != before
    again = await world.put("tea with milk", memory_id="m1", request_id="p1-main")
    assert (again.version, again.use_count, again.text) == (1, 0, "tea with milk")
    assert await world.found("tea") == ["tea with milk"]
    assert (await world.stats()).memory_count == 1
    second = (await ended(world, (await erase(world)).name)).erase_certificate
    assert (second.memory_count, second.block_count) == (1, 0)


async def test_blocks_and_audit_stay_when_asked(world: World):
    await fill(world)
    operation = await erase(world, keep_blocks=True, keep_accesses=True)
    certificate = (await ended(world, operation.name)).erase_certificate
    assert (certificate.memory_count, certificate.block_count, certificate.access_count) == (3, 0, 0)
    (block,) = (await world.stub.ListBlocks(pb.ListBlocksRequest(parent="bots/main"))).blocks
    assert block.text == "two"
    assert len((await world.stub.ListAccesses(pb.ListAccessesRequest(parent="bots/main"))).accesses) == 1


async def test_erasing_nothing_is_no_error(world: World):
    operation = await ended(world, (await erase(world, "bots/never-heard-of")).name)
    assert (operation.state, operation.erase_certificate.memory_count) == (DONE, 0)
    empty = hashlib.sha256(b"").hexdigest()
    assert operation.erase_certificate.digest == empty


async def test_a_request_that_is_repeated_gives_the_same_operation(world: World):
    await fill(world)
    first = await erase(world, request_id="r")
    await ended(world, first.name)
    await world.put("tea")
    assert (await erase(world, request_id="r")).name == first.name
    assert await world.found("tea") == ["tea"]


BAD_CONFIRMATIONS = ["", "main", "bots/other", "bots/main "]


@pytest.mark.parametrize("confirm", BAD_CONFIRMATIONS)
async def test_an_erasure_is_confirmed_by_the_bots_name(world: World, confirm: str):
    await fill(world)
    call = world.stub.EraseNamespace(pb.EraseNamespaceRequest(name="bots/main", confirm=confirm))
    assert await refusal(call) == ("INVALID_ARGUMENT", "ERASE_NOT_CONFIRMED")
    assert await world.found("tea") == ["tea with sugar"]


async def test_nobody_erases_what_is_anothers(world: World):
    await fill(world)
    friend = world.acting("bots/friend", root=False)
    call = friend.EraseNamespace(pb.EraseNamespaceRequest(name="bots/main", confirm="bots/main"))
    assert await refusal(call) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    operation = await erase(world)
    gone = ("NOT_FOUND", "OPERATION_NOT_FOUND")
    assert await refusal(friend.GetOperation(pb.GetOperationRequest(name=operation.name))) == gone
    assert await refusal(friend.CancelOperation(pb.CancelOperationRequest(name=operation.name))) == gone
    assert not (await friend.ListOperations(pb.ListOperationsRequest(parent="bots/main"))).operations
    every = friend.ListOperations(pb.ListOperationsRequest(parent="bots/-"))
    assert await refusal(every) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    await ended(world, operation.name)
    mine = world.acting("bots/main", root=False)
    assert (await mine.GetOperation(pb.GetOperationRequest(name=operation.name))).operation.state == DONE


async def test_operations_are_listed_by_bot_kind_and_state(world: World):
    await fill(world)
    first = await ended(world, (await erase(world)).name)
    second = await ended(world, (await erase(world, "bots/other")).name)

    async def listed(parent: str, **fields) -> list[operation_pb2.Operation]:
        return list((await world.stub.ListOperations(pb.ListOperationsRequest(parent=parent, **fields))).operations)

    assert await listed("bots/-") == [second, first]
    assert await listed("bots/main") == [first]
    assert await listed("bots/main", states=[DONE], kinds=[operation_pb2.OPERATION_KIND_ERASE]) == [first]
    assert await listed("bots/main", states=[CANCELLED]) == []
    assert await listed("bots/main", kinds=[operation_pb2.OPERATION_KIND_REINDEX]) == []
    page = await world.stub.ListOperations(pb.ListOperationsRequest(parent="bots/-", page_size=1))
    assert list(page.operations) == [second]
    following = pb.ListOperationsRequest(parent="bots/-", page_size=1, page_token=page.next_page_token)
    assert list((await world.stub.ListOperations(following)).operations) == [first]
    bad = world.stub.ListOperations(pb.ListOperationsRequest(parent="bots/main", states=[99]))
    assert await refusal(bad) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    for name in ("bots/main/operations/", "bots/main/operations/../x", "operations/x", "bots/main/memories/x"):
        call = world.stub.GetOperation(pb.GetOperationRequest(name=name))
        assert await refusal(call) == ("INVALID_ARGUMENT", "RESOURCE_NAME_INVALID")
    call = world.stub.CancelOperation(pb.CancelOperationRequest(name=first.name))
    assert await refusal(call) == ("FAILED_PRECONDITION", "OPERATION_NOT_CANCELLABLE")
