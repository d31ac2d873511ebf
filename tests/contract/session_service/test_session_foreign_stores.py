"""Stores of others, and what is not what it says: what can be read is taken, the rest is reported or refused."""

import gzip
import io
import json
import sqlite3
import tarfile
from collections.abc import Sequence

import pytest
import zstandard
from foreign_stores import FORMER, UID, entry, files_store, lines, sqlite_store, tar, transcript
from foreign_stores import message as foreign_message
from session_files import JSONL, export, take, whole
from session_world import World, append_to, create, message, name, pb, refusal

from mobot.session.v1 import event_pb2, session_pb2


@pytest.fixture
async def world(sqlite_url, tmp_path):
    running = World(sqlite_url, data_dir=tmp_path, import_max_mib=24)
    await running.start()
    yield running
    await running.stop()


def said(events: Sequence[event_pb2.Event]) -> list[str]:
    return [event.message.parts[0].text for event in events if event.WhichOneof("payload") == "message"]


async def check_weather(stub, session: str, *, transcripts: int = 1) -> session_pb2.Session:
    """The session of foreign_stores.transcript as it should be here."""
    found, events = await whole(stub, session)
    present = [event for event in events if event.session_uid == UID]
    assert said(present) == ["what is the weather?", "It is sunny."]
    assert len({event.session_uid for event in events}) == transcripts
    kinds = [event.WhichOneof("payload") for event in present if event.WhichOneof("payload") != "session_reset"]
    assert kinds[-4:] == ["message", "tool_called", "tool_returned", "message"]
    question, call, back, answer = present[-4:]
    assert (question.message.idempotency_key, question.create_time.ToJsonString()) == ("7d0c", "2026-02-09T10:00:00Z")
    assert json.loads(call.tool_called.arguments_json) == {"city": "Bern"}
    assert (call.tool_called.call_id, back.tool_returned.parts[0].text) == ("call-1", "sunny")
    assert (answer.message.model, answer.message.usage.input_tokens, answer.actor) == ("p/q", 20, "bots/main")
    assert (found.uid, found.created_via, found.message_count) == (UID, "import", 2)
    return found


async def test_files_of_2026_2_are_imported(world):
    stub = world.stub()
    index = {
        "agent:main:weather": entry(
            label="Weather", displayName="The weather", thinkingLevel="high", spawnedBy="agent:main:main", pinned=True
        )
    }
    data = files_store(index, {f"{UID}.jsonl": lines(transcript())})
    report = await take(stub, data)
    assert (report.created_count, report.format) == (1, pb.IMPORT_FORMAT_OPENCLAW_JSON)
    found = await check_weather(stub, "weather")
    assert (found.label, found.display_name, found.overrides["thinkingLevel"]) == ("Weather", "The weather", "high")
    assert (found.parent, found.pinned) == (name("main"), True)
    assert [problem.message for problem in report.problems] == [
        "lines without a counterpart here were left out: 1 of type model_change"
    ]
    assert (await take(stub, data)).unchanged_count == 1


@pytest.mark.parametrize("packed", [True, False])
async def test_sqlite_stores_of_2026_9_are_imported_with_their_former_transcripts(world, tmp_path, packed):
    stub = world.stub()
    data = sqlite_store(tmp_path / "agent.sqlite", packed=packed, waiting=2)
    report = await take(stub, data)
    assert (report.created_count, report.format) == (1, pb.IMPORT_FORMAT_OPENCLAW_SQLITE)
    found = await check_weather(stub, "weather", transcripts=2)
    assert (found.label, found.previous_uid) == ("Weather", FORMER)
    assert any("2 messages were waiting" in problem.message for problem in report.problems)
    restored = await stub.ResetSession(pb.ResetSessionRequest(name=name("weather"), restore_uid=FORMER))
    assert (restored.session.uid, restored.session.message_count) == (FORMER, 2)
    assert (await take(stub, data)).unchanged_count == 1


