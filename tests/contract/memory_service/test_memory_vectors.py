"""Searching by meaning over the wire: vectors follow, modes, parts of scores, re-indexing, and what is refused.

The embedder is `hash`: texts that share words are near to one another, and nothing is loaded.
"""

import asyncio
import json

import pytest
from memory_world import World, pb, put_request, refusal, refused

from mobot.memory.v1 import memory_pb2, operation_pb2

Memory = memory_pb2.Memory
PATIENCE_S = 60


@pytest.fixture
async def vectors(world: World) -> World:
    await world.restart(embedder="hash", vector_poll_s=0.05)
    return world


async def embedded(world: World, name: str = "bots/main") -> pb.MemoryStats:
    """The figures once no memory waits for a vector."""
    async with asyncio.timeout(PATIENCE_S):
        while (stats := await world.stats(name)).vector_backlog_count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return stats


async def ended(world: World, operation: operation_pb2.Operation) -> operation_pb2.Operation:
    async with asyncio.timeout(PATIENCE_S):
        while operation.state in (operation_pb2.OPERATION_STATE_PENDING, operation_pb2.OPERATION_STATE_RUNNING):
            await asyncio.sleep(0.01)
            operation = (await world.stub.GetOperation(pb.GetOperationRequest(name=operation.name))).operation
    return operation


async def reindex(world: World, **fields) -> operation_pb2.Operation:
    request = pb.ReindexNamespaceRequest(name="bots/main", **fields)
    return await ended(world, (await world.stub.ReindexNamespace(request)).operation)


async def test_a_memory_is_found_by_word_at_once_and_by_meaning_soon(vectors: World):
    memory = await vectors.put("green tea in the morning")
    assert memory.vector_state == memory_pb2.VECTOR_STATE_PENDING
    assert await vectors.found("tea") == ["green tea in the morning"]
    stats = await embedded(vectors)
    assert (await vectors.get(memory.name)).vector_state == memory_pb2.VECTOR_STATE_READY
    assert stats.embedder.name == stats.configured_embedder.name == "hash"
    assert (stats.vector_bytes, stats.shape) == (4 * 64, pb.RETRIEVAL_SHAPE_NOTES)
    report = (await vectors.search("tea")).report
    assert (report.mode, report.vector_backlog_count, list(report.notes)) == (pb.SEARCH_MODE_HYBRID, 0, [])
    assert ((await vectors.stats()).cache_bytes > 0) == vectors.on_sqlite  # PostgreSQL holds the vectors itself


async def test_modes_differ_in_what_they_find(vectors: World):
    first = await vectors.put("green tea with honey")
    await vectors.put("green tea with milk")
    await vectors.put("a red car")
    await embedded(vectors)
    assert set(await vectors.found("car", mode=pb.SEARCH_MODE_TEXT)) == {"a red car"}
    by_meaning = await vectors.found("green tea honey", mode=pb.SEARCH_MODE_VECTOR)
    assert by_meaning[0] == "green tea with honey"
    assert len(by_meaning) == 3
    similar = await vectors.found("", mode=pb.SEARCH_MODE_SIMILAR, similar_to=first.name)
    assert similar[0] == "green tea with milk"
    assert "green tea with honey" not in similar


async def test_the_parts_of_a_score_are_told(vectors: World):
    await vectors.put("she paints boats", author="Caroline", importance=1.0)
    await vectors.put("he paints houses", author="Bo", importance=0.0)
    await embedded(vectors)
    weights = pb.SearchWeights(recency=0.5, importance=0.5)
    response = await vectors.search("What does Caroline paint on boats?", explain=True, weights=weights)
    first = response.hits[0]
    parts = first.parts
    assert first.memory.author == parts.matched_author == "Caroline"
    assert first.score == pytest.approx(
        parts.text + parts.vector + parts.author + parts.recency + parts.importance, abs=1e-6
    )
    assert min(parts.text, parts.vector, parts.author, parts.recency, parts.importance, parts.bm25) > 0
    assert -1 <= parts.cosine <= 1
    assert (parts.text_rank, parts.vector_rank, list(parts.matched_terms)) == (1, 1, ["boats"])
    report = response.report
    assert (report.text_candidate_count, report.vector_candidate_count) == (1, 2)
    assert report.embedder.fingerprint == (await vectors.stats()).embedder.fingerprint


async def test_filters_come_before_meaning(vectors: World):
    for number in range(150):
        await vectors.stub.PutMemory(put_request(f"tea tea tea {number}"))
    await vectors.put("one tea among many other words", tags=["x"])
    await embedded(vectors)
    for mode in (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_VECTOR):
        found = await vectors.found("tea", mode=mode, filter=memory_pb2.MemoryFilter(any_tags=["x"]), page_size=1)
        assert found == ["one tea among many other words"], mode


