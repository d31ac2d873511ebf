"""Vectors that go along with an export serve where they are imported, and nothing is embedded anew; others do not."""

import asyncio
import base64
import json
import math
import struct
from pathlib import Path

import pytest
from memory_world import World, pb

from chassis.clock import FakeClock
from mobot.memory.v1 import operation_pb2

PATIENCE_S = 60
BY_MEANING = {"mode": pb.SEARCH_MODE_VECTOR, "page_size": 1}
TEA, CAR = "green tea with honey", "a red car"


@pytest.fixture
async def vectors(world: World) -> World:
    await world.restart(embedder="hash", vector_poll_s=0.05)
    return world


async def settled(world: World, bot: str) -> pb.MemoryStats:
    """The figures of a bot once no memory of it waits for a vector."""
    async with asyncio.timeout(PATIENCE_S):
        while (stats := await world.stats(f"bots/{bot}")).vector_backlog_count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return stats


async def export(world: World, bot: str = "main", **fields) -> list[dict]:
    fields = {"include_vectors": True, **fields}
    request = pb.ExportMemoriesRequest(parent=f"bots/{bot}", format=pb.EXPORT_FORMAT_JSONL, **fields)
    return [json.loads(line) async for frame in world.stub.ExportMemories(request) for line in frame.lines]


async def take(world: World, records: list[dict], bot: str, **options) -> pb.ImportMemoriesResponse:
    async def frames():
        yield pb.ImportMemoriesRequest(options=pb.ImportOptions(parent=f"bots/{bot}", **options))
        for record in records:
            yield pb.ImportMemoriesRequest(lines=[json.dumps(record)])

    return await world.stub.ImportMemories(frames())


async def two_exported(world: World) -> list[dict]:
    for text in (TEA, CAR):
        await world.put(text)
    await settled(world, "main")
    return await export(world)


def of_memories(records: list[dict]) -> list[dict]:
    return [record for record in records if "memory" in record]


def exchanged(records: list[dict]) -> list[dict]:
    """Each of the two memories with the vector of the other, so that it shows whose vectors serve."""
    first, second = of_memories(records)
    first["vector"], second["vector"] = second["vector"], first["vector"]
    return records


async def test_vectors_go_along_and_serve(vectors: World):
    records = await two_exported(vectors)
    header = records[0]["header"]
    assert (header["embedder"]["name"], header["embedder"]["dimension"]) == ("hash", 64)
    assert all(len(base64.b64decode(record["vector"])) == 4 * 64 for record in of_memories(records))
    assert not any("vector" in record for record in records if "memory" not in record)
    report = await take(vectors, exchanged(records), "other")
    assert (report.created_count, report.failed_count) == (2, 0)
    stats = await vectors.stats("bots/other")
    assert (stats.vector_backlog_count, stats.embedder.name) == (0, "hash")
    assert await vectors.found("green tea", bot="other", **BY_MEANING) == [CAR]
    assert [record["vector"] for record in of_memories(await export(vectors, "other"))] == [
        record["vector"] for record in of_memories(records)
    ]
    assert (await take(vectors, records, "other")).unchanged_count == len(records)


async def test_without_asking_no_vector_is_exported(vectors: World):
    await two_exported(vectors)
    records = await export(vectors, include_vectors=False)
    assert "embedder" not in records[0]["header"]
    assert not any("vector" in record for record in records)


async def test_what_changed_since_has_the_vector_of_what_it_says_now_or_none(vectors: World):
    await two_exported(vectors)
    memory = await vectors.put("an oak")
    await settled(vectors, "main")
    memory.text = "an elm"
    await vectors.update(memory, "text")
    await settled(vectors, "main")
    await take(vectors, await export(vectors), "other")
    assert (await settled(vectors, "other")).vector_bytes == 3 * 4 * 64
    assert await vectors.found("elm", bot="other", **BY_MEANING) == ["an elm"]
    hits = (await vectors.search("an elm", bot="other", explain=True, **BY_MEANING)).hits
    assert hits[0].score == pytest.approx(1.0)


