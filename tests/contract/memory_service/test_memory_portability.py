"""What is exported is imported without loss, doing it again changes nothing, and bad lines are told one by one."""

import json
from datetime import timedelta

import pytest
from google.protobuf import json_format
from memory_world import World, pb, refusal, refused, struct

from mobot.memory.v1 import grant_pb2, memory_pb2

JSONL = pb.EXPORT_FORMAT_JSONL
SKIP, REPLACE, RENAME = pb.IMPORT_CONFLICT_SKIP, pb.IMPORT_CONFLICT_REPLACE, pb.IMPORT_CONFLICT_RENAME
WHOLE = {"include_versions": True, "include_deleted": True, "include_grants": True}


async def export(world: World, bot: str = "bots/main", actor: str | None = None, **fields) -> list[str]:
    stub = world.acting(actor) if actor else world.stub
    call = stub.ExportMemories(pb.ExportMemoriesRequest(parent=bot, format=JSONL, **fields))
    return [line async for frame in call for line in frame.lines]


async def take(world: World, lines: list[str], bot: str = "bots/main", actor: str | None = None, **options):
    stub = world.acting(actor) if actor else world.stub

    async def frames():
        yield pb.ImportMemoriesRequest(options=pb.ImportOptions(parent=bot, **options), lines=lines[:3])
        for start in range(3, len(lines), 1_000):
            yield pb.ImportMemoriesRequest(lines=lines[start : start + 1_000])

    return await stub.ImportMemories(frames())


def counts(report: pb.ImportMemoriesResponse) -> tuple[int, int, int, int, int]:
    """Created, updated, unchanged, skipped, failed."""
    assert report.read_count == sum(
        (
            report.created_count,
            report.updated_count,
            report.unchanged_count,
            report.skipped_count,
            report.failed_count,
        )
    )
    return (
        report.created_count,
        report.updated_count,
        report.unchanged_count,
        report.skipped_count,
        report.failed_count,
    )


async def fill(world: World) -> None:
    first = await world.put(
        "Zoë moved to 東京 🗼\n'); DROP TABLE memory; --",
        memory_id="m1",
        kind=memory_pb2.MEMORY_KIND_EPISODE,
        tags=["b", "a"],
        author="Zoë",
        importance=1 / 3,
        pinned=True,
        metadata=struct(a={"b": [1, 2.5, None, True]}, quote='"'),
        context="they spoke of flats",
        provenance=memory_pb2.Provenance(session="bots/main/sessions/s1", event_sequence=7, run_id="r"),
        event_time=world.clock.now(),
    )
    world.pass_time(5)
    first.text = "Zoë stayed"
    first = await world.update(first, "text")
    world.pass_time(5)
    await world.restore(first.name, 1)
    await world.put("deleted", memory_id="m2")
    await world.delete("bots/main/memories/m2")
    await world.put("touched", memory_id="m3", expire_time=world.clock.now() + timedelta(days=9))
    await world.put("touched")
    for text in ("one", "two 東京"):
        await world.put_block("persona", text=text, description="who", order=3, max_characters=100)
    grant = grant_pb2.Grant(
        grantee="bots/friend",
        access=grant_pb2.GRANT_ACCESS_READ,
        slice=grant_pb2.GrantSlice(kinds=[1], tags=["t"], blocks=["bots/main/blocks/persona"]),
        expire_time=world.clock.now() + timedelta(days=1),
        reason="why",
    )
    await world.stub.CreateGrant(pb.CreateGrantRequest(parent="bots/main", grant=grant, grant_id="g1"))


async def test_an_import_of_an_export_gives_the_same(world: World):
    await fill(world)
    lines = await export(world, **WHOLE)
    hits = await world.found("flats")
    await world.start_empty()
    report = await take(world, lines)
    assert counts(report) == (len(lines) - 1, 0, 1, 0, 0)
    assert report.applied
    assert await export(world, **WHOLE) == lines
    assert await world.found("flats") == hits
    assert await world.found("stayed") == []
    assert await world.found("deleted") == []
    assert (await world.undelete("bots/main/memories/m2")).text == "deleted"
    assert (await world.stats()).memory_count == 3
    assert (await world.get("bots/main/memories/m3")).use_count == 1


async def test_doing_it_again_changes_nothing(world: World):
    await fill(world)
    lines = await export(world, **WHOLE)
    before = (await world.search("flats")).as_of
    for conflict in (SKIP, REPLACE, RENAME):
        assert counts(await take(world, lines, conflict=conflict)) == (0, 0, len(lines), 0, 0)
    assert await export(world, **WHOLE) == lines
    assert (await world.search("flats")).as_of == before