async def test_what_is_changed_or_gone_is_found_by_meaning_no_more(vectors: World):
    memory = await vectors.put("tea with honey", memory_id="m1")
    other = await vectors.put("tea with milk")
    await embedded(vectors)
    changed = await vectors.update(Memory(name=memory.name, text="a red car"))
    assert changed.vector_state == memory_pb2.VECTOR_STATE_PENDING
    await embedded(vectors)
    meaning = {"mode": pb.SEARCH_MODE_VECTOR}
    assert (await vectors.found("red car", **meaning))[0] == "a red car"
    assert (await vectors.found("tea honey", **meaning))[0] == "tea with milk"
    await vectors.delete(memory.name)
    assert await vectors.found("red car", **meaning) == ["tea with milk"]
    await vectors.undelete(memory.name)
    await embedded(vectors)
    assert (await vectors.found("red car", **meaning))[0] == "a red car"
    await vectors.delete(memory.name, purge=True)
    await vectors.delete(other.name, purge=True)
    assert await vectors.found("red car", **meaning) == []
    assert (await vectors.stats()).vector_bytes == 0


async def test_a_restart_goes_on_with_what_was_left(world: World):
    for number in range(20):
        await world.put(f"tea number {number}")
    assert (await world.stats()).vector_backlog_count == 20
    await world.restart(embedder="hash", vector_batch=4)
    assert (await embedded(world)).vector_bytes == 20 * 4 * 64
    await world.restart()
    assert len(await world.found("tea", mode=pb.SEARCH_MODE_VECTOR, page_size=50)) == 20


async def test_a_query_that_the_embedder_refuses_goes_by_word_or_is_refused(world: World):
    status = 200

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        count = len(json.loads(await reader.readexactly(length))["input"])
        content = json.dumps({"data": [{"index": place, "embedding": [1, 2]} for place in range(count)]}).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        await world.restart(embedder="openai", embedding_url=url, embedding_dimension=2, vector_poll_s=0.05)
        await world.put("green tea")
        await embedded(world)
        status = 400
        assert await refusal(world.search("tea", mode=pb.SEARCH_MODE_VECTOR)) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        response = await world.search("tea")
        assert [hit.memory.text for hit in response.hits] == ["green tea"]
        assert "by word alone" in response.report.notes[0]


async def test_pages_of_both_follow_one_ranking(vectors: World):
    for number in range(23):
        await vectors.put("tea " + "and so on " * number)
    await embedded(vectors)
    everything = await vectors.found("tea", page_size=23)
    found: list[str] = []
    token = ""
    while True:
        response = await vectors.search("tea", page_size=5, page_token=token)
        found += [hit.memory.text for hit in response.hits]
        token = response.next_page_token
        if not token:
            break
    assert found == everything
    assert len(found) == 23


async def test_another_bots_memories_are_not_found_by_meaning(vectors: World):
    await vectors.put("green tea", bot="other")
    mine = await vectors.put("a red car")
    await embedded(vectors, "bots/-")
    for mode in (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_VECTOR):
        assert await vectors.found("green tea", mode=mode) in ([], ["a red car"])
    stranger = vectors.acting("bots/other")
    request = pb.SearchMemoriesRequest(parent="bots/main", mode=pb.SEARCH_MODE_SIMILAR, similar_to=mine.name)
    assert await refusal(stranger.SearchMemories(request)) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    request = pb.SearchMemoriesRequest(parent="bots/other", mode=pb.SEARCH_MODE_SIMILAR, similar_to=mine.name)
    assert await refusal(vectors.stub.SearchMemories(request)) == ("NOT_FOUND", "MEMORY_NOT_FOUND")


async def test_a_memory_without_a_vector_is_like_no_other_yet(world: World):
    await world.put("first")
    await world.restart(embedder="hash")
    await embedded(world)
    await world.restart(embedder="openai", embedding_url="http://127.0.0.1:9/v1", embedding_timeout_s=1)
    memory = await world.put("second")
    error = await refused(world.search("", mode=pb.SEARCH_MODE_SIMILAR, similar_to=memory.name))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "VECTOR_PENDING")
    assert error.retry_after_s is not None


async def test_vectors_of_two_embedders_are_never_mixed(world: World):
    await world.put("green tea")
    await world.restart(embedder="hash")
    await embedded(world)
    await world.restart(embedder="openai", embedding_url="http://127.0.0.1:9/v1", embedding_timeout_s=1)
    memory = await world.put("black tea")
    error = await refused(world.search("tea", mode=pb.SEARCH_MODE_VECTOR))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "EMBEDDER_MISMATCH")
    response = await world.search("tea")
    assert response.report.mode == pb.SEARCH_MODE_TEXT
    assert len(response.hits) == 2
    assert "re-index" in response.report.notes[0]
    assert (await world.get(memory.name)).vector_state == memory_pb2.VECTOR_STATE_PENDING
    stats = await world.stats()
    assert (stats.embedder.name, stats.configured_embedder.name) == ("hash", "openai")


