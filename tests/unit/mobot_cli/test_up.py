"""The real `mobot up --isolated`, with fakes in the place of the six processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mobot_cli import instance
from mobot_cli.layout import Layout

FAKE_PROCESS = Path(__file__).with_name("fake_process.py")
SERVICES = ("registry", "session", "memory", "router")
MODULES = {**{f"{name}_service": name for name in SERVICES}, "gateway": "gateway", "bot_runner": "runner"}


def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        time.sleep(0.01)


class Up:
    """One data directory, and the `mobot up` processes started on it."""

    def __init__(self, tmp_path: Path, journal) -> None:
        self.data_dir = tmp_path / "data"
        self.journal = journal
        self._output = tmp_path / "output"
        modules = tmp_path / "modules"
        modules.mkdir()
        for module, name in MODULES.items():
            (modules / f"{module}.py").write_text(
                f"import sys; sys.path.insert(0, {str(FAKE_PROCESS.parent)!r})\n"
                f"import fake_process\nfake_process.main({name!r})\n"
            )
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(modules),
            "MOBOT_TOKEN": "t0ken",
            "MOBOT_PORT": "0",
            **{f"MOBOT_{name.upper()}_PORT": "0" for name in SERVICES},
        }
        self.started: list[subprocess.Popen] = []

    def start(self, *flags: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "mobot_cli", "up", "--isolated", "--no-demo"]
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), *flags], env=self.environment, stdout=output, stderr=output
            )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """A command that returns."""
        command = [sys.executable, "-m", "mobot_cli", *arguments, "--data-dir", str(self.data_dir)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)

    def start_until_ready(self) -> subprocess.Popen:
        process = self.start()
        eventually(lambda: "Ctrl-C" in self.output() or process.poll() is not None)
        assert process.poll() is None, self.output()
        return process

    def output(self) -> str:
        return self._output.read_text()


@pytest.fixture
def up(tmp_path, journal):
    made = Up(tmp_path, journal)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
    made.run("down")  # one that was detached belongs to nobody
    eventually(lambda: not journal.alive())


def test_up_says_what_to_open_and_ctrl_c_ends_with_zero(up):
    process = up.start_until_ready()
    output = up.output()
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/#token=t0ken", output)
    assert int(port) > 0
    assert f"openclaw tui --url ws://127.0.0.1:{port} --token t0ken" in output
    assert re.search(r"registry 127\.0\.0\.1:[1-9]\d*, session 127\.0\.0\.1:[1-9]", output)
    # Typed as the shell would find this very program: by name, or by its path from where the person is.
    typed = re.search(rf'MOBOT_DATA_DIR={re.escape(str(up.data_dir))} (\S+) send main "hello"', output)
    assert typed is not None
    assert shutil.which(typed.group(1)) is not None
    assert instance.addresses(Layout(up.data_dir))["gateway"] == f"127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert not instance.addresses(Layout(up.data_dir))
    stopped = [line.split()[1] for line in up.journal.events() if line.startswith("stopped")]
    assert set(stopped[:2]) == {"gateway", "runner"}
    assert stopped[2] == "router"


def test_a_second_start_on_the_same_data_is_refused_and_names_the_first(up):
    first = up.start_until_ready()
    second = up.start()
    assert second.wait(10) == 1
    assert f"mobot is already running on {up.data_dir} (pid {first.pid})" in up.output()
    assert first.poll() is None


def test_killing_the_supervisor_leaves_no_children_and_a_new_start_waits_for_them(up):
    up.environment["FAKE_ROUTER"] = "stubborn"
    first = up.start_until_ready()
    children = up.journal.pids()
    first.kill()
    first.wait()
    up.environment["FAKE_ROUTER"] = "serve"
    second = up.start()
    eventually(lambda: len(up.journal.pids()) == 2 * len(MODULES))
    assert not set(children) & set(up.journal.alive())
    assert second.poll() is None


def test_a_port_in_use_is_named_with_its_setting(up):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up.environment["MOBOT_MEMORY_PORT"] = str(port)
        assert up.start().wait(10) == 2
    assert f"port {port} on 127.0.0.1, wanted by memory, is in use" in up.output()
    assert "MOBOT_MEMORY_PORT" in up.output()
    assert not up.journal.pids()


def test_a_data_directory_that_cannot_be_made_is_told(up):
    up.data_dir.write_text("a file")
    assert up.start().wait(10) == 2
    assert f"data directory {up.data_dir} cannot be used" in up.output()
    assert "Traceback" not in up.output()


def test_settings_that_a_process_refuses_end_the_start_with_two(up):
    up.environment["FAKE_SESSION"] = "settings"
    assert up.start().wait(10) == 2
    assert "session cannot start with these settings" in up.output()


def test_children_write_to_their_logs(up):
    up.environment["FAKE_MEMORY"] = "crash-once"
    up.start_until_ready()
    assert "cannot go on" in (up.data_dir / "logs" / "memory.log").read_text()
    assert up.data_dir.stat().st_mode & 0o077 == 0


def test_detached_it_returns_when_ready_and_down_stops_it(up, journal):
    result = up.run("up", "--isolated", "--no-demo", "--detach")
    assert result.returncode == 0, result.stderr
    assert "#token=t0ken" in result.stdout
    assert re.search(rf"MOBOT_DATA_DIR={re.escape(str(up.data_dir))} \S+ down", result.stdout)
    assert len(journal.alive()) == len(MODULES)
    down = up.run("down")
    assert (down.returncode, down.stdout.split()[0]) == (0, "stopped")
    assert not journal.alive()
    assert up.run("down").stdout == f"mobot is not running on {up.data_dir}\n"


def test_detached_it_says_why_it_did_not_start(up):
    up.environment["FAKE_SESSION"] = "settings"
    result = up.run("up", "--isolated", "--no-demo", "--detach")
    assert result.returncode == 2
    assert "MOBOT_COLOUR: no mobot process reads this variable" in result.stderr