async def test_an_index_alone_brings_sessions_without_their_past(world):
    stub = world.stub()
    data = json.dumps({"agent:main:weather": entry(), "agent:nosuch:x": entry("other-uid")}).encode()
    report = await take(stub, data)
    assert (report.created_count, report.skipped_count) == (1, 1)
    assert any("without their past" in problem.message for problem in report.problems)
    assert any("bots/nosuch" in problem.message for problem in report.problems)
    into_one = await take(stub, data, bot="bots/helper")
    assert sorted(into_one.sessions) == [name("weather", "helper"), name("x", "helper")]


async def test_a_single_file_of_the_same_entries_is_accepted_with_and_without_transcripts(world):
    stub = world.stub()
    index = {
        "agent:main:weather": entry(label="Weather", color="#0aF", displayName="The\u00a0weather", pinned=True),
        "agent:main:odd": entry("odd-uid", color="#12", archived=True),
        "agent:main:broken": {"updatedAt": 1},
    }
    alone = json.dumps(index).encode()
    trial = await take(stub, alone, dry_run=True)
    assert (trial.created_count, trial.skipped_count, trial.dry_run) == (2, 1, True)
    assert not (await stub.ListSessions(pb.ListSessionsRequest())).sessions
    packed = tar({"sessions-store.json": alone, f"{UID}.jsonl": lines(transcript())})
    report = await take(stub, packed)
    assert (report.created_count, report.skipped_count, report.format) == (2, 1, pb.IMPORT_FORMAT_OPENCLAW_JSON)
    assert "sessions-store.json: agent:main:broken" in {problem.location for problem in report.problems}
    assert "put back the copy" in report.way_back
    found = await check_weather(stub, "weather")
    assert (found.label, found.color, found.display_name) == ("Weather", "#00aaFF", "The\u00a0weather")
    odd = (await stub.GetSession(pb.GetSessionRequest(name=name("odd")))).session
    assert (odd.color, odd.state) == ("", session_pb2.SESSION_STATE_ARCHIVED)
    for again in (packed, alone):
        repeated = await take(stub, again)
        assert (repeated.created_count, repeated.unchanged_count, repeated.event_count) == (0, 2, 0)
    assert await check_weather(stub, "weather") == found


async def test_a_transcript_alone_is_imported_and_so_is_our_own(world):
    stub = world.stub()
    await take(stub, lines(transcript()), bot="bots/main")
    await check_weather(stub, f"imported:{UID}")
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "ours"))
    report = await take(stub, await export(stub, "a", JSONL), bot="bots/helper")
    assert said((await whole(stub, report.sessions[0].rpartition("/")[2], "helper"))[1]) == ["ours"]


async def test_damaged_lines_are_reported_and_skipped(world):
    stub = world.stub()
    entries = transcript()
    too_long = foreign_message("long", "m1", "user", "x" * (3 * 1024 * 1024))
    data = b"\n".join(
        [
            *(json.dumps(each).encode() for each in entries[:3]),
            b'{"type": "message", "id": "bro',
            b"\xff\xfe not text",
            b"[]",
            json.dumps({"type": "message", "id": "e", "parentId": "m1"}).encode(),
            json.dumps(foreign_message("odd", "m1", "nobody", "x")).encode(),
            b"",
            *(json.dumps(each).encode() for each in entries[3:]),
        ]
    )
    index = {
        "agent:main:weather": entry(),
        "agent:main:broken": "not an object",
        "agent:main:no-id": {"updatedAt": 1},
        "agent:main:gone": entry("gone-uid"),
        "agent:main:bad key/../x": entry("odd-uid"),
    }
    transcripts = {f"{UID}.jsonl": data, "unused.jsonl": b"", "odd-uid.jsonl": lines([too_long])}
    report = await take(stub, files_store(index, transcripts), bot="bots/main")
    assert (report.created_count, report.skipped_count) == (3, 2)
    places = {problem.location for problem in report.problems}
    assert {f"{UID}.jsonl:4", f"{UID}.jsonl:5", f"{UID}.jsonl:6", "unused.jsonl"} <= places
    assert {
        "sessions.json: agent:main:broken",
        "sessions.json: agent:main:no-id",
        "sessions.json: agent:main:gone",
    } <= places
    await check_weather(stub, "weather")


