import asyncio
import io
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from mobot_cli.child import ChildSpec
from mobot_cli.restart_policy import RestartPolicy
from mobot_cli.screen import Screen
from mobot_cli.supervisor import Supervisor

FAKE_PROCESS = Path(__file__).with_name("fake_process.py")
QUICK = RestartPolicy(first_delay_s=0.01, longest_delay_s=0.05, give_up_deaths=3, start_timeout_s=5.0, stop_grace_s=5.0)


class Running:
    """A supervisor at work on fake processes, and what it told."""

    def __init__(self, tmp_path, journal) -> None:
        self._tmp_path = tmp_path
        self.journal = journal
        self.told = io.StringIO()
        self.ready = asyncio.Event()

    def start(self, *names, policy=QUICK, stages=None, after=None):
        specs = [
            ChildSpec(
                name=name,
                command=(sys.executable, str(FAKE_PROCESS), name),
                log_file=self._tmp_path / f"{name}.log",
                stop_stage=(stages or {}).get(name, 0),
                after=frozenset((after or {}).get(name, ())),
            )
            for name in names
        ]
        self.supervisor = Supervisor(specs, policy=policy, screen=Screen(self.told, self.told), chance=random.Random(1))
        self.task = asyncio.create_task(self.supervisor.run(self._when_ready))

    async def _when_ready(self) -> None:
        self.ready.set()

    async def until_ready(self) -> None:
        async with asyncio.timeout(40):
            await self.ready.wait()

    async def until(self, condition) -> None:
        async with asyncio.timeout(40):
            while not condition():  # noqa: ASYNC110 - processes set no events
                await asyncio.sleep(0.01)

    async def exit_code(self) -> int:
        async with asyncio.timeout(40):
            return await self.task


@pytest.fixture
def running(tmp_path, journal):
    return Running(tmp_path, journal)


async def test_ready_means_that_every_child_is_ready(running):
    running.start("alpha", "beta")
    await running.until_ready()
    assert "alpha ready in" in running.told.getvalue()
    assert "beta ready in" in running.told.getvalue()
    running.supervisor.stop()
    assert await running.exit_code() == 0


async def test_a_child_waits_for_those_it_comes_after(running):
    running.start("late", "early", after={"late": ["early"]})
    await running.until_ready()
    assert running.journal.events() == ["started early", "started late"]
    told = running.told.getvalue()
    assert told.index("early ready") < told.index("late ready")
    running.supervisor.stop()
    assert await running.exit_code() == 0


async def test_a_killed_child_comes_back_and_the_others_are_left_alone(running):
    running.start("alpha", "beta")
    await running.until_ready()
    (alpha,), (beta,) = running.journal.pids("alpha"), running.journal.pids("beta")
    os.kill(alpha, signal.SIGKILL)
    await running.until(lambda: "alpha ready again" in running.told.getvalue())
    assert len(running.journal.pids("alpha")) == 2
    assert running.journal.pids("beta") == [beta]
    assert "alpha was killed by SIGKILL; starting it again in 0.0 s" in running.told.getvalue()
    running.supervisor.stop()
    assert await running.exit_code() == 0


async def test_a_child_that_dies_before_it_is_ready_is_tried_again(running, monkeypatch):
    monkeypatch.setenv("FAKE_ALPHA", "crash-once")
    running.start("alpha")
    await running.until_ready()
    assert "alpha exited with code 1 before it was ready" in running.told.getvalue()
    running.supervisor.stop()
    assert await running.exit_code() == 0


async def test_too_many_deaths_stop_everything_and_show_the_log(running, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_ALPHA", "crash")
    running.start("alpha", "beta")
    assert await running.exit_code() == 1
    told = running.told.getvalue()
    assert "alpha exited with code 1, 3 times within 60 s: giving up" in told
    assert str(tmp_path / "alpha.log") in told
    assert "| ERROR cannot go on code=E42" in told
    assert len(running.journal.pids("alpha")) == 3
    assert "stopped beta" in running.journal.events()


async def test_wrong_settings_are_told_and_not_tried_again(running, monkeypatch):
    monkeypatch.setenv("FAKE_ALPHA", "settings")
    running.start("alpha", "beta")
    assert await running.exit_code() == 2
    assert "| mobot: MOBOT_COLOUR: no mobot process reads this variable" in running.told.getvalue()
    assert len(running.journal.pids("alpha")) == 1
    assert not running.journal.alive()


async def test_stages_are_stopped_one_after_the_other(running, monkeypatch):
    monkeypatch.setenv("FAKE_EDGE", "slow")
    running.start("service", "edge", "router", stages={"edge": 0, "router": 1, "service": 2})
    await running.until_ready()
    running.supervisor.stop()
    assert await running.exit_code() == 0
    assert running.journal.events()[3:] == [
        *("stopping edge", "stopped edge"),
        *("stopping router", "stopped router"),
        *("stopping service", "stopped service"),
    ]


async def test_ctrl_c_reaches_the_supervisor_alone_and_drains(running):
    running.start("alpha")
    await running.until_ready()
    os.kill(os.getpid(), signal.SIGINT)
    assert await running.exit_code() == 0
    assert running.journal.events() == ["started alpha", "stopping alpha", "stopped alpha"]


async def test_a_child_that_does_not_drain_is_killed(running, monkeypatch):
    monkeypatch.setenv("FAKE_ALPHA", "stubborn")
    running.start("alpha", policy=RestartPolicy(stop_grace_s=0.2))
    await running.until_ready()
    running.supervisor.stop()
    assert await running.exit_code() == 0
    assert "alpha did not stop within 0.2 s: killed" in running.told.getvalue()


async def test_a_second_ctrl_c_stops_at_once(running, monkeypatch):
    monkeypatch.setenv("FAKE_ALPHA", "stubborn")
    running.start("alpha")
    await running.until_ready()
    running.supervisor.stop()
    await running.until(lambda: "stopping alpha" in running.journal.events())
    running.supervisor.stop()
    assert await running.exit_code() == 130


async def test_a_child_that_never_becomes_ready_counts_as_dead(running, monkeypatch):
    monkeypatch.setenv("FAKE_ALPHA", "mute")
    running.start("alpha", policy=RestartPolicy(first_delay_s=0.01, give_up_deaths=2, start_timeout_s=0.5))
    assert await running.exit_code() == 1
    assert "alpha was not ready within 0.5 s; killing it" in running.told.getvalue()


async def test_stopping_while_children_start_leaves_none(running):
    running.start("alpha", "beta", "gamma")
    await running.until(lambda: running.journal.pids())
    running.supervisor.stop()
    assert await running.exit_code() == 0
    assert not running.journal.alive()
