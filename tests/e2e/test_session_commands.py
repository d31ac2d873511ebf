"""Everything that can be said of a session, by the command line of a running mobot."""

import uuid

import pytest
from harness import Mobot, run_mobot

pytestmark = pytest.mark.e2e


@pytest.fixture
def mobot(default_mobot: Mobot) -> Mobot:
    return default_mobot


@pytest.fixture
def word() -> str:
    return f"w{uuid.uuid4().hex[:12]}"


def keys(mobot: Mobot, *narrowed: str) -> list[str]:
    return [session["key"] for session in run_mobot(mobot, "sessions", "list", *narrowed, "--json").json()]


def test_a_template_is_kept_used_changed_and_deleted(mobot: Mobot, word: str) -> None:
    made = run_mobot(
        mobot, "sessions", "templates", "create", word, "--group", word, "--tag", "daily", "--opening", "Good morning."
    )
    assert made.code == 0, made.said
    created = run_mobot(mobot, "sessions", "create", f"main/{word}", "--template", word, "--label", word, "--json")
    session = created.json()["session"]
    assert (session["group"], session["tags"], session["template"]) == (word, ["daily"], f"templates/{word}")
    assert "Good morning." in run_mobot(mobot, "history", f"main/{word}").out
    assert keys(mobot, "--group", word, "--tag", "daily") == [f"agent:main:{word}"]
    changed = run_mobot(mobot, "sessions", "templates", "set", word, "--tag", "", "--description", "numbers", "--json")
    assert changed.json()["session"] == {"description": "numbers", "group": word}
    assert word in run_mobot(mobot, "sessions", "templates", "list").out
    assert run_mobot(mobot, "sessions", "templates", "show", word).json()["opening"] == "Good morning."
    assert run_mobot(mobot, "sessions", "templates", "delete", word).code == 0
    missing = run_mobot(mobot, "sessions", "create", f"main/{word}-too", "--template", word)
    assert missing.code == 1
    assert "TEMPLATE_NOT_FOUND" in missing.err


def test_fields_are_set_and_lists_narrowed(mobot: Mobot, word: str) -> None:
    name = f"main/{word}"
    assert run_mobot(mobot, "sessions", "create", name, "--parent", "main/main", "--icon", "\N{ROCKET}").code == 0
    done = run_mobot(
        mobot, "sessions", "set", name, "--label", word, "--pin", "--unread", "--color", "red", "--tag", word, "--json"
    ).json()
    assert (done["label"], done["pinned"], done["unread"], done["color"]) == (word, True, True, "red")
    assert done["icon"] == "\N{ROCKET}"
    cleared = run_mobot(mobot, "sessions", "set", name, "--color", "", "--unpin", "--read", "--json").json()
    assert not cleared.keys() & {"color", "pinned", "unread"}
    assert run_mobot(mobot, "sessions", "protect", name).code == 0
    key = [f"agent:main:{word}"]
    assert keys(mobot, "--tag", word, "--protected", "--idle") == key
    other = f"main/a-{word}"
    assert run_mobot(mobot, "sessions", "create", other, "--tag", word, "--display-name", f"Second {word}").code == 0
    assert keys(mobot, "--tag", word, "--order", "created") == [f"agent:main:a-{word}", *key]
    assert keys(mobot, "--tag", word, "--order", "name") == [f"agent:main:a-{word}", *key]
    assert run_mobot(mobot, "sessions", "list", "--order", "size").code == 2
    assert f"Second {word}" in run_mobot(mobot, "sessions", "list", "--tag", word).out
    assert "No session is like that" in run_mobot(mobot, "sessions", "list", "--tag", f"not-{word}").out
    assert run_mobot(mobot, "sessions", "delete", other, "--yes").code == 0
    assert keys(mobot, "--tag", word, "--parent", "main/main") == key
    assert keys(mobot, "--tag", word, "--unprotected") == keys(mobot, "--tag", word, "--running") == []
    nothing = run_mobot(mobot, "sessions", "set", name)
    assert nothing.code == 2
    assert "say what to change" in nothing.err


def test_a_session_is_put_away_brought_back_and_removed_for_good(mobot: Mobot, word: str) -> None:
    name, key = f"main/{word}", f"agent:main:{word}"
    run_mobot(mobot, "sessions", "create", name, "--tag", word, "--group", word)
    assert run_mobot(mobot, "sessions", "archive", name).code == 0
    assert keys(mobot, "--tag", word) == []
    assert keys(mobot, "--tag", word, "--archived") == [key]
    assert run_mobot(mobot, "sessions", "unarchive", name).code == 0
    renamed = run_mobot(mobot, "sessions", "groups", "--rename", f"{word}={word}2")
    assert f"{word}2" in renamed.out, renamed.said
    assert keys(mobot, "--group", f"{word}2") == [key]
    assert f"{word}2" not in run_mobot(mobot, "sessions", "groups", "--remove", f"{word}2").out
    assert run_mobot(mobot, "sessions", "delete", name, "--yes").code == 0
    assert keys(mobot, "--tag", word, "--deleted") == [key]
    assert run_mobot(mobot, "sessions", "purge", name, "--yes").code == 0
    assert run_mobot(mobot, "sessions", "show", name).code == 1


def test_a_session_begins_with_the_context_of_another_and_anew(mobot: Mobot, word: str) -> None:
    name, copy = f"main/{word}", f"main/{word}-copy"
    assert run_mobot(mobot, "send", name, "hello").code == 0
    based = run_mobot(mobot, "sessions", "create", copy, "--based-on", name, "--json").json()["session"]
    assert based["fork_origin"]["session"] == f"bots/main/sessions/{word}"
    again = run_mobot(mobot, "sessions", "create", copy)
    assert "SESSION_ALREADY_EXISTS" in again.err
    used = run_mobot(mobot, "sessions", "create", copy, "--resume", "--json").json()
    assert used["session"]["uid"] == based["uid"]
    anew = run_mobot(mobot, "sessions", "create", copy, "--replace", "--json").json()
    assert anew["session"]["uid"] != based["uid"]
    assert run_mobot(mobot, "sessions", "reset", name).code == 0
    assert "hello" not in run_mobot(mobot, "history", name, "--json").out