async def test_a_memory_is_taken_to_another_bot(world: World):
    await fill(world)
    lines = await export(world, include_versions=True)
    report = await take(world, lines, "bots/other")
    assert report.failed_count == 0
    assert await world.found("flats", bot="other") == await world.found("flats")
    theirs = await world.get("bots/other/memories/m1")
    ours = await world.get("bots/main/memories/m1")
    assert (theirs.uid, theirs.text, theirs.version) == (ours.uid, ours.text, ours.version)
    assert len(await world.versions(theirs.name)) == 3


async def test_a_name_that_is_taken_is_skipped_replaced_or_renamed(world: World):
    await world.put("theirs", memory_id="m1")
    await world.put_block("persona", text="theirs")
    lines = await export(world, include_versions=True)
    await world.start_empty()
    await world.put("ours", memory_id="m1")
    await world.put_block("persona", text="ours")
    assert counts(await take(world, lines)) == (0, 0, 1, 4, 0)
    assert await world.listed() == ["ours"]
    assert counts(await take(world, lines, conflict=RENAME)) == (4, 0, 1, 0, 0)
    assert sorted(await world.listed()) == ["ours", "theirs"]
    assert counts(await take(world, lines, conflict=RENAME)) == (0, 0, 5, 0, 0)
    blocks = (await world.stub.ListBlocks(pb.ListBlocksRequest(parent="bots/main"))).blocks
    assert sorted(block.text for block in blocks) == ["ours", "theirs"]
    await world.start_empty()
    await world.put("ours", memory_id="m1")
    await world.put_block("persona", text="ours")
    assert counts(await take(world, lines, conflict=REPLACE)) == (0, 2, 1, 2, 0)
    memory = await world.get("bots/main/memories/m1")
    assert (memory.text, memory.version) == ("theirs", 2)
    assert await world.found("ours") == []
    assert (await world.versions(memory.name))[0].change == memory_pb2.CHANGE_KIND_IMPORT
    assert (await world.restore(memory.name, 1)).text == "ours"


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(world: World):
    await fill(world)
    lines = await export(world)
    await world.start_empty()
    report = await take(world, [*lines, "nonsense"], dry_run=True)
    assert (report.created_count, report.failed_count, report.applied) == (len(lines) - 1, 1, False)
    assert await world.listed(show_deleted=True) == []


async def test_an_import_that_is_repeated_under_its_id_gives_the_report_again(world: World):
    await fill(world)
    lines = await export(world)
    first = await take(world, lines, "bots/other", request_id="r")
    again = await take(world, lines, "bots/other", request_id="r")
    assert again == first
    assert first.created_count == len(lines) - 1


async def test_a_cut_export_goes_on_from_its_token(world: World):
    await fill(world)
    for number in range(450):
        await world.put(f"number {number}")
    whole = await export(world, **WHOLE)
    request = pb.ExportMemoriesRequest(parent="bots/main", format=JSONL, **WHOLE)
    lines, totals = [], set()
    while True:
        call = world.stub.ExportMemories(request)
        frame = await call.read()
        call.cancel()
        lines += frame.lines
        totals.add(frame.total_count)
        assert frame.done_count == len(lines)
        request.resume_token = frame.resume_token
        if not frame.resume_token:
            break
        await world.restart()
    assert lines == whole
    assert totals == {len(whole)}


async def test_an_export_shows_what_was_when_it_began(world: World):
    await fill(world)
    for number in range(300):
        await world.put(f"number {number}", memory_id=f"n{number:03}")
    whole = await export(world)
    world.pass_time(1)
    call = world.stub.ExportMemories(pb.ExportMemoriesRequest(parent="bots/main", format=JSONL))
    frames = aiter(call)
    lines = list((await anext(frames)).lines)
    world.pass_time(1)
    await world.put("put after")
    await world.update(memory_pb2.Memory(name="bots/main/memories/n299", text="changed after"), "text")
    await world.delete("bots/main/memories/n298")
    async for frame in frames:
        lines += frame.lines

    def texts(of: list[str]) -> list[str]:
        return [json.loads(line)["memory"]["text"] for line in of if '"memory"' in line]

    assert texts(lines) == texts(whole)


