"""What a bot learns stays, through the death of everything, and its answers say where they come from."""

import json
import uuid

import pytest
from harness import Mobot, run_mobot

pytestmark = pytest.mark.e2e


@pytest.fixture
def word() -> str:
    return f"zebra{uuid.uuid4().hex[:12]}"


def test_a_bot_remembers_over_a_restart_and_cites_what_it_remembers(mobot: Mobot, word: str) -> None:
    bot = f"m{uuid.uuid4().hex[:8]}"  # one that has heard nothing else, so that it can cite nothing else
    assert run_mobot(mobot, "bots", "create", bot).code == 0
    session, other = f"{bot}/{uuid.uuid4()}", f"{bot}/{uuid.uuid4()}"
    assert "I will remember" in run_mobot(mobot, "send", session, f"remember the {word} is striped").out
    service = "core" if mobot.pid_of("core") else "memory"
    for name in (service, "runner"):
        pid = mobot.pid_of(name)
        assert pid is not None
        mobot.kill(name)
        mobot.wait_restarted(name, pid)
    answer = run_mobot(mobot, "send", other, f"recall {word}", "--timeout", "120")
    assert f"the {word} is striped" in answer.out, answer.said

    (stored,) = [m for m in run_mobot(mobot, "memory", "list", bot, "--json").json() if word in m["text"]]
    events = [json.loads(line) for line in run_mobot(mobot, "history", other, "--json").out.splitlines()]
    (reply,) = [e["message"] for e in events if "I remember" in str(e.get("message", {}).get("parts"))]
    assert reply["cited_memories"] == [stored["name"]]
    assert stored["provenance"]["session"] == f"bots/{bot}/sessions/{session.removeprefix(f'{bot}/')}"


def test_what_a_person_told_is_learnt_by_reflection(default_mobot: Mobot, word: str) -> None:
    mobot, bot = default_mobot, f"m{uuid.uuid4().hex[:8]}"
    assert run_mobot(mobot, "bots", "create", bot, "--reflect").code == 0
    run_mobot(mobot, "send", bot, f"My dog is called {word}. How are you?")
    reflection = run_mobot(mobot, "mail", "list", "--session", f"{bot}/reflection", "--json").json()[0]["run"]
    told = run_mobot(mobot, "mail", "wait", reflection)
    assert f"My dog is called {word}." in told.out, told.said
    (memory,) = run_mobot(mobot, "memory", "list", bot, "--json").json()
    assert memory["provenance"]["source"] == "MEMORY_SOURCE_REFLECTION"
