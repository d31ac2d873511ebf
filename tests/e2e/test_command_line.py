"""The `mobot` command as a person and a script use it."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from harness import Finished, Mobot, kill_and_reap, run_mobot, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def mobot(default_mobot: Mobot) -> Mobot:
    return default_mobot


@pytest.fixture
def session() -> str:
    return f"main/cli-{uuid.uuid4()}"


def test_bots_lists_the_demo_bots_as_a_table_and_as_json(mobot: Mobot) -> None:
    table = run_mobot(mobot, "bots")
    assert table.code == 0, table.said
    assert "Mo" in table.out
    assert "Scout" in table.out
    listed = run_mobot(mobot, "bots", "--json")
    assert [bot["name"] for bot in listed.json()] == ["bots/main", "bots/scout"]


def test_a_bot_is_created_talked_to_deleted_and_restored(mobot: Mobot) -> None:
    bot = f"b{uuid.uuid4().hex[:8]}"
    created = run_mobot(mobot, "bots", "create", bot, "--name", "Newcomer", "--word-delay-ms", "0")
    assert created.code == 0, created.said
    said = run_mobot(mobot, "send", bot, "hello")
    assert said.out == "Newcomer here. You said: hello\n"
    assert run_mobot(mobot, "bots", "delete", bot, "--yes").code == 0
    # The router may remember for a moment that there was such a bot.
    refused = wait_for(lambda: _refused(run_mobot(mobot, "send", bot, "hello", "--no-wait")), "refusal", 60)
    assert "takes no more mail" in refused.err
    assert run_mobot(mobot, "bots", "restore", bot).code == 0
    assert run_mobot(mobot, "bots", "delete", bot, "--yes").code == 0


def _refused(done: Finished) -> Finished | None:
    return done if done.code == 1 else None


def test_send_prints_the_answer_and_history_shows_both_lines(mobot: Mobot, session: str) -> None:
    sent = run_mobot(mobot, "send", session, "hello")
    assert (sent.code, sent.out) == (0, "Mo here. You said: hello\n"), sent.said
    history = run_mobot(mobot, "history", session)
    assert "you: hello" in history.out
    assert "main: Mo here. You said: hello" in history.out


def test_send_with_json_prints_the_finished_message(mobot: Mobot, session: str) -> None:
    sent = run_mobot(mobot, "send", session, "hello", "--json")
    assert sent.json()["state"] == "MESSAGE_STATE_SUCCEEDED"


def test_send_with_the_same_key_sends_once(mobot: Mobot, session: str) -> None:
    key = str(uuid.uuid4())
    first = run_mobot(mobot, "send", session, "only once", "--key", key, "--no-wait", "--json")
    again = run_mobot(mobot, "send", session, "only once", "--key", key, "--no-wait", "--json")
    assert first.json()["run"] == again.json()["run"] == key
    assert again.json()["duplicate"] is True
    other = run_mobot(mobot, "send", session, "something else", "--key", key)
    assert other.code == 1
    assert "IDEMPOTENCY_KEY_REUSED" in other.err
    assert "Traceback" not in other.said


def test_send_exits_1_and_says_why_when_the_run_fails(mobot: Mobot, session: str) -> None:
    sent = run_mobot(mobot, "send", session, "fail")
    assert sent.code == 1
    assert "the run ended as failed: you asked me to fail" in sent.err


def test_history_as_json_is_an_event_a_line(mobot: Mobot, session: str) -> None:
    run_mobot(mobot, "send", session, "hello")
    lines = run_mobot(mobot, "history", session, "--json").out.splitlines()
    sequences = [int(json.loads(line)["sequence"]) for line in lines]
    assert sequences == list(range(1, len(sequences) + 1))


def test_sessions_are_made_listed_protected_reset_deleted_and_restored(mobot: Mobot, session: str) -> None:
    key = f"agent:main:{session.removeprefix('main/')}"
    created = run_mobot(mobot, "sessions", "create", session, "--label", key[-12:], "--persistent")
    assert created.out == f"Created {key}\n", created.said
    assert key in [row["key"] for row in run_mobot(mobot, "sessions", "list", "main", "--json").json()]
    assert key in run_mobot(mobot, "sessions", "list", "--text", key[-12:]).out

    refused = run_mobot(mobot, "sessions", "reset", session)
    assert refused.code == 1
    assert "SESSION_PERSISTENT" in refused.err
    assert "protected" in run_mobot(mobot, "sessions", "unprotect", session).out
    assert run_mobot(mobot, "sessions", "reset", session).code == 0

    assert run_mobot(mobot, "sessions", "delete", session, "--yes").code == 0
    assert key not in [row["key"] for row in run_mobot(mobot, "sessions", "list", "main", "--json").json()]
    assert run_mobot(mobot, "sessions", "restore", session).code == 0
    assert run_mobot(mobot, "sessions", "show", session).json()["key"] == key


def test_memories_are_added_found_listed_and_forgotten(mobot: Mobot) -> None:
    word = f"zebra{uuid.uuid4().hex}"
    added = run_mobot(mobot, "memory", "add", "scout", f"the {word} is striped", "--tag", "animals", "--json")
    memory = added.json()["memory"]["name"].rsplit("/", 1)[1]
    found = run_mobot(mobot, "memory", "search", "scout", word, "--json").json()
    assert [hit["memory"]["text"] for hit in found["hits"]] == [f"the {word} is striped"]
    assert memory in [each["name"].rsplit("/", 1)[1] for each in _memories(mobot, "scout")]
    assert run_mobot(mobot, "memory", "forget", "scout", memory).code == 0
    assert memory not in [each["name"].rsplit("/", 1)[1] for each in _memories(mobot, "scout")]
    assert word not in str(run_mobot(mobot, "memory", "search", "main", word).out), "another bot's memory"


def _memories(mobot: Mobot, bot: str) -> list[dict[str, str]]:
    return run_mobot(mobot, "memory", "list", bot, "--json").json()


def test_doctor_finds_a_running_mobot_well(mobot: Mobot) -> None:
    doctor = run_mobot(mobot, "doctor", "--json")
    wrong = [finding for finding in doctor.json() if not finding["ok"]]
    assert (doctor.code, wrong) == (0, [])


def test_watch_prints_each_event_once_though_the_core_is_killed(mobot: Mobot, session: str) -> None:
    with watching(mobot, session) as out:
        run_mobot(mobot, "send", session, "before")
        wait_for(lambda: "You said: before" in out.read_text(), "the first answer", 60)
        pid = mobot.pid_of("core")
        assert pid is not None
        mobot.kill("core")
        mobot.wait_restarted("core", pid)
        run_mobot(mobot, "send", session, "after")
        wait_for(lambda: "run_finished" in out.read_text().partition("You said: after")[2], "the second end", 60)
        frames = [json.loads(line) for line in out.read_text().splitlines()]
    events = [event for frame in frames for event in frame.get("events", [])]
    created, *since = run_mobot(mobot, "history", session, "--json").out.splitlines()
    assert "session_created" in created
    assert [event["id"] for event in events] == [json.loads(line)["id"] for line in since]


@contextmanager
def watching(mobot: Mobot, session: str) -> Iterator[Path]:
    """`mobot watch` of a new session in the background, once it listens; yields the file it prints to."""
    assert run_mobot(mobot, "sessions", "create", session).code == 0
    out_file = mobot.directory / f"watch-{uuid.uuid4()}.out"
    err_file = out_file.with_suffix(".err")
    arguments = [sys.executable, "-m", "mobot_cli", "watch", session, "--json"]
    with out_file.open("wb") as out, err_file.open("wb") as err:
        process = _start(arguments, mobot, out, err)
    try:
        wait_for(lambda: out_file.read_text().endswith("\n"), "the frame with which a watch begins", 60)
        yield out_file
        assert process.poll() is None, err_file.read_text()
        assert "Traceback" not in err_file.read_text()
    finally:
        kill_and_reap([process.pid])
        process.wait()


def _start(arguments: list[str], mobot: Mobot, out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        env={**mobot.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )


MISTAKES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "an unknown command": (("sing",), 2, "No such command"),
    "a bot id of the wrong shape": (("send", "../x", "hello"), 1, "RESOURCE_NAME_INVALID"),
    "a key that names no session": (("history", "main/"), 1, "names no session"),
    "a session that does not exist": (("sessions", "show", "main/never-made"), 1, "SESSION_NOT_FOUND"),
    "a bot that does not exist": (("send", "nobody", "hello"), 1, "BOT_NOT_FOUND"),
    "a brain that does not exist": (("bots", "create", "x", "--brain", "jelly"), 1, "none of echo, openai, worker"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(mobot: Mobot, case: str) -> None:
    arguments, code, words = MISTAKES[case]
    done = run_mobot(mobot, *arguments)
    assert done.code == code, done.said
    assert words in done.err
    assert "Traceback" not in done.said


def test_what_is_not_there_is_refused_with_the_way_to_what_is(mobot: Mobot) -> None:
    assert "`mobot bots` lists the bots" in run_mobot(mobot, "send", "nobody", "hello").err
    assert "`mobot sessions` lists the sessions" in run_mobot(mobot, "history", "main/never-made").err
    assert "`mobot memory list BOT`" in run_mobot(mobot, "memory", "show", "main", str(uuid.uuid4())).err


@pytest.mark.parametrize(
    "arguments",
    [
        ("bots",),
        ("sessions",),
        ("send", "main", "hello"),
        ("history", "main"),
        ("memory", "list", "main"),
    ],
    ids=" ".join,
)
def test_without_a_running_mobot_each_command_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    stopped = Mobot(tmp_path)
    stopped.data_dir.mkdir()
    (stopped.data_dir / "token").write_text("of its last start\n")
    done = run_mobot(stopped, *arguments)
    assert done.code == 1, done.said
    assert "Is mobot running? `mobot up` starts it" in done.err
    assert "Traceback" not in done.said


def test_doctor_names_what_is_wrong_when_nothing_runs(tmp_path: Path) -> None:
    doctor = run_mobot(Mobot(tmp_path), "doctor")
    assert doctor.code == 1
    assert "WRONG" in doctor.out
    assert "start it: mobot up" in doctor.out


def test_an_unknown_variable_is_named_by_commands_too(mobot: Mobot) -> None:
    done = run_mobot(mobot, "bots", MOBOT_TOKENN="x")
    assert done.code == 2
    assert "MOBOT_TOKENN" in done.err
    assert "did you mean MOBOT_TOKEN?" in done.err
