"""The other commands of the stock client that reach a gateway, beside `gateway call` (test_main_job.py)."""

import json
import uuid
from pathlib import Path

import pytest
from harness import Mobot
from stock import StockClient

from benchmarks.openclaw_peer import Installation

pytestmark = pytest.mark.e2e


@pytest.fixture
def stock(openclaw: Installation, default_mobot: Mobot, tmp_path: Path) -> StockClient:
    return StockClient(openclaw, tmp_path / "openclaw-home", default_mobot)


def test_health_is_ok(stock: StockClient) -> None:
    done = stock.run("gateway", "health", "--url", stock.mobot.url, "--token", stock.mobot.token)
    assert done.code == 0, done.said
    assert "OK" in done.out


def test_probe_reaches_and_reads(stock: StockClient) -> None:
    done = stock.run("gateway", "probe", "--json", "--url", stock.mobot.url, "--token", stock.mobot.token)
    (target,) = [each for each in json.loads(done.out)["targets"] if each["url"] == stock.mobot.url]
    assert target["connect"]["ok"], done.out
    assert target["connect"]["rpcOk"], done.out


def test_agent_prints_the_bots_answer(stock: StockClient) -> None:
    stock.configure()
    done = stock.run("agent", "-m", "hello", "--session-key", f"agent:scout:agent-{uuid.uuid4()}")
    assert (done.code, done.out.strip()) == (0, "Scout here. You said: hello"), done.said


def test_sessions_are_archived_and_deleted(stock: StockClient) -> None:
    key = f"agent:main:old-{uuid.uuid4()}"
    stock.call("chat.inject", sessionKey=key, message="something to keep")
    stock.configure()
    archived = stock.run("sessions", "archive", key)
    assert archived.code == 0, archived.said
    assert stock.call("sessions.describe", key=key)["session"]["archived"] is True
    deleted = stock.run("sessions", "delete", key, "--yes")
    assert deleted.code == 0, deleted.said
    assert stock.call("sessions.describe", key=key)["session"] is None
    assert stock.call("chat.history", sessionKey=key)["messages"] == []


def test_an_unknown_method_is_a_clear_refusal(stock: StockClient) -> None:
    done = stock.try_call("no.such.method")
    assert done.code == 1
    assert "unknown method: no.such.method" in done.said


def test_a_bad_key_is_a_clear_refusal(stock: StockClient) -> None:
    done = stock.try_call("sessions.create", key="agent:main:../x")
    assert done.code == 1
    assert "INVALID_REQUEST" in done.said
    assert "Traceback" not in done.said
