"""A tool that must not run twice, a worker that is killed in the middle of it, and the people who decide: with the
command line, over REST and on the socket.
"""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from client import connected
from harness import Mobot, kill_and_reap, run_mobot, wait_for

pytestmark = pytest.mark.e2e

PROGRAM = """
import asyncio, sys
from bot_sdk.hosting import run_bots
from bot_sdk.model import Effect
from bot_sdk.steps import ToolAnswer, ToolRequest

async def payer(turn):
    async def pay():
        with open(sys.argv[1], "a") as payments:
            payments.write(turn.text + "\\n")
        if turn.attempt == 1:
            await asyncio.Event().wait()  # the bank does not answer
        return ToolAnswer("paid")

    answer = await turn.call_tool(ToolRequest("pay", "{}", Effect.ONCE), pay)
    return f"{turn.text}: {answer.text}"

run_bots({"payer": payer}, worker_id="till")
"""
PATIENCE_S = 90


@contextmanager
def working(mobot: Mobot, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program, with a token that makes it the worker `till` and nothing more."""
    program = directory / "payer.py"
    program.write_text(PROGRAM)
    token = run_mobot(mobot, "token", "--worker", "till").out.strip()
    targets = {
        f"MOBOT_{name.upper()}_TARGET": mobot.address(name) for name in ("registry", "session", "memory", "router")
    }
    with (directory / "payer.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(program), str(directory / "payments")],
            env={**mobot.environment, **targets, "MOBOT_TOKEN": token, "PYTHONPATH": str(Path.cwd())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill_and_reap([process.pid])
        process.wait()


def payments(directory: Path) -> list[str]:
    path = directory / "payments"
    return sorted(path.read_text().split()) if path.exists() else []


def asked(mobot: Mobot) -> dict[str, str]:
    """The session of each run that waits for a person, as the command line lists them."""
    listed = run_mobot(mobot, "mail", "list", "--bot", "payer", "--state", "needs-decision", "--json")
    return {each["run"]: each["session"] for each in json.loads(listed.out or "[]")}


def answer_over_rest(mobot: Mobot, run: str, answer: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{mobot.ports['gateway']}/v1/runs/{run}:resolve",
        data=json.dumps({"decision": {"answer": answer}}).encode(),
        headers={"Authorization": f"Bearer {mobot.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=40) as told:
        return json.load(told)


async def answer_on_the_socket(mobot: Mobot, run: str, answer: str) -> Any:
    async with connected(mobot.url, mobot.token) as client:
        return await client.call("mobot.runs.resolve", {"run": run, "decision": {"answer": answer}})


@pytest.fixture
def mobot(default_mobot: Mobot) -> Iterator[Mobot]:
    """One that others use too, with the bot `payer` for as long as the test runs."""
    assert run_mobot(default_mobot, "bots", "create", "payer", "--brain", "worker").code == 0
    yield default_mobot
    assert run_mobot(default_mobot, "bots", "delete", "payer", "--yes").code == 0
    wait_for(lambda: "payer" not in run_mobot(default_mobot, "bots", "list").out, "the end of the bot", PATIENCE_S)


def test_people_decide_about_a_tool_whose_worker_was_killed(mobot: Mobot, tmp_path: Path) -> None:
    ways = ("console", "rest", "socket")
    with working(mobot, tmp_path) as worker:
        for way in ways:
            sent = run_mobot(mobot, "send", f"payer/{way}", way, "--no-wait", "--key", f"pay-{way}")
            assert sent.code == 0, sent.said
        wait_for(lambda: payments(tmp_path) == sorted(ways), "the payments", PATIENCE_S)
        kill_and_reap([worker.pid])
    with working(mobot, tmp_path):
        wait_for(lambda: len(asked(mobot)) == len(ways), "three questions", PATIENCE_S)
        shown = run_mobot(mobot, "mail", "show", "pay-console")
        assert "The call of pay was begun and its end is not known" in shown.out, shown.said
        assert "retry" in shown.out
        assert payments(tmp_path) == sorted(ways)  # nobody has paid again

        decided = run_mobot(mobot, "mail", "resolve", "pay-console", "retry")
        assert decided.code == 0, decided.said
        assert answer_over_rest(mobot, "pay-rest", "skip")["message"]["run"] == "pay-rest"
        told = asyncio.run(answer_on_the_socket(mobot, "pay-socket", "skip"))
        assert told["message"]["run"] == "pay-socket"

        waited = {way: run_mobot(mobot, "mail", "wait", f"pay-{way}", timeout_s=PATIENCE_S) for way in ways}
    assert waited["console"].out.strip().endswith("console: paid"), waited["console"].said
    for way in ("rest", "socket"):
        assert f"{way}: The call was skipped by a person's decision" in waited[way].out, waited[way].said
    assert payments(tmp_path) == sorted((*ways, "console"))
    late = run_mobot(mobot, "mail", "resolve", "pay-console", "skip")
    assert late.code != 0
    audit = run_mobot(mobot, "audit")
    assert audit.out.count("resolve") >= len(ways), audit.said
