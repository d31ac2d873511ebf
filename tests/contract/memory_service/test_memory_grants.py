"""A grant lends a slice until a time, everything done through it is on record, and what is not lent does not exist."""

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from memory_world import World, draft, pb, put_request, refusal, refused

from mobot.memory.v1 import block_pb2, grant_pb2, memory_pb2

FACT, NOTE = memory_pb2.MEMORY_KIND_FACT, memory_pb2.MEMORY_KIND_NOTE
READ, WRITE = grant_pb2.GRANT_ACCESS_READ, grant_pb2.GRANT_ACCESS_WRITE
MISSING = ("NOT_FOUND", "MEMORY_NOT_FOUND")
INVALID = ("INVALID_ARGUMENT", "FIELD_INVALID")


def in_days(world: World, days: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(world.clock.now() + timedelta(days=days))
    return stamp


def grant_of(
    world: World, *, grantee: str = "bots/friend", access: int = READ, days: float = 1, **part
) -> grant_pb2.Grant:
    return grant_pb2.Grant(
        grantee=grantee,
        access=grant_pb2.GrantAccess.ValueType(access),
        slice=grant_pb2.GrantSlice(**part),
        expire_time=in_days(world, days),
    )


async def lend(world: World, *, grant_id: str = "g1", **fields) -> grant_pb2.Grant:
    request = pb.CreateGrantRequest(parent="bots/main", grant=grant_of(world, **fields), grant_id=grant_id)
    return (await world.acting("bots/main").CreateGrant(request)).grant


async def accesses(world: World, **fields) -> list[grant_pb2.AccessRecord]:
    response = await world.acting("bots/main").ListAccesses(pb.ListAccessesRequest(parent="bots/main", **fields))
    return list(response.accesses)


async def fill(world: World) -> None:
    """m1 is a fact about tea, m2 a note about tea, m3 a tagged note, m4 a note of a session."""
    await world.put("tea is a fact", memory_id="m1", kind=FACT)
    await world.put("tea is a note", memory_id="m2")
    await world.put("tea has a tag", memory_id="m3", tags=["shared", "other"])
    source = memory_pb2.Provenance(session="bots/main/sessions/s1")
    await world.put("tea of a session", memory_id="m4", provenance=source)


SLICES = [
    ({"all_memories": True}, {"m1", "m2", "m3", "m4"}),
    ({"kinds": [FACT]}, {"m1"}),
    ({"tags": ["shared", "unknown"]}, {"m3"}),
    ({"sessions": ["bots/main/sessions/s1"]}, {"m4"}),
    ({"kinds": [FACT], "tags": ["shared"]}, set()),
    ({"kinds": [NOTE], "tags": ["shared"]}, {"m3"}),
    ({"blocks": ["bots/main/blocks/persona"]}, set()),
]


@pytest.mark.parametrize(("part", "seen"), SLICES, ids=[",".join(part) for part, _ in SLICES])
async def test_the_grantee_sees_the_slice_and_nothing_else(world: World, part, seen):
    await fill(world)
    await world.put_block("persona", text="secret")
    await lend(world, **part)
    friend = world.acting("bots/friend", root=False)
    listed = (await friend.ListMemories(pb.ListMemoriesRequest(parent="bots/main", show_deleted=True))).memories
    hits = (await friend.SearchMemories(pb.SearchMemoriesRequest(parent="bots/main", query="tea"))).hits
    assert {memory.name.rpartition("/")[2] for memory in listed} == seen
    assert {hit.memory.name.rpartition("/")[2] for hit in hits} == seen
    assert {memory.grant for memory in [*listed, *(hit.memory for hit in hits)]} <= {"bots/main/grants/g1"}
    for memory_id in ("m1", "m2", "m3", "m4"):
        call = friend.GetMemory(pb.GetMemoryRequest(name=f"bots/main/memories/{memory_id}"))
        if memory_id in seen:
            assert (await call).memory.grant == "bots/main/grants/g1"
        else:
            assert await refusal(call) == MISSING
    blocks = (await friend.ListBlocks(pb.ListBlocksRequest(parent="bots/main"))).blocks
    assert [block.text for block in blocks] == (["secret"] if "blocks" in part else [])


async def test_a_search_through_a_grant_does_not_tell_whose_words_are_not_lent(world: World):
    await world.put("tea with milk", memory_id="m1", tags=["shared"], author="Ana")
    await world.put("nothing about it", memory_id="m2", author="Zacharias")
    await lend(world, tags=["shared"])
    friend = world.acting("bots/friend", root=False)

    async def score(query: str) -> float:
        request = pb.SearchMemoriesRequest(parent="bots/main", query=query, mode=pb.SEARCH_MODE_TEXT)
        (hit,) = (await friend.SearchMemories(request)).hits
        return hit.score

    assert await world.found("tea, Zacharias") == ["tea with milk"]  # the owner's search, which remembers all authors
    assert await score("tea, Zacharias") == await score("tea, Nobody") == 1.0
    request = pb.SearchMemoriesRequest(parent="bots/main", query="tea, says Ana", explain=True)
    assert (await friend.SearchMemories(request)).hits[0].parts.matched_author == "Ana"


async def test_what_is_not_lent_is_answered_like_what_is_missing(world: World):
    await fill(world)
    await world.put_block("persona", text="secret")
    await lend(world, access=WRITE, kinds=[FACT])
    friend = world.acting("bots/friend")
    for name, block in (("m2", "persona"), ("none", "ghost")):
        memory, persona = f"bots/main/memories/{name}", f"bots/main/blocks/{block}"
        changed = memory_pb2.Memory(name=memory, text="x")
        errors = [
            await refused(friend.GetMemory(pb.GetMemoryRequest(name=memory))),
            await refused(friend.UpdateMemory(pb.UpdateMemoryRequest(memory=changed))),
            await refused(friend.DeleteMemory(pb.DeleteMemoryRequest(name=memory))),
            await refused(friend.UndeleteMemory(pb.UndeleteMemoryRequest(name=memory))),
            await refused(friend.ListMemoryVersions(pb.ListMemoryVersionsRequest(parent=memory))),
            await refused(friend.RestoreMemoryVersion(pb.RestoreMemoryVersionRequest(name=f"{memory}/versions/1"))),
        ]
        for error in errors:
            assert (error.code, error.reason, error.message) == (*MISSING, f"there is no {memory}")
        blocks = [
            await refused(friend.GetBlock(pb.GetBlockRequest(name=persona))),
            await refused(friend.PutBlock(pb.PutBlockRequest(block=block_pb2.Block(name=persona, text="x")))),
            await refused(friend.DeleteBlock(pb.DeleteBlockRequest(name=persona))),
        ]
        for error in blocks:
            assert (error.code, error.message) == ("NOT_FOUND", f"there is no {persona}")
    assert (await world.get("bots/main/memories/m2")).text == "tea is a note"


async def test_a_grant_ends_at_its_time(world: World):
    await fill(world)
    await lend(world, all_memories=True, days=1)
    friend = world.acting("bots/friend")
    await friend.GetMemory(pb.GetMemoryRequest(name="bots/main/memories/m1"))
    world.pass_time(86_400)
    assert await refusal(friend.GetMemory(pb.GetMemoryRequest(name="bots/main/memories/m1"))) == MISSING
    assert not (await friend.ListMemories(pb.ListMemoriesRequest(parent="bots/main"))).memories
    states = [grant_pb2.GRANT_STATE_EXPIRED]
    owner = world.acting("bots/main")
    assert not (await owner.ListGrants(pb.ListGrantsRequest(parent="bots/main"))).grants
    (grant,) = (await owner.ListGrants(pb.ListGrantsRequest(parent="bots/main", states=states))).grants
    assert (grant.state, grant.access_count) == (grant_pb2.GRANT_STATE_EXPIRED, 1)
    call = owner.RevokeGrant(pb.RevokeGrantRequest(name=grant.name))
    assert await refusal(call) == ("FAILED_PRECONDITION", "GRANT_ENDED")


async def test_a_revoked_grant_serves_nothing_more(world: World):
    await fill(world)
    grant = await lend(world, access=WRITE, all_memories=True)
    assert ((await world.stats()).grant_count, (await world.stats("bots/-")).grant_count) == (1, 1)
    friend, owner = world.acting("bots/friend"), world.acting("bots/main")
    revoked = (await owner.RevokeGrant(pb.RevokeGrantRequest(name=grant.name, request_id="r"))).grant
    assert (revoked.state, revoked.HasField("revoke_time")) == (grant_pb2.GRANT_STATE_REVOKED, True)
    assert (await owner.RevokeGrant(pb.RevokeGrantRequest(name=grant.name, request_id="r"))).grant == revoked
    assert await refusal(friend.GetMemory(pb.GetMemoryRequest(name="bots/main/memories/m1"))) == MISSING
    assert await refusal(friend.PutMemory(put_request("planted"))) == MISSING
    assert ((await world.stats()).grant_count, (await world.stats("bots/-")).grant_count) == (0, 0)
    call = owner.RevokeGrant(pb.RevokeGrantRequest(name=grant.name))
    assert await refusal(call) == ("FAILED_PRECONDITION", "GRANT_ENDED")


async def test_a_grant_to_read_writes_nothing(world: World):
    await fill(world)
    await lend(world, all_memories=True)
    friend = world.acting("bots/friend")
    changed = memory_pb2.Memory(name="bots/main/memories/m1", text="x")
    for call in (
        friend.PutMemory(put_request("planted")),
        friend.BatchPutMemories(pb.BatchPutMemoriesRequest(parent="bots/main", drafts=[draft("planted")])),
        friend.UpdateMemory(pb.UpdateMemoryRequest(memory=changed)),
        friend.DeleteMemory(pb.DeleteMemoryRequest(name=changed.name)),
    ):
        assert await refusal(call) == MISSING
    await friend.SearchMemories(pb.SearchMemoriesRequest(parent="bots/main", query="tea", record_use=True))
    assert (await world.get("bots/main/memories/m1")).use_count == 0
    assert (await world.stats()).memory_count == 4


async def test_what_is_written_through_a_grant_lies_in_its_slice(world: World):
    await fill(world)
    await lend(world, access=WRITE, kinds=[FACT])
    friend = world.acting("bots/friend", root=False)
    put = (await friend.PutMemory(put_request("milk is white", kind=FACT))).result
    assert (put.memory.grant, put.memory.provenance.principal) == ("bots/main/grants/g1", "bots/friend")
    assert await refusal(friend.PutMemory(put_request("milk is a note"))) == INVALID
    assert await refusal(friend.PutMemory(put_request("mine", memory_id="m9", kind=FACT))) == INVALID
    batch = pb.BatchPutMemoriesRequest(parent="bots/main", drafts=[draft("a note"), draft("a fact", kind=FACT)])
    results = (await friend.BatchPutMemories(batch)).results
    assert [result.refusal.reason for result in results] == ["FIELD_INVALID", ""]
    update = pb.UpdateMemoryRequest(memory=memory_pb2.Memory(name=put.memory.name, kind=NOTE))
    assert await refusal(friend.UpdateMemory(update)) == INVALID
    update.memory.kind, update.memory.text = FACT, "milk is sour"
    assert (await friend.UpdateMemory(update)).memory.text == "milk is sour"
    purge = pb.DeleteMemoryRequest(name=put.memory.name, purge=True)
    assert await refusal(friend.DeleteMemory(purge)) == INVALID
    deleted = (await friend.DeleteMemory(pb.DeleteMemoryRequest(name=put.memory.name))).memory
    assert deleted.HasField("delete_time")
    assert await refusal(friend.GetMemory(pb.GetMemoryRequest(name=put.memory.name))) == MISSING
    assert (await world.undelete(put.memory.name)).text == "milk is sour"


async def test_a_put_through_a_grant_does_not_tell_what_else_is_remembered(world: World):
    await fill(world)
    await lend(world, access=WRITE, kinds=[FACT])
    friend = world.acting("bots/friend")
    for dedupe in (memory_pb2.DEDUPE_MODE_TOUCH, memory_pb2.DEDUPE_MODE_REJECT):
        text = f"tea is a {'note' if dedupe == memory_pb2.DEDUPE_MODE_TOUCH else 'fact of a kind'}"
        result = (await friend.PutMemory(put_request(text, kind=FACT, dedupe=dedupe))).result
        assert result.outcome == memory_pb2.PUT_OUTCOME_CREATED
    touched = (await friend.PutMemory(put_request("tea is a fact", kind=FACT))).result
    assert (touched.outcome, touched.memory.name) == (memory_pb2.PUT_OUTCOME_TOUCHED, "bots/main/memories/m1")
    assert (await world.get("bots/main/memories/m2")).use_count == 0


async def test_every_access_through_a_grant_is_on_record(world: World):
    await fill(world)
    await world.put_block("persona", text="secret")
    await lend(world, access=WRITE, kinds=[FACT], blocks=["bots/main/blocks/persona"])
    friend = world.acting("bots/friend", root=False)
    fact, persona = "bots/main/memories/m1", "bots/main/blocks/persona"
    await friend.GetMemory(pb.GetMemoryRequest(name=fact))
    await friend.ListMemories(pb.ListMemoriesRequest(parent="bots/main"))
    await friend.SearchMemories(pb.SearchMemoriesRequest(parent="bots/main", query="tea"))
    await friend.SearchMemories(pb.SearchMemoriesRequest(parent="bots/main", query="nothing"))
    put = (await friend.PutMemory(put_request("milk", kind=FACT))).result.memory.name
    await friend.UpdateMemory(pb.UpdateMemoryRequest(memory=memory_pb2.Memory(name=put, text="cream")))
    await friend.DeleteMemory(pb.DeleteMemoryRequest(name=put))
    await friend.GetBlock(pb.GetBlockRequest(name=persona))
    await friend.PutBlock(pb.PutBlockRequest(block=block_pb2.Block(name=persona, text="changed")))
    await friend.ListBlocks(pb.ListBlocksRequest(parent="bots/main"))
    batch = pb.BatchPutMemoriesRequest(parent="bots/main", drafts=[draft(f"f{n}", kind=FACT) for n in range(120)])
    await friend.BatchPutMemories(batch)
    seen = [(each.method, list(each.resources), each.resource_count) for each in reversed(await accesses(world))]
    assert seen[:10] == [
        ("GetMemory", [fact], 1),
        ("ListMemories", [fact], 1),
        ("SearchMemories", [fact], 1),
        ("SearchMemories", [], 0),
        ("PutMemory", [put], 1),
        ("UpdateMemory", [put], 1),
        ("DeleteMemory", [put], 1),
        ("GetBlock", [persona], 1),
        ("PutBlock", [persona], 1),
        ("ListBlocks", [persona], 1),
    ]
    assert (seen[10][0], len(seen[10][1]), seen[10][2]) == ("BatchPutMemories", 100, 120)
    assert len(seen) == 11
    records = await accesses(world)
    assert {(each.grant, each.grantee) for each in records} == {("bots/main/grants/g1", "bots/friend")}
    assert {each.access_time.seconds for each in records} == {int(world.clock.now().timestamp())}
    (grant,) = (await world.stub.ListGrants(pb.ListGrantsRequest(parent="bots/main"))).grants
    assert grant.access_count == 11
    theirs = await friend.ListAccesses(pb.ListAccessesRequest(parent="bots/main"))
    assert not theirs.accesses


async def test_accesses_are_selected_paged_and_forgotten_in_the_end(world: World):
    await fill(world)
    await lend(world, all_memories=True, days=366)
    await lend(world, grant_id="g2", grantee="bots/other", all_memories=True, days=366)
    for number in range(5):
        world.pass_time(60)
        who = "bots/other" if number % 2 else "bots/friend"
        await world.acting(who).GetMemory(pb.GetMemoryRequest(name="bots/main/memories/m1"))
    times = [each.access_time for each in await accesses(world)]
    assert len(times) == 5
    assert len(await accesses(world, grant="bots/main/grants/g2")) == 2
    assert len(await accesses(world, grantee="bots/friend")) == 3
    assert await accesses(world, grant="bots/else/grants/g2") == []
    assert len(await accesses(world, start_time=times[2])) == 3
    assert len(await accesses(world, end_time=times[2])) == 2
    owner, token, paged = world.acting("bots/main"), "", []
    while True:
        request = pb.ListAccessesRequest(parent="bots/main", page_size=2, page_token=token)
        response = await owner.ListAccesses(request)
        paged += response.accesses
        token = response.next_page_token
        if not token:
            break
    assert paged == await accesses(world)


async def test_what_is_lent_is_found_and_listed_among_ones_own_when_asked(world: World):
    await fill(world)
    await world.put_block("project", text="theirs", order=-5)
    await lend(world, kinds=[FACT], blocks=["bots/main/blocks/project"])
    await world.put("my own tea", bot="friend", memory_id="own")
    await world.put_block("persona", text="mine", bot="friend")
    friend = world.acting("bots/friend")
    search = pb.SearchMemoriesRequest(parent="bots/friend", query="tea")
    assert [hit.memory.text for hit in (await friend.SearchMemories(search)).hits] == ["my own tea"]
    search.include_granted = True
    hits = (await friend.SearchMemories(search)).hits
    assert {(hit.memory.text, hit.memory.grant) for hit in hits} == {
        ("my own tea", ""),
        ("tea is a fact", "bots/main/grants/g1"),
    }
    search.page_size = 1
    first = await friend.SearchMemories(search)
    search.page_token = first.next_page_token
    second = await friend.SearchMemories(search)
    assert [first.hits[0].memory, second.hits[0].memory] == [hit.memory for hit in hits]
    assert not second.next_page_token
    blocks = pb.ListBlocksRequest(parent="bots/friend", include_granted=True, page_size=1)
    page = await friend.ListBlocks(blocks)
    assert [(block.text, block.grant) for block in page.blocks] == [("mine", "")]
    blocks.page_token = page.next_page_token
    page = await friend.ListBlocks(blocks)
    assert [(block.text, block.grant) for block in page.blocks] == [("theirs", "bots/main/grants/g1")]
    assert not page.next_page_token


async def test_a_lent_block_is_changed_with_its_etag_and_its_past_is_not_lent(world: World):
    block = await world.put_block("project", text="one")
    await world.put_block("locked", text="one", read_only=True)
    await lend(world, access=WRITE, blocks=["bots/main/blocks/project", "bots/main/blocks/locked"])
    friend = world.acting("bots/friend")
    changed = block_pb2.Block(name=block.name, text="two", etag=block.etag)
    assert (await friend.PutBlock(pb.PutBlockRequest(block=changed))).block.grant == "bots/main/grants/g1"
    assert await refusal(friend.PutBlock(pb.PutBlockRequest(block=changed))) == ("ABORTED", "ETAG_MISMATCH")
    locked = block_pb2.Block(name="bots/main/blocks/locked", text="two")
    assert await refusal(friend.PutBlock(pb.PutBlockRequest(block=locked))) == (
        "FAILED_PRECONDITION",
        "BLOCK_READ_ONLY",
    )
    gone = ("NOT_FOUND", "BLOCK_NOT_FOUND")
    assert await refusal(friend.GetBlock(pb.GetBlockRequest(name=block.name, version=1))) == gone
    assert await refusal(friend.ListBlockVersions(pb.ListBlockVersionsRequest(parent=block.name))) == gone
    assert await refusal(friend.DeleteBlock(pb.DeleteBlockRequest(name=block.name))) == gone
    await world.stub.DeleteBlock(pb.DeleteBlockRequest(name=block.name))
    changed.ClearField("etag")
    assert await refusal(friend.PutBlock(pb.PutBlockRequest(block=changed))) == gone


async def test_grants_outlive_a_restart_and_are_listed_from_both_sides(world: World):
    await fill(world)
    first = await lend(world, all_memories=True)
    world.pass_time(1)
    second = await lend(world, grant_id="g2", grantee="bots/other", tags=["b", "a"])
    await world.restart()
    owner, friend = world.acting("bots/main"), world.acting("bots/friend")
    given = (await owner.ListGrants(pb.ListGrantsRequest(parent="bots/main"))).grants
    assert list(given) == [second, first]
    received = pb.ListGrantsRequest(parent="bots/friend", direction=pb.GRANT_DIRECTION_RECEIVED)
    assert list((await friend.ListGrants(received)).grants) == [first]
    assert not (await friend.ListGrants(pb.ListGrantsRequest(parent="bots/main"))).grants
    assert (await refused(friend.RevokeGrant(pb.RevokeGrantRequest(name=first.name)))).reason == "GRANT_NOT_FOUND"
    assert (await friend.GetMemory(pb.GetMemoryRequest(name="bots/main/memories/m1"))).memory.text == "tea is a fact"


async def test_only_the_owner_and_operators_give(world: World):
    request = pb.CreateGrantRequest(parent="bots/main", grant=grant_of(world, grantee="bots/x", all_memories=True))
    assert await refusal(world.acting("bots/friend").CreateGrant(request)) == MISSING
    made = (await world.acting("operators/ana").CreateGrant(request)).grant
    assert made.principal == "operators/ana"
    assert made.name.startswith("bots/main/grants/")
    request.request_id = "r"
    twice = [(await world.stub.CreateGrant(request)).grant for _ in range(2)]
    assert twice[0] == twice[1]
    request.request_id, request.grant_id = "", made.name.rpartition("/")[2]
    assert await refusal(world.stub.CreateGrant(request)) == ("ALREADY_EXISTS", "GRANT_ALREADY_EXISTS")


BAD_GRANTS = {
    "grantee": {"grantee": "bots/main", "all_memories": True},
    "no access": {"access": 0, "all_memories": True},
    "unknown access": {"access": 99, "all_memories": True},
    "empty slice": {},
    "all and more": {"all_memories": True, "kinds": [FACT]},
    "unknown kind": {"kinds": [99]},
    "past": {"all_memories": True, "days": -1},
    "now": {"all_memories": True, "days": 0},
    "too long": {"all_memories": True, "days": 367},
    "another's block": {"blocks": ["bots/other/blocks/b"]},
    "too many tags": {"tags": [f"t{number}" for number in range(33)]},
    "empty tag": {"tags": [""]},
}


@pytest.mark.parametrize("fields", BAD_GRANTS.values(), ids=BAD_GRANTS)
async def test_a_bad_grant_is_refused(world: World, fields):
    request = pb.CreateGrantRequest(parent="bots/main", grant=grant_of(world, **fields))
    assert await refusal(world.stub.CreateGrant(request)) == INVALID


async def test_a_grant_of_a_block_that_is_not_there_is_refused(world: World):
    request = pb.CreateGrantRequest(parent="bots/main", grant=grant_of(world, blocks=["bots/main/blocks/ghost"]))
    assert await refusal(world.stub.CreateGrant(request)) == ("NOT_FOUND", "BLOCK_NOT_FOUND")
    for name in ("bots/main/grants/", "bots/main/grants/A", "bots/main/grants/x' OR 1=1 --", "grants/x"):
        call = world.stub.RevokeGrant(pb.RevokeGrantRequest(name=name))
        assert await refusal(call) == ("INVALID_ARGUMENT", "RESOURCE_NAME_INVALID")