async def test_a_token_is_good_for_its_export_and_a_day(world: World):
    for number in range(450):
        await world.put(f"number {number}")
    request = pb.ExportMemoriesRequest(parent="bots/main", format=JSONL)
    frames = [frame async for frame in world.stub.ExportMemories(request)]
    request.resume_token = frames[1].resume_token

    async def first(asked: pb.ExportMemoriesRequest) -> pb.ExportMemoriesResponse:
        async for frame in world.stub.ExportMemories(asked):
            return frame
        raise AssertionError

    assert (await first(request)).lines
    for other in (
        pb.ExportMemoriesRequest(parent="bots/other", format=JSONL, resume_token=request.resume_token),
        pb.ExportMemoriesRequest(parent="bots/main", resume_token=request.resume_token),
        pb.ExportMemoriesRequest(parent="bots/main", format=JSONL, resume_token="x" + request.resume_token),
        pb.ExportMemoriesRequest(parent="bots/main", format=JSONL, resume_token="nonsense"),
    ):
        assert await refusal(first(other)) == ("INVALID_ARGUMENT", "WATCH_TOKEN_INVALID")
    world.pass_time(86_401)
    assert await refusal(first(request)) == ("OUT_OF_RANGE", "WATCH_TOKEN_TOO_OLD")
    frames = [frame async for frame in world.stub.ExportMemories(pb.ExportMemoriesRequest(parent="bots/main"))]
    request = pb.ExportMemoriesRequest(parent="bots/main", resume_token=frames[0].resume_token)
    await world.stub.EraseNamespace(pb.EraseNamespaceRequest(name="bots/main", confirm="bots/main"))
    assert await refusal(first(request)) == ("OUT_OF_RANGE", "WATCH_TOKEN_TOO_OLD")


async def test_an_export_holds_what_its_filter_selects(world: World):
    await fill(world)
    selected = memory_pb2.MemoryFilter(
        kinds=[memory_pb2.MEMORY_KIND_EPISODE],
        all_tags=["a"],
        any_tags=["b", "c"],
        authors=["Zoë"],
        sessions=["bots/main/sessions/s1"],
        run_id="r",
        pinned=True,
        min_importance=0.2,
        conditions=[memory_pb2.MetadataCondition(path="quote", operator=memory_pb2.CONDITION_OPERATOR_EXISTS)],
    )
    lines = await export(world, filter=selected, include_blocks=False)
    assert [json.loads(line).get("memory", {}).get("name") for line in lines] == [None, "bots/main/memories/m1"]
    selected.authors[0] = "Ana"
    assert len(await export(world, filter=selected, include_blocks=False)) == 1


async def test_records_are_exported_and_imported_as_messages_too(world: World):
    await fill(world)
    call = world.stub.ExportMemories(pb.ExportMemoriesRequest(parent="bots/main", **WHOLE))
    records = [record async for frame in call for record in frame.records]
    lines = await export(world, **WHOLE)
    assert [json_format.Parse(line, pb.MemoryRecord()) for line in lines] == records
    await world.start_empty()

    async def frames():
        yield pb.ImportMemoriesRequest(options=pb.ImportOptions(parent="bots/main"))
        yield pb.ImportMemoriesRequest(records=records)

    assert (await world.stub.ImportMemories(frames())).failed_count == 0
    assert await export(world, **WHOLE) == lines


def memory_line(**fields) -> str:
    """A line of a memory that is good but for `fields`."""
    memory = {"name": "bots/main/memories/x1", "uid": "u1", "text": "tea", "version": "1", **fields}
    return json.dumps({"memory": {name: value for name, value in memory.items() if value is not None}})


