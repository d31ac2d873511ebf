"""What `mobot sessions import` finds at a path, and that it only reads there."""

import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from chassis.errors import FailedPrecondition
from mobot_cli.foreign_store import sources


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def state(tmp_path) -> Path:
    """A state directory with an agent of each age."""
    old = tmp_path / "agents" / "old" / "sessions"
    old.mkdir(parents=True)
    (old / "sessions.json").write_text(json.dumps({"agent:old:main": {"sessionId": "x"}}))
    (old / "x.jsonl").write_text('{"type": "session"}\n')
    (old / "x.jsonl.lock").write_text("")
    new = tmp_path / "agents" / "new"
    (new / "agent").mkdir(parents=True)
    (new / "sessions").mkdir()
    (new / "sessions" / "sessions.json").write_text("{}")
    conn = sqlite3.connect(new / "agent" / "openclaw-agent.sqlite")
    conn.execute("CREATE TABLE session_nodes (session_key TEXT)")
    conn.execute("INSERT INTO session_nodes VALUES ('agent:new:main')")
    conn.commit()
    conn.close()
    return tmp_path


def test_a_state_directory_holds_a_store_for_each_agent(state):
    before = files_of(state)
    with sources(state) as found:
        assert [(source.bot, Path(source.title).name) for source in found] == [
            ("new", "openclaw-agent.sqlite"),
            ("old", "sessions.json"),
        ]
        with tarfile.open(found[1].path) as tar:
            assert tar.getnames() == ["sessions.json", "x.jsonl"]
        copies = [source.path for source in found]
    assert not any(copy.exists() for copy in copies)
    assert files_of(state) == before


def test_an_agents_directory_and_a_plain_file_are_found(state, tmp_path):
    with sources(state / "agents" / "old") as found:
        assert [(source.bot, Path(source.title).name) for source in found] == [("old", "sessions.json")]
    archive = tmp_path / "a.mobot.jsonl.gz"
    archive.write_bytes(b"\x1f\x8b")
    with sources(archive) as found:
        assert (found[0].bot, found[0].path) == ("", archive)
    with sources(tmp_path / "agents" / "old" / "sessions" / "x.jsonl") as found:
        assert len(found) == 1


def test_what_lies_in_the_write_ahead_log_is_taken_too(tmp_path):
    path = tmp_path / "openclaw-agent.sqlite"
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("CREATE TABLE session_nodes (session_key TEXT)")
    conn.commit()
    conn.execute("INSERT INTO session_nodes VALUES ('in the log')")
    conn.commit()
    with sources(tmp_path) as found:
        copy = sqlite3.connect(found[0].path)
        assert copy.execute("SELECT * FROM session_nodes").fetchall() == [("in the log",)]
        copy.close()
    conn.close()


def test_a_store_that_is_damaged_is_named(tmp_path):
    (tmp_path / "openclaw-agent.sqlite").write_bytes(b"SQLite format 3\x00" + b"x" * 4096)
    with pytest.raises(FailedPrecondition, match=r"openclaw-agent\.sqlite"), sources(tmp_path):
        pass


def test_links_are_not_followed_and_an_empty_directory_has_nothing(tmp_path):
    (tmp_path / "sessions.json").write_text("{}")
    (tmp_path / "x.jsonl").symlink_to("/etc/hostname")
    with sources(tmp_path) as found:
        assert found[0].path == tmp_path / "sessions.json"
    (tmp_path / "empty").mkdir()
    with sources(tmp_path / "empty") as found:
        assert list(found) == []


@pytest.mark.parametrize("named", ["directory", "file"])
def test_a_single_file_of_sessions_is_found_with_the_transcripts_beside_it(tmp_path, named):
    store = tmp_path / "sessions-store.json"
    store.write_text(json.dumps({"agent:main:x": {"sessionId": "x"}}))
    with sources(tmp_path if named == "directory" else store) as found:
        assert [(source.title, source.path) for source in found] == [(str(store), store)]
    (tmp_path / "x.jsonl").write_text('{"type": "session"}\n')
    before = files_of(tmp_path)
    with sources(tmp_path if named == "directory" else store) as found:
        with tarfile.open(found[0].path) as tar:
            assert tar.getnames() == ["sessions-store.json", "x.jsonl"]
        assert found[0].title == str(store)
    assert files_of(tmp_path) == before
