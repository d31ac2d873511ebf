"""The unmodified OpenClaw TUI in a terminal: what a person sees when it is pointed at mobot.

It takes no keys in the first moments after it connected, so every key waits for the screen that invites it.
"""

import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import Mobot
from stock import StockClient
from terminal import Terminal, terminal

from benchmarks.openclaw_peer import Installation

pytestmark = pytest.mark.e2e


@pytest.fixture
def mobot(default_mobot: Mobot) -> Mobot:
    return default_mobot


@pytest.fixture
def stock(openclaw: Installation, mobot: Mobot, tmp_path: Path) -> StockClient:
    return StockClient(openclaw, tmp_path / "openclaw-home", mobot)


@pytest.fixture
def tui(stock: StockClient, tmp_path: Path) -> Iterator[Terminal]:
    """The TUI, connected and with the history of the main session loaded."""
    with terminal(stock.command("tui"), stock.environment, tmp_path) as opened:
        opened.shows("connected", "agent main (Mo)", timeout_s=40)
        yield opened


def say(tui: Terminal, text: str) -> None:
    tui.until(lambda screen: "| idle" in screen or "| aborted" in screen, "an end of what it was doing")
    tui.type(text)
    tui.shows(text)
    tui.press("Enter")


def refuse_reset(tui: Terminal) -> None:
    """Asks for a reset until it is refused: after an answer the TUI holds its run for active a moment longer."""
    busy, refused = "abort the current run", "Cannot reset persistent session"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = tui.scrollback().count(busy)
        say(tui, "/reset")
        tui.until(lambda _, told=told: refused in (shown := tui.scrollback()) or shown.count(busy) > told, "an answer")
        if refused in tui.scrollback():
            return
    raise AssertionError("the TUI never asked for the reset")


def test_a_person_talks_switches_starts_over_and_is_stopped_from_losing_a_persistent_session(
    tui: Terminal, stock: StockClient
) -> None:
    word = f"w{uuid.uuid4().hex[:8]}"
    say(tui, f"hello {word}")
    tui.shows(f"Mo here. You said: hello {word}")

    say(tui, "count 200")
    tui.shows("1 2 3 4 5")
    tui.press("Escape")
    tui.shows("aborted")

    kept = f"agent:main:kept-{word}"
    stock.call("sessions.create", key=kept, label=f"Kept {word}", persistent=True)
    say(tui, "/sessions")
    tui.shows(f"Kept {word}", "Filter:")
    tui.press("Escape")
    tui.until(lambda screen: "Filter:" not in screen, "list closed")

    say(tui, f"/session {kept}")
    tui.shows(f"session kept-{word}")
    say(tui, f"stay {word}")
    tui.shows(f"You said: stay {word}")
    refuse_reset(tui)
    assert [m["role"] for m in stock.call("chat.history", sessionKey=kept)["messages"]] == ["user", "assistant"]

    say(tui, "/session main")
    tui.shows("session main")
    say(tui, "/new")
    tui.shows("session tui-")


def test_a_person_sees_the_whole_answer_once_though_everything_was_killed(
    tui: Terminal, stock: StockClient, mobot: Mobot
) -> None:
    for kill in (partial(mobot.kill, "core"), mobot.kill_all):
        key = f"agent:main:killed-{uuid.uuid4().hex[:8]}"
        say(tui, f"/session {key}")
        tui.shows(f"session {key}")
        say(tui, "count 60")
        tui.until(lambda screen: "1 2 3" in screen and "58 59 60" not in screen, "the middle of the answer")
        kill()
        if mobot.process is None:
            mobot.start()
        screen = tui.until(lambda screen: "58 59 60" in screen and "| idle" in screen, "the whole answer", 40)
        assert screen.count("58 59 60") == 1
        assert screen.count("count 60") == 1
        messages = stock.call("chat.history", sessionKey=key)["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