BAD_LINES = {
    "no JSON": "nonsense",
    "cut JSON": memory_line()[:-5],
    "a list": "[]",
    "a number": "17",
    "null": "null",
    "no record": "{}",
    "unknown field": '{"memory": {"name": "bots/main/memories/x1", "colour": 1}}',
    "unknown record": '{"soul": {}}',
    "two records": '{"memory": {"name": "a"}, "block": {"name": "b"}}',
    "deep": '{"memory": {"metadata": ' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}}",
    "lone surrogate": '{"memory": {"text": "\\ud800"}}',
    "NUL": memory_line(text="a\0b"),
    "no text": memory_line(text=None),
    "long text": memory_line(text="x" * 32_769),
    "10 MB metadata": memory_line(metadata={"a": "x" * 10_000_000}),
    "NaN": '{"memory": {"importance": NaN, "name": "bots/main/memories/x1"}}',
    "importance": memory_line(importance=2),
    "no uid": memory_line(uid=None),
    "no version": memory_line(version=None),
    "negative version": memory_line(version="-1"),
    "name": memory_line(name="bots/main/memories/../x"),
    "no name": memory_line(name=None),
    "SQL as a name": memory_line(name="bots/main/memories/x'); DROP TABLE memory; --"),
    "time": memory_line(createTime="yesterday"),
    "unknown kind": memory_line(kind="SOUL"),
    "version of nothing": '{"memoryVersion": {"change": 1, "memory": ' + memory_line()[11:-1] + "}}",
    "block version of nothing": '{"blockVersion": {"change": 1, "block": {"name": "bots/a/blocks/b", "uid": "u", '
    '"version": 1}}}',
    "block name": '{"block": {"name": "bots/a/blocks/B C", "uid": "u", "version": 1}}',
    "long block": '{"block": {"name": "bots/a/blocks/b", "uid": "u", "version": 1, "maxCharacters": 1, "text": "xy"}}',
    "header of another form": '{"header": {"formatVersion": 9, "bot": "bots/main"}}',
    "empty grant": '{"grant": {"name": "bots/main/grants/g"}}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
async def test_a_bad_line_is_told_and_hinders_no_other(world: World, line: str):
    good = memory_line(name="bots/main/memories/good", text="good tea")
    report = await take(world, [memory_line(name="bots/main/memories/first", text="first tea"), "", line, good])
    assert counts(report) == (2, 0, 0, 0, 1)
    (failure,) = report.failures
    assert failure.record_number == 2
    assert failure.refusal.code in (3, 9)
    assert failure.refusal.reason
    assert failure.refusal.metadata["record"] == "2"
    assert len(failure.refusal.message) < 400
    assert sorted(await world.found("tea")) == ["first tea", "good tea"]


async def test_the_first_bad_line_ends_the_import_when_asked(world: World):
    lines = [memory_line(name="bots/main/memories/a"), "nonsense", memory_line(name="bots/main/memories/b")]
    error = await refused(take(world, lines, fail_on_error=True))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "IMPORT_RECORD_INVALID")
    assert (error.metadata["record"], error.metadata["field"]) == ("2", "line")
    mended = [lines[0], memory_line(name="bots/main/memories/c"), lines[2]]
    assert counts(await take(world, mended, fail_on_error=True)) == (2, 0, 1, 0, 0)


async def test_a_bad_frame_ends_the_import(world: World):
    async def of(*frames):
        async def stream():
            for frame in frames:
                yield frame

        return await world.stub.ImportMemories(stream())

    options = pb.ImportOptions(parent="bots/main")
    record = json_format.Parse(memory_line(), pb.MemoryRecord())
    invalid = ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert await refusal(of()) == invalid
    assert await refusal(of(pb.ImportMemoriesRequest(lines=["{}"]))) == invalid
    assert await refusal(of(*[pb.ImportMemoriesRequest(options=options)] * 2)) == invalid
    assert await refusal(of(pb.ImportMemoriesRequest(options=options, lines=["{}"], records=[record]))) == invalid
    assert await refusal(of(pb.ImportMemoriesRequest(options=options, lines=["{}"] * 1_001))) == invalid
    bad = pb.ImportOptions(parent="bots/main", conflict=99)
    assert await refusal(of(pb.ImportMemoriesRequest(options=bad))) == invalid
    call = world.stub.ExportMemories(pb.ExportMemoriesRequest(parent="bots/main", window=1_025))
    assert await refusal(call.read()) == invalid


async def test_nobody_exports_or_imports_what_is_anothers(world: World):
    await fill(world)
    lines = await export(world, actor="bots/other", **WHOLE)
    assert [json.loads(line)["header"]["bot"] for line in lines] == ["bots/main"]
    call = take(world, [memory_line()], actor="bots/other")
    assert await refusal(call) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert len(await export(world, actor="bots/main", **WHOLE)) > 5


async def test_a_bot_imports_no_block_that_is_read_only(world: World):
    await world.put_block("persona", text="locked", read_only=True)
    lines = await export(world)
    await world.start_empty()
    report = await take(world, lines, actor="bots/main")
    assert [failure.refusal.reason for failure in report.failures] == ["BLOCK_READ_ONLY"]
    assert counts(await take(world, lines)) == (1, 0, 1, 0, 0)
