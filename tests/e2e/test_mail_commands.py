"""`mobot watch` and children, seen from outside."""

import subprocess
import sys
import uuid

import pytest
from harness import Mobot, kill_and_reap, run_mobot, wait_for

pytestmark = pytest.mark.e2e


def test_a_bot_spawns_a_child_and_hears_of_its_result(default_mobot: Mobot) -> None:
    mobot, session = default_mobot, f"main/{uuid.uuid4()}"
    said = run_mobot(mobot, "send", session, "spawn count 3")
    assert "works on it" in said.out, said.said
    wait_for(lambda: "1 2 3" in run_mobot(mobot, "history", session).out, "the child's result", 60)


def test_watch_waits_for_a_session_that_is_not_there_yet(default_mobot: Mobot) -> None:
    mobot, session = default_mobot, f"main/{uuid.uuid4()}"
    with subprocess.Popen(
        [sys.executable, "-m", "mobot_cli", "watch", session],
        env={**mobot.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            assert "waiting for its first message" in process.stderr.readline()
            run_mobot(mobot, "send", session, "hello")
            assert any("You said: hello" in line for line in iter(process.stdout.readline, ""))
        finally:
            kill_and_reap([process.pid])


def test_a_message_says_what_a_busy_session_does_with_it(default_mobot: Mobot) -> None:
    mobot, session, run = default_mobot, f"main/{uuid.uuid4()}", str(uuid.uuid4())
    assert run_mobot(mobot, "send", session, "count 5000", "--no-wait", "--key", run).code == 0
    wait_for(lambda: "RUNNING" in run_mobot(mobot, "mail", "show", run).out, "the long turn", 60)
    refused = run_mobot(mobot, "send", session, "hello", "--mode", "reject")
    assert "SESSION_BUSY" in refused.said, refused.said
    said = run_mobot(mobot, "send", session, "hello", "--mode", "interrupt")
    assert "You said: hello" in said.out, said.said
    assert "CANCELLED" in run_mobot(mobot, "mail", "show", run).out
