"""The runner as a process: its settings, its end, its size."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from chassis import lifeline

pytestmark = pytest.mark.e2e


def start(data_dir: Path, *, inherited: tuple[int, ...] = (), **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOBOT_")}
    nowhere = {
        f"MOBOT_{service}_TARGET": f"unix:{data_dir}/x" for service in ("REGISTRY", "SESSION", "MEMORY", "ROUTER")
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bot_runner"],
        env={**environment, "MOBOT_DATA_DIR": str(data_dir), "MOBOT_TOKEN": "secret", **nowhere, **variables},
        pass_fds=inherited,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_wrong_setting_is_told_by_its_variable(tmp_path):
    process = start(tmp_path, MOBOT_RUNNER_CONCURRENCY="many", MOBOT_RUNNER_CONCURENCY="5")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "MOBOT_RUNNER_CONCURRENCY=many" in errors
    assert "did you mean MOBOT_RUNNER_CONCURRENCY?" in errors
    assert "Traceback" not in errors


def test_it_waits_for_services_that_are_away_and_drains_on_sigterm_all_the_same(tmp_path):
    process = start(tmp_path)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "watch broken" in line
    size_mb = psutil.Process(process.pid).memory_info().rss / 1024 / 1024
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert size_mb < 80


def test_it_ends_when_its_supervisor_is_gone(tmp_path):
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    process = start(tmp_path, inherited=(fd,), **{lifeline.ENVIRONMENT_VARIABLE: str(fd)})
    theirs.close()
    assert process.stderr is not None
    process.stderr.readline()
    ours.close()
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 0, errors