async def test_a_reindex_changes_the_shape_while_the_old_vectors_serve(vectors: World):
    session = "bots/main/sessions/s1"
    for number, text in enumerate(("where do you live", "in Porto", "and your sister"), 1):
        await vectors.put(text, provenance=memory_pb2.Provenance(session=session, event_sequence=number))
    await embedded(vectors)
    before = (await vectors.search("where live", mode=pb.SEARCH_MODE_VECTOR, explain=True)).hits
    operation = await reindex(vectors, shape=pb.RETRIEVAL_SHAPE_DIALOGUE, include_text=True)
    assert operation.state == operation_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert (operation.done_count, operation.reindex.embedded_count, operation.reindex.failed_count) == (3, 3, 0)
    assert operation.reindex.old_embedder == operation.reindex.new_embedder
    assert (await vectors.stats()).shape == pb.RETRIEVAL_SHAPE_DIALOGUE
    after = (await vectors.search("where live", mode=pb.SEARCH_MODE_VECTOR, explain=True)).hits
    likeness = {hit.memory.text: hit.parts.cosine for hit in before}
    now = {hit.memory.text: hit.parts.cosine for hit in after}
    assert now["in Porto"] > likeness["in Porto"] + 0.1  # the turn before it speaks of living
    assert await vectors.found("porto") == ["in Porto"] or "in Porto" in await vectors.found("porto")
    await vectors.restart()
    assert (await vectors.stats()).vector_backlog_count == 0


async def test_another_embedder_takes_over_by_a_reindex(world: World):
    for number in range(12):
        await world.put(f"green tea {number}")
    await world.restart(embedder="hash")
    old = (await embedded(world)).embedder
    await world.restart(embedder="static", vector_batch=5)
    operation = await reindex(world)
    assert operation.state == operation_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert operation.reindex.old_embedder == old
    assert operation.reindex.new_embedder.name == "static"
    stats = await embedded(world)
    assert (stats.embedder.name, stats.vector_bytes) == ("static", 12 * 4 * 256)
    assert len(await world.found("a hot drink", mode=pb.SEARCH_MODE_VECTOR, page_size=20)) == 12


async def test_a_reindex_that_cannot_be_is_refused(vectors: World):
    request = pb.ReindexNamespaceRequest(name="bots/main", embedder="x")
    assert await refusal(vectors.stub.ReindexNamespace(request)) == ("INVALID_ARGUMENT", "EMBEDDER_UNKNOWN")
    request = pb.ReindexNamespaceRequest(name="bots/main", shape=77)
    assert await refusal(vectors.stub.ReindexNamespace(request)) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    stranger = vectors.acting("bots/other")
    request = pb.ReindexNamespaceRequest(name="bots/main")
    assert (await refusal(stranger.ReindexNamespace(request)))[0] == "NOT_FOUND"


async def test_a_cancelled_reindex_leaves_the_old_vectors(world: World):
    await world.put("green tea")
    await world.restart(embedder="hash")
    old = (await embedded(world)).embedder
    await world.restart(embedder="openai", embedding_url="http://127.0.0.1:9/v1", embedding_timeout_s=1)
    operation = (await world.stub.ReindexNamespace(pb.ReindexNamespaceRequest(name="bots/main"))).operation
    again = pb.ReindexNamespaceRequest(name="bots/main")
    assert await refusal(world.stub.ReindexNamespace(again)) == ("FAILED_PRECONDITION", "OPERATION_IN_PROGRESS")
    cancelled = await world.stub.CancelOperation(pb.CancelOperationRequest(name=operation.name))
    assert cancelled.operation.state == operation_pb2.OPERATION_STATE_CANCELLED
    await world.restart(embedder="hash")
    assert (await world.stats()).embedder == old
    assert await world.found("green tea", mode=pb.SEARCH_MODE_VECTOR) == ["green tea"]


async def test_erasing_takes_the_vectors_too(vectors: World):
    await vectors.put("green tea")
    await embedded(vectors)
    response = await vectors.stub.EraseNamespace(pb.EraseNamespaceRequest(name="bots/main", confirm="bots/main"))
    operation = await ended(vectors, response.operation)
    assert operation.state == operation_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert (operation.erase_certificate.vector_count, operation.erase_certificate.left_count) == (1, 0)
    assert await vectors.found("tea", mode=pb.SEARCH_MODE_VECTOR) == []
    await vectors.put("black tea")
    await embedded(vectors)
    assert await vectors.found("tea", mode=pb.SEARCH_MODE_VECTOR) == ["black tea"]