@pytest.mark.parametrize("change", ["another model", "another dimension", "no header", "the bot has another shape"])
async def test_vectors_that_do_not_fit_are_made_anew(vectors: World, change: str):
    records = exchanged(await two_exported(vectors))
    match change:
        case "another model":
            records[0]["header"]["embedder"]["fingerprint"] = "another-64"
        case "another dimension":
            records[0]["header"]["embedder"]["dimension"] = 2
            for record in of_memories(records):
                record["vector"] = base64.b64encode(struct.pack("<2f", 1, 0)).decode()
        case "no header":
            records = records[1:]
        case _:
            request = pb.ReindexNamespaceRequest(name="bots/other", shape=pb.RETRIEVAL_SHAPE_DIALOGUE)
            operation = (await vectors.stub.ReindexNamespace(request)).operation
            async with asyncio.timeout(PATIENCE_S):
                while operation.state != operation_pb2.OPERATION_STATE_SUCCEEDED:
                    await asyncio.sleep(0.01)
                    request = pb.GetOperationRequest(name=operation.name)
                    operation = (await vectors.stub.GetOperation(request)).operation
    report = await take(vectors, records, "other")
    assert (report.created_count, report.failed_count) == (2, 0)
    assert (await settled(vectors, "other")).vector_bytes == 2 * 4 * 64
    assert await vectors.found("green tea", bot="other", **BY_MEANING) == [TEA]


@pytest.mark.parametrize(
    "vector",
    [b"", b"\0" * 255, b"\0" * 256, struct.pack("<64f", *[math.nan] * 64), struct.pack("<64f", *[1.0] * 64)],
    ids=["none", "cut", "zero", "no number", "long"],
)
async def test_a_broken_vector_is_told_with_its_record_and_hinders_no_other(vectors: World, vector: bytes):
    records = await two_exported(vectors)
    of_memories(records)[0]["vector"] = base64.b64encode(vector).decode()
    report = await take(vectors, records, "other")
    broken = bool(vector)  # an empty one is as good as none
    assert (report.failed_count, report.created_count) == (broken, 2 - broken)
    for failure in report.failures:
        assert failure.refusal.metadata["field"] == "vector"
    assert (await settled(vectors, "other")).memory_count == 2 - broken
    assert await vectors.found("red car", bot="other", **BY_MEANING) == [CAR]


async def test_a_dry_run_leaves_no_vectors(vectors: World):
    records = await two_exported(vectors)
    assert (await take(vectors, records, "other", dry_run=True)).created_count == 2
    assert (await vectors.stats("bots/other")).vector_bytes == 0


async def test_an_embedder_without_a_name_is_refused(vectors: World):
    records = await two_exported(vectors)
    records[0]["header"]["embedder"]["name"] = ""
    report = await take(vectors, records[:1], "other")
    assert report.failures[0].refusal.metadata["field"] == "header.embedder.name"


async def test_vectors_go_from_one_engine_to_the_other_and_serve_there(
    tmp_path: Path, clock: FakeClock, sqlite_url: str, postgresql_url: str
):
    here = World("local", tmp_path, clock, {"database_url": sqlite_url, "embedder": "hash", "vector_poll_s": 0.05})
    await here.start()
    exported = exchanged(await two_exported(here))
    for url in (postgresql_url, sqlite_url):  # there, and back under another bot
        await here.restart(database_url=url)
        bot = "there" if url == postgresql_url else "back"
        report = await take(here, exported, bot)
        assert (report.created_count, report.failed_count) == (2, 0)
        assert (await here.stats(f"bots/{bot}")).vector_backlog_count == 0
        assert await here.found("green tea", bot=bot, **BY_MEANING) == [CAR]
        again = await export(here, bot)
        assert [record["vector"] for record in of_memories(again)] == [
            record["vector"] for record in of_memories(exported)
        ]
        exported = again
    await here.stop()
