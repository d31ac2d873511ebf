"""`mobot up` with its real processes, in its layouts."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot_cli.layout import SERVICES, Layout

pytestmark = pytest.mark.e2e

TOKEN = "an-e2e-token"


def lives(process):
    """Whether it runs; one that ended and that nobody has asked about yet is still listed, as a zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Mobot:
    """One `mobot up` and what it printed."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.layout = Layout(directory / "data")
        self._output = directory / "output"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MOBOT_")},
            "MOBOT_TOKEN": TOKEN,
            "MOBOT_DATA_DIR": str(self.layout.data_dir),
            "MOBOT_PORT": "0",
            **{f"MOBOT_{service.upper()}_PORT": "0" for service in SERVICES},
        }
        self._flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        self._output.unlink(missing_ok=True)
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mobot_cli", "up", *self._flags, *flags],
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        eventually(lambda: "Ctrl-C" in self.output() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output()

    def output(self) -> str:
        return self._output.read_text()

    def url(self) -> str:
        return re.findall(r"http://127\.0\.0\.1:\d+", self.output())[-1]

    def address(self, service: str) -> str:
        return re.findall(rf"{service} (127\.0\.0\.1:\d+)", self.output())[-1]

    def children(self) -> dict[str, psutil.Process]:
        """The live child processes by the module they run."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found[child.cmdline()[-1]] = child
        return found

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url()}/readyz", timeout=40) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def bots(self) -> list[str]:
        with grpc.insecure_channel(self.address("registry")) as channel:
            registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
            answer = registry.ListBots(
                registry_service_pb2.ListBotsRequest(),
                metadata=[("authorization", f"Bearer {TOKEN}")],
                timeout=40,
                wait_for_ready=True,
            )
            return [bot.name for bot in answer.bots]

    def delete_bot(self, name: str) -> None:
        with grpc.insecure_channel(self.address("registry")) as channel:
            registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
            registry.DeleteBot(
                registry_service_pb2.DeleteBotRequest(name=name),
                metadata=[("authorization", f"Bearer {TOKEN}")],
                timeout=40,
            )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def end(self) -> None:
        if self.process is None:
            return
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def eventually(condition: Callable[[], object], *, within_s: float = 100.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        time.sleep(0.05)


@pytest.fixture
def layout() -> str:
    return ""


@pytest.fixture
def mobot(layout, tmp_path) -> Iterator[Mobot]:
    made = Mobot(tmp_path, *([f"--{layout}"] if layout else []))
    yield made
    made.end()


@pytest.mark.parametrize("layout", ["", "gateway-apart", "isolated"])
def test_it_starts_answers_on_every_port_and_drains(mobot):
    mobot.start()
    assert mobot.is_ready()
    assert mobot.bots() == ["bots/main", "bots/scout"]
    for service in SERVICES:
        with grpc.insecure_channel(mobot.address(service)) as channel:
            name = f"mobot.{service}.v1.{service.capitalize()}Service"
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=40)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert mobot.stop() == 0
    assert "killed" not in mobot.output()


def test_a_deleted_demo_bot_does_not_come_back(mobot):
    mobot.start()
    mobot.delete_bot("bots/scout")
    assert mobot.stop() == 0
    mobot.start()
    assert mobot.bots() == ["bots/main"]
    assert mobot.stop() == 0


@pytest.mark.parametrize("layout", ["", "isolated"])
def test_every_process_that_is_killed_comes_back(mobot):
    mobot.start()
    before = mobot.children()
    for child in before.values():
        child.kill()
    eventually(lambda: mobot.output().count("ready again") == len(before))
    after = mobot.children()
    assert after.keys() == before.keys()
    assert not {child.pid for child in after.values()} & {child.pid for child in before.values()}
    eventually(mobot.is_ready)
    assert mobot.bots() == ["bots/main", "bots/scout"]
    assert mobot.stop() == 0


def test_a_killed_supervisor_takes_all_with_it_and_a_new_start_works(mobot):
    mobot.start()
    children = list(mobot.children().values())
    mobot.process.kill()
    mobot.process.wait()
    mobot.start()
    assert not [child for child in children if lives(child)]
    assert mobot.bots() == ["bots/main", "bots/scout"]
    assert mobot.stop() == 0


def test_data_of_a_newer_version_is_refused_with_two(mobot):
    mobot.start()
    assert mobot.stop() == 0
    with contextlib.closing(sqlite3.connect(mobot.layout.data_dir / "session.sqlite3")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with pytest.raises(AssertionError, match="belongs to a newer version"):
        mobot.start()
    assert mobot.process.wait(30) == 2
    assert "Traceback" not in mobot.output()


def test_a_long_data_directory_works(tmp_path):
    long = tmp_path / ("long" * 25)
    long.mkdir()
    mobot = Mobot(long)
    try:
        mobot.start()
        assert mobot.is_ready()
        assert mobot.stop() == 0
    finally:
        mobot.end()
