"""Sessions as files, copies, links and sums, by the command line of a running mobot."""

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
from harness import Finished, Mobot, run_mobot, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def mobot(default_mobot: Mobot) -> Mobot:
    return default_mobot


@pytest.fixture
def session(mobot: Mobot) -> str:
    """A session in which something was said and answered."""
    session = f"main/files-{uuid.uuid4()}"
    assert run_mobot(mobot, "send", session, f"hello zebra{session[-12:]}").code == 0
    return session


def history(mobot: Mobot, session: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in run_mobot(mobot, "history", session, "--json").out.splitlines()]


def test_a_session_leaves_as_an_archive_and_comes_back(mobot: Mobot, session: str, tmp_path: Path) -> None:
    exported = run_mobot(mobot, "sessions", "export", session, "--to", str(tmp_path))
    assert exported.code == 0, exported.said
    (archive,) = tmp_path.glob("*.mobot.jsonl.gz")
    trial = run_mobot(mobot, "sessions", "import", str(archive), "--bot", "scout", "--dry-run")
    assert "1 session would be imported" in trial.out, trial.said
    done = run_mobot(mobot, "sessions", "import", str(archive), "--bot", "scout", "--json")
    assert [each["created_count"] for each in done.json()] == ["1"], done.said
    again = run_mobot(mobot, "sessions", "import", str(archive), "--bot", "scout")
    assert "1 here already" in again.out, again.said
    copy = session.replace("main/", "scout/")
    said = [event["message"]["parts"] for event in history(mobot, session) if "message" in event]
    assert [event["message"]["parts"] for event in history(mobot, copy) if "message" in event] == said
    short = tmp_path / "short.gz"
    short.write_bytes(archive.read_bytes()[:200])
    broken = run_mobot(mobot, "sessions", "import", str(short))
    assert (broken.code, "cut off" in broken.out) == (1, True), broken.said


def test_a_session_is_written_for_people_and_for_openclaw(mobot: Mobot, session: str, tmp_path: Path) -> None:
    text = run_mobot(mobot, "sessions", "export", session, "--format", "markdown", "--to", "-").out
    assert f"hello zebra{session[-12:]}" in text
    assert run_mobot(mobot, "sessions", "export", session, "-f", "jsonl", "-o", str(tmp_path / "t.jsonl")).code == 0
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["type"] for row in rows] == ["session", "message", "message"]
    nowhere = run_mobot(mobot, "sessions", "export", session, "-o", str(tmp_path / "no" / "such" / "t"))
    assert (nowhere.code, "cannot be written: No such file or directory" in nowhere.err) == (1, True), nowhere.said
    assert "Traceback" not in nowhere.err


def test_fork_merge_search_and_usage(mobot: Mobot, session: str) -> None:
    forked = run_mobot(mobot, "sessions", "fork", session, f"{session}-fork", "--json")
    assert forked.json()["fork_origin"]["session"].endswith(session.removeprefix("main/")), forked.said
    merged = run_mobot(mobot, "sessions", "merge", f"{session}-all", session, f"{session}-fork")
    assert "2 events added" in merged.out, merged.said

    def found() -> Finished | None:
        done = run_mobot(mobot, "sessions", "search", f"zebra{session[-12:]}")
        return done if f"{session}-all" in done.out else None

    assert session in wait_for(found, "the words in the index", 60).out

    def accounted() -> bool | None:
        # The end of a run reaches the log a moment after its answer.
        used = run_mobot(mobot, "sessions", "usage", session, "--json").json()["sum"]
        return (used["message_count"], used.get("run_count")) == ("2", "1") or None

    wait_for(accounted, "the run in the sums", 60)
    assert "MESSAGES" in run_mobot(mobot, "sessions", "usage", "--bot", "main").out


def test_a_link_shows_the_session_until_it_is_revoked(mobot: Mobot, session: str) -> None:
    link = run_mobot(mobot, "sessions", "share", "create", session, "--json").json()
    address = mobot.url.replace("ws://", "http://").rstrip("/") + link["path"]
    with urllib.request.urlopen(address) as page:
        assert f"zebra{session[-12:]}" in page.read().decode()
    assert link["name"] in run_mobot(mobot, "sessions", "share", "list", session).out
    assert run_mobot(mobot, "sessions", "share", "revoke", link["name"]).code == 0
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address)


def test_a_single_file_of_sessions_comes_in_and_goes_out_again(mobot: Mobot, tmp_path: Path) -> None:
    uid = str(uuid.uuid4())
    session = f"main/moved-{uid}"
    store = tmp_path / "sessions-store.json"
    entries = {
        f"agent:main:moved-{uid}": {"sessionId": uid, "updatedAt": 1_770_631_300_000, "displayName": "Moved"},
        f"agent:main:broken-{uid}": {"updatedAt": 1},
    }
    store.write_text(json.dumps(entries))
    said = [
        {"type": "session", "version": 3, "id": uid, "timestamp": "2026-02-09T09:59:00.000Z"},
        {
            "type": "message",
            "id": "m1",
            "parentId": None,
            "timestamp": "2026-02-09T10:00:00.000Z",
            "message": {"role": "user", "content": f"hello {uid}"},
        },
    ]
    (tmp_path / f"{uid}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said) + "{broken\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "make a copy of session.sqlite3" in " ".join(run_mobot(mobot, "sessions", "import", "--help").out.split())

    trial = run_mobot(mobot, "sessions", "import", str(store), "--dry-run")
    assert "1 session would be imported" in trial.out, trial.said
    assert run_mobot(mobot, "history", session).code == 1

    done = run_mobot(mobot, "sessions", "import", str(store))
    assert "1 session imported (2 events), 0 here already, 1 skipped" in done.out, done.said
    for place in (f"{uid}.jsonl:3", f"sessions-store.json: agent:main:broken-{uid}"):
        assert place in done.out
    assert "To go back" in done.out
    assert [event["message"]["parts"] for event in history(mobot, session) if "message" in event] == [
        [{"text": f"hello {uid}"}]
    ]
    assert "0 sessions imported (0 events), 1 here already" in run_mobot(mobot, "sessions", "import", str(store)).out

    assert run_mobot(mobot, "sessions", "delete", session, "--yes").code == 0
    assert run_mobot(mobot, "sessions", "purge", session, "--yes").code == 0
    assert run_mobot(mobot, "history", session).code == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "1 session imported" in run_mobot(mobot, "sessions", "import", str(store)).out


def test_what_is_no_store_is_refused_by_name(mobot: Mobot, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    refused = run_mobot(mobot, "sessions", "import", str(tmp_path / "note.txt"))
    assert (refused.code, "IMPORT_UNREADABLE" in refused.err) == (1, True), refused.said
    nothing = run_mobot(mobot, "sessions", "import", str(tmp_path))
    assert nothing.code == 1
