"""A bot's memory answers to that bot, to operators and to services; to anyone else it looks as if it did not exist."""

import pytest
from memory_world import World, draft, pb, put_request, refusal, refused

from mobot.memory.v1 import block_pb2, memory_pb2

M1 = "bots/main/memories/m1"
NONE = "bots/main/memories/none"
PERSONA = "bots/main/blocks/persona"
GHOST = "bots/main/blocks/ghost"


def named_calls(stub, memory: str, block: str):
    """Every call that names a memory or a block."""
    return {
        "get": stub.GetMemory(pb.GetMemoryRequest(name=memory)),
        "update": stub.UpdateMemory(pb.UpdateMemoryRequest(memory=memory_pb2.Memory(name=memory, text="x"))),
        "delete": stub.DeleteMemory(pb.DeleteMemoryRequest(name=memory)),
        "undelete": stub.UndeleteMemory(pb.UndeleteMemoryRequest(name=memory)),
        "versions": stub.ListMemoryVersions(pb.ListMemoryVersionsRequest(parent=memory)),
        "restore": stub.RestoreMemoryVersion(pb.RestoreMemoryVersionRequest(name=f"{memory}/versions/1")),
        "get block": stub.GetBlock(pb.GetBlockRequest(name=block)),
        "delete block": stub.DeleteBlock(pb.DeleteBlockRequest(name=block)),
        "block versions": stub.ListBlockVersions(pb.ListBlockVersionsRequest(parent=block)),
    }


@pytest.mark.parametrize("root", [True, False], ids=["named by root", "by its own token"])
async def test_what_is_anothers_is_answered_like_what_is_missing(world: World, root: bool):
    await world.put("secret", memory_id="m1")
    await world.put_block("persona", text="secret")
    other = world.acting("bots/other", root=root)
    present = named_calls(other, M1, PERSONA)
    missing = named_calls(world.stub, NONE, GHOST)
    for kind, call in present.items():
        theirs = await refused(call)
        ours = await refused(missing[kind])
        assert (theirs.code, theirs.reason, set(theirs.metadata)) == (ours.code, ours.reason, set(ours.metadata)), kind
        text = theirs.message.replace(M1, NONE).replace(PERSONA, GHOST)
        assert text == ours.message, kind
    assert (await world.get(M1)).text == "secret"


async def test_another_bots_lists_and_searches_are_those_of_an_empty_namespace(world: World):
    await world.put("secret tea", memory_id="m1")
    await world.put_block("persona", text="secret")
    other = world.acting("bots/other")
    for parent in ("bots/main", "bots/never-heard-of"):
        found = await other.SearchMemories(pb.SearchMemoriesRequest(parent=parent, query="tea", record_use=True))
        listed = await other.ListMemories(pb.ListMemoriesRequest(parent=parent, show_deleted=True))
        blocks = await other.ListBlocks(pb.ListBlocksRequest(parent=parent))
        stats = (await other.GetMemoryStats(pb.GetMemoryStatsRequest(name=parent))).stats
        assert (list(found.hits), list(listed.memories), list(blocks.blocks)) == ([], [], [])
        assert {found.as_of, listed.as_of, blocks.as_of, stats.as_of} == {"r0"}
        assert found.report.vector_backlog_count == 0
        assert (stats.memory_count, stats.block_count, stats.text_bytes, stats.bot_count) == (0, 0, 0, 0)
    assert (await world.get(M1)).use_count == 0


async def test_nobody_writes_into_another_bots_memory(world: World):
    other = world.acting("bots/other")
    put = other.PutMemory(put_request("planted"))
    batch = other.BatchPutMemories(pb.BatchPutMemoriesRequest(parent="bots/main", drafts=[draft("planted")]))
    block = other.PutBlock(pb.PutBlockRequest(block=block_pb2.Block(name=PERSONA, text="planted")))
    assert await refusal(put) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert await refusal(batch) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert await refusal(block) == ("NOT_FOUND", "BLOCK_NOT_FOUND")
    assert (await world.stats("bots/-")).memory_count == 0


async def test_a_bot_has_its_own_memory(world: World):
    mine = world.acting("bots/main", root=False)
    memory = (await mine.PutMemory(put_request("tea"))).result.memory
    assert memory.provenance.principal == "bots/main"
    assert (await mine.GetMemory(pb.GetMemoryRequest(name=memory.name))).memory == memory
    response = await mine.SearchMemories(pb.SearchMemoriesRequest(parent="bots/main", query="tea"))
    assert [hit.memory for hit in response.hits] == [memory]


@pytest.mark.parametrize("actor", ["operators/ana", "services/router"])
async def test_operators_and_services_reach_every_memory(world: World, actor: str):
    await world.put("tea", memory_id="m1")
    trusted = world.acting(actor, root=False)
    assert (await trusted.GetMemory(pb.GetMemoryRequest(name=M1))).memory.text == "tea"
    assert (await trusted.GetMemoryStats(pb.GetMemoryStatsRequest(name="bots/-"))).stats.memory_count == 1


async def test_a_bot_does_not_see_the_figures_of_all(world: World):
    call = world.acting("bots/main").GetMemoryStats(pb.GetMemoryStatsRequest(name="bots/-"))
    assert await refusal(call) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


@pytest.mark.parametrize("actor", ["workers/w1", "bots/", "main", "Operators/x", "bot/main"])
async def test_who_is_neither_bot_nor_operator_nor_service_has_no_memory(world: World, actor: str):
    stranger = world.acting(actor, root=False)
    for call in (
        stranger.ListMemories(pb.ListMemoriesRequest(parent="bots/main")),
        stranger.PutMemory(put_request("tea")),
        stranger.GetMemory(pb.GetMemoryRequest(name=M1)),
    ):
        assert await refusal(call) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_a_bots_token_is_not_for_acting_as_another(world: World):
    from chassis.channel import Dialer
    from chassis.identity import mint_token
    from mobot.memory.v1 import memory_service_pb2_grpc

    dialer = Dialer({"memory": world.target}, token=mint_token("secret-of-the-tests", "bots/other"), actor="bots/main")
    assert world.host is not None
    dialer.add_handlers(world.host.local_handlers)
    world.dialers.append(dialer)
    stub = memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory"))
    call = stub.ListMemories(pb.ListMemoriesRequest(parent="bots/main"))
    assert await refusal(call) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_a_session_of_another_bot_may_be_named_as_source_but_opens_nothing(world: World):
    provenance = memory_pb2.Provenance(session="bots/other/sessions/s1")
    memory = await world.put("tea", provenance=provenance)
    assert memory.provenance.session == "bots/other/sessions/s1"
    other = world.acting("bots/other")
    assert not (await other.ListMemories(pb.ListMemoriesRequest(parent="bots/main"))).memories