async def test_lines_that_are_too_long_are_reported_and_skipped(world):
    stub = world.stub()
    long = b'{"type": "message", "id": "long", "x": "' + b"x" * (9 * 1024 * 1024) + b'"}\n'
    data = lines(transcript()[:3]) + long + lines(transcript()[3:])
    report = await take(stub, files_store({"agent:main:weather": entry()}, {f"{UID}.jsonl": data}))
    assert ("IMPORT_LINE_TOO_LONG", f"{UID}.jsonl:4") in {(each.reason, each.location) for each in report.problems}
    await check_weather(stub, "weather")


async def test_abandoned_branches_are_left_out_and_a_missing_parent_cuts_nothing_off(world):
    stub = world.stub()
    abandoned = foreign_message("x1", "m1", "assistant", [{"type": "text", "text": "another answer"}])
    branched = [*transcript()[:3], abandoned, *transcript()[3:]]
    orphaned = [each for each in transcript("orphan-uid") if each.get("id") != "m3"]
    index = {"agent:main:weather": entry(), "agent:main:orphaned": entry("orphan-uid")}
    data = files_store(index, {f"{UID}.jsonl": lines(branched), "orphan-uid.jsonl": lines(orphaned)})
    report = await take(stub, data)
    await check_weather(stub, "weather")
    assert any("1 lines of branches" in problem.message for problem in report.problems)
    assert said((await whole(stub, "orphaned"))[1]) == ["what is the weather?", "It is sunny."]


async def test_a_compaction_becomes_a_summary_that_context_starts_from(world):
    stub = world.stub()
    entries = transcript()
    entries.append(
        {"type": "compaction", "id": "k", "parentId": "m4", "summary": "It was sunny.", "firstKeptEntryId": "m4"}
    )
    await take(stub, files_store({"agent:main:weather": entry()}, {f"{UID}.jsonl": lines(entries)}))
    turn = await stub.GetTurnContext(pb.GetTurnContextRequest(session=name("weather"), run="r"))
    assert turn.summary.summary.text == "It was sunny."
    assert said(turn.events) == ["It is sunny."]


# What is not what it says.


def escaping_tar(path: str, *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        info = tarfile.TarInfo(path)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        packed.addfile(info, io.BytesIO(b""))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "IMPORT_UNREADABLE", id="empty"),
        pytest.param(b"hello", "IMPORT_UNREADABLE", id="text"),
        pytest.param(b"{not json", "IMPORT_UNREADABLE", id="not json"),
        pytest.param(b"[]", "IMPORT_UNREADABLE", id="list"),
        pytest.param(b"PK\x03\x04rest", "IMPORT_UNREADABLE", id="zip"),
        pytest.param(b"SQLite format 3\x00" + b"x" * 5_000, "IMPORT_UNREADABLE", id="damaged sqlite"),
        pytest.param(gzip.compress(b"hello")[:12], "IMPORT_UNREADABLE", id="damaged gzip"),
        pytest.param(gzip.compress(gzip.compress(b"{}")), "IMPORT_UNREADABLE", id="packed twice"),
        pytest.param(tar({"other.txt": b""}), "IMPORT_UNREADABLE", id="tar without index"),
        pytest.param(tar({"sessions.json": b"{"}), "IMPORT_UNREADABLE", id="damaged index"),
        pytest.param(b'{"version": 1, "sessions": {}}', "IMPORT_UNREADABLE", id="an object of something else"),
        pytest.param(escaping_tar("../sessions.json"), "IMPORT_UNSAFE", id="path that leads out"),
        pytest.param(escaping_tar("/etc/sessions.json"), "IMPORT_UNSAFE", id="absolute path"),
        pytest.param(escaping_tar("sessions.json", link="/etc/passwd"), "IMPORT_UNSAFE", id="link"),
        pytest.param(b"{" + b" " * (5 * 1024 * 1024), "IMPORT_TOO_LARGE", id="too large"),
        pytest.param(gzip.compress(b"{" + b" " * (64 * 1024 * 1024)), "IMPORT_TOO_LARGE", id="bomb"),
    ],
)
async def test_what_cannot_be_an_import_is_refused(sqlite_url, tmp_path, data, reason):
    world = World(sqlite_url, data_dir=tmp_path, import_max_mib=4)
    await world.start()
    assert (await refusal(take(world.stub(), data))).reason == reason
    await world.stop()


