"""Sessions out as files and in again, on both engines: nothing is lost, nothing comes twice, nothing is passed over in
silence."""

import base64
import gzip
import json
from datetime import timedelta

import pytest
from session_files import JSONL, MARKDOWN, export, take, whole
from session_world import World, append_to, create, finished, message, name, pb, refusal, started

from mobot.session.v1 import event_pb2, part_pb2


@pytest.fixture
async def world(database_url, tmp_path):
    running = World(database_url, data_dir=tmp_path, import_max_mib=4)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def other(sqlite_templates, tmp_path_factory):
    """Another installation."""
    directory = tmp_path_factory.mktemp("other")
    sqlite_templates.copy_to(directory / "store.sqlite3", "session_service.migrations")
    running = World(f"sqlite:///{directory / 'store.sqlite3'}", data_dir=directory)
    await running.start()
    yield running
    await running.stop()


async def rich_session(world, stub) -> None:
    """Everything a session may have, and two transcripts."""
    await create(
        stub,
        "a",
        label="Plan",
        display_name="The plan",
        description="two\nlines",
        group="work",
        tags=["x", "y"],
        icon="🦓",
        color="#ff0000",
        pinned=True,
        unread=True,
        model="p/m",
        overrides={"k": "v"},
        user_created=True,
    )
    await append_to(stub, name("a"), message("1", "before the reset"))
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a"), reason="why not"))
    world.clock.advance(timedelta(minutes=3))
    parts = [part_pb2.Part(text="text"), part_pb2.Part(data=part_pb2.DataPart(value=b"\x00\xff"))]
    said = event_pb2.MessageAppended(role=event_pb2.ROLE_USER, parts=parts, source="x", metadata={"a": "b"})
    await append_to(stub, name("a"), event_pb2.Event(id="2", message=said, run="r"), started("r"), epoch=3)
    call = event_pb2.ToolCalled(call_id="c", tool="look", arguments_json='{"a":1}')
    summary = event_pb2.SummaryAppended(text="so far", through_sequence=5)
    await append_to(
        stub,
        name("a"),
        event_pb2.Event(id="call", run="r", tool_called=call),
        event_pb2.Event(id="s", summary=summary),
        finished("r", usage=part_pb2.Usage(input_tokens=7)),
    )


async def test_an_archive_gives_the_same_session_elsewhere(world, other):
    stub = world.stub()
    await rich_session(world, stub)
    report = await take(other.stub(), await export(stub, "a"))
    assert (report.created_count, list(report.sessions), list(report.problems)) == (1, [name("a")], [])
    assert await whole(other.stub(), "a") == await whole(stub, "a")
    turn = pb.GetTurnContextRequest(session=name("a"), run="next")
    assert await other.stub().GetTurnContext(turn) == await stub.GetTurnContext(turn)
    uses = pb.GetSessionUsageRequest(name=name("a"))
    assert await other.stub().GetSessionUsage(uses) == await stub.GetSessionUsage(uses)
    here, there = await export(stub, "a"), await export(other.stub(), "a")
    assert gzip.decompress(here) == gzip.decompress(there)


async def test_the_imported_session_goes_on_and_is_watched_and_found(world, other):
    stub, there = world.stub(), other.stub()
    await rich_session(world, stub)
    await take(there, await export(stub, "a"))
    last = (await whole(there, "a"))[0].last_sequence
    answer = await append_to(there, name("a"), message("new", "goes on"), epoch=3)
    assert list(answer.sequences) == [last + 1]
    stale = await refusal(append_to(there, name("a"), message("stale"), epoch=2))
    assert stale.reason == "FENCED"
    again = await append_to(there, name("a"), message("new", "goes on"), epoch=3)
    assert list(again.duplicates) == [True]


async def test_importing_again_changes_nothing(world, other):
    stub, there = world.stub(), other.stub()
    await rich_session(world, stub)
    data = await export(stub, "a")
    await take(there, data)
    await append_to(there, name("a"), message("new"), epoch=3)
    before = await whole(there, "a")
    for _ in range(2):
        report = await take(there, data)
        assert (report.created_count, report.unchanged_count, list(report.problems)) == (0, 1, [])
    assert await whole(there, "a") == before


async def test_a_dry_run_reports_and_writes_nothing(world, other):
    stub, there = world.stub(), other.stub()
    await rich_session(world, stub)
    data = await export(stub, "a")
    trial = await take(there, data, dry_run=True)
    assert (trial.dry_run, trial.created_count, list(trial.sessions)) == (True, 1, [name("a")])
    assert (await refusal(there.GetSession(pb.GetSessionRequest(name=name("a"))))).reason == "SESSION_NOT_FOUND"
    done = await take(there, data)
    assert (done.event_count, done.created_count) == (trial.event_count, 1)
    assert "purge" in done.way_back