async def test_wrong_imports(world, tmp_path):
    stub = world.stub()
    index = json.dumps({"agent:main:x": entry()}).encode()
    said_otherwise = take(stub, index, format=pb.IMPORT_FORMAT_ARCHIVE)
    assert (await refusal(said_otherwise)).reason == "IMPORT_UNREADABLE"
    assert (await refusal(take(stub, index, bot="bots/nosuch"))).reason == "BOT_NOT_FOUND"
    assert (await refusal(take(world.stub("bots/main"), index))).reason == "CALLER_NOT_ALLOWED"
    other = sqlite_store(tmp_path / "s.sqlite").replace(b"session_windows", b"session_windowz")
    assert (await refusal(take(stub, other))).reason == "IMPORT_UNREADABLE"


async def test_a_compressed_line_cannot_unpack_to_anything(world, tmp_path):
    path = tmp_path / "s.sqlite"
    sqlite_store(path)
    bomb = zstandard.ZstdCompressor().compress(b" " * (64 * 1024 * 1024))
    with sqlite3.connect(path) as conn:
        conn.execute("UPDATE transcript_events SET event_zstd = ? WHERE session_id = ? AND seq = 2", (bomb, UID))
        conn.execute("UPDATE transcript_events SET event_zstd = ? WHERE session_id = ? AND seq = 3", (b"damaged", UID))
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    report = await take(world.stub(), path.read_bytes())
    assert report.created_count == 1
    reasons = {problem.location: problem.reason for problem in report.problems}
    assert reasons[f"transcript_events: {UID}:2"] == "IMPORT_LINE_TOO_LONG"
    assert reasons[f"transcript_events: {UID}:3"] == "IMPORT_LINE_UNREADABLE"


async def test_a_repeated_request_gets_the_first_answer(world):
    stub = world.stub()
    data = json.dumps({"agent:main:x": entry()}).encode()
    first = await take(stub, data, request_id="once")
    assert first.created_count == 1
    assert await take(stub, data, request_id="once") == first
    assert (await refusal(take(stub, data + b" ", request_id="once"))).reason == "REQUEST_ID_REUSED"


async def test_what_the_source_has_more_than_before_is_told(world):
    stub = world.stub()
    index = json.dumps({"agent:main:weather": entry()}).encode()
    await take(stub, index)
    await append_to(stub, name("weather"), message("ours", "said here"))
    assert not any("without" in problem.message for problem in (await take(stub, index)).problems[1:])
    packed = files_store({"agent:main:weather": entry()}, {f"{UID}.jsonl": lines(transcript())})
    for dry_run in (True, False):
        report = await take(stub, packed, dry_run=dry_run)
        (told,) = [problem for problem in report.problems if problem.location == name("weather")]
        assert (told.reason, report.unchanged_count) == ("IMPORT_SESSION_REFUSED", 1)
        assert "without 4 of its events" in told.message
    assert said((await whole(stub, "weather"))[1]) == ["said here"]
    deleted = (await stub.DeleteSession(pb.DeleteSessionRequest(name=name("weather")))).session
    await stub.PurgeSession(pb.PurgeSessionRequest(name=deleted.name, expected_uid=deleted.uid))
    report = await take(stub, packed)
    assert (report.created_count, report.event_count) == (1, 5)
    await check_weather(stub, "weather")
    assert not any(problem.location == name("weather") for problem in (await take(stub, packed)).problems)