async def test_a_session_that_is_another_one_is_never_touched(world, other):
    stub, there = world.stub(), other.stub()
    await rich_session(world, stub)
    await create(there, "a")
    before = await whole(there, "a")
    data = await export(stub, "a")
    error = await refusal(take(there, data))
    assert (error.reason, error.metadata["session"]) == ("SESSION_ALREADY_EXISTS", name("a"))
    assert "--skip-existing" in error.message
    report = await take(there, data, conflict_policy=pb.CONFLICT_POLICY_USE_EXISTING)
    assert (report.unchanged_count, report.problems[0].reason) == (1, "IMPORT_SESSION_REFUSED")
    replace = take(there, data, conflict_policy=pb.CONFLICT_POLICY_REPLACE)
    assert (await refusal(replace)).reason == "FIELD_INVALID"
    assert await whole(there, "a") == before


async def test_a_copy_beside_the_original_gets_uids_of_its_own(world):
    stub = world.stub()
    await rich_session(world, stub)
    data = await export(stub, "a")
    assert (await take(stub, data, bot="bots/helper")).created_count == 1
    original, events = await whole(stub, "a")
    copy, copied = await whole(stub, "a", "helper")
    assert (copy.uid != original.uid, copy.label, len(copied)) == (True, "Plan", len(events))
    assert (await take(stub, data, bot="bots/helper")).unchanged_count == 1


async def test_several_archives_in_one_file_and_one_that_is_damaged(world, other):
    stub = world.stub()
    for session in ("a", "b", "c"):
        await create(stub, session)
        await append_to(stub, name(session), message("1", f"in {session}"))
    damaged = gzip.decompress(await export(stub, "b")).replace(base64.b64encode(b"x" * 30)[:8], b"")
    damaged = damaged.replace(b'"1",8,', b'"2",8,')
    cut_off = gzip.decompress(await export(stub, "c")).rsplit(b"\n", 2)[0] + b"\n"
    data = await export(stub, "a") + gzip.compress(damaged) + gzip.compress(cut_off)
    report = await take(other.stub(), data)
    assert (report.created_count, report.skipped_count) == (1, 2)
    assert [problem.reason for problem in report.problems] == ["IMPORT_LINE_UNREADABLE", "IMPORT_SESSION_REFUSED"]
    assert list(report.sessions) == [name("a")]


async def test_a_label_that_is_taken_refuses_an_archive(world, other):
    stub, there = world.stub(), other.stub()
    await create(stub, "a", label="Plan")
    await create(there, "b", label="Plan")
    report = await take(there, await export(stub, "a"))
    assert (report.created_count, report.skipped_count, report.problems[0].location) == (0, 1, name("a"))


async def test_markdown_and_openclaw_lines(world):
    stub = world.stub()
    await rich_session(world, stub)
    text = (await export(stub, "a", MARKDOWN)).decode()
    assert text.startswith("# Plan\n")
    assert "before the reset" not in text
    assert "Summary of what is above" in text
    assert '```json\n{"a":1}\n```' in text
    assert "before the reset" in (await export(stub, "a", MARKDOWN, session_uid="*")).decode()
    rows = [json.loads(line) for line in (await export(stub, "a", JSONL)).splitlines()]
    assert [row["type"] for row in rows] == ["session", "message", "message", "compaction"]
    assert [row["parentId"] for row in rows[1:]] == [None, "2", "call"]
    assert rows[2]["message"]["content"][0]["arguments"] == {"a": 1}
    session, _ = await whole(stub, "a")
    assert rows[0]["id"] == session.uid


async def test_wrong_exports(world):
    stub = world.stub()
    await create(stub, "a")
    assert (await refusal(export(stub, "nosuch"))).reason == "SESSION_NOT_FOUND"
    assert (await refusal(export(stub, "a", MARKDOWN, session_uid="x"))).reason == "TRANSCRIPT_NOT_FOUND"
    assert (await refusal(export(stub, "a", JSONL, session_uid="*"))).reason == "FIELD_INVALID"
    assert (await refusal(export(stub, "a", 99))).reason == "FIELD_INVALID"
    assert (await refusal(export(world.stub("bots/helper"), "a"))).reason == "SESSION_NOT_FOUND"
