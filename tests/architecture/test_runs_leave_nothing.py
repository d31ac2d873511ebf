"""The watch over what runs leave behind works: each kind of it fails a run that would else have passed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).resolve().parents[1]


def run(folder: Path, source: str) -> tuple[int, str]:
    """Exit code and output of a run of one file of tests."""
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tidiness", "--tidiness-patience=0", "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_tidy_run_passes(tmp_path):
    source = (
        "import tempfile\ndef test_it(tmp_path):\n    with tempfile.TemporaryDirectory(): (tmp_path / 'x').touch()\n"
    )
    code, said = run(tmp_path, source)
    assert code == 0, said
    assert "LEFT BEHIND" not in said


@pytest.mark.parametrize(
    ("leaves", "told"),
    [
        ("import tempfile; tempfile.mkdtemp(prefix='forgotten-')", "forgotten-"),
        ("import socket; pytest.held = socket.create_server(('127.0.0.1', 0))", "listening socket 127.0.0.1:"),
    ],
)
def test_what_is_left_fails_the_run_and_is_named_with_the_test(tmp_path, leaves, told):
    code, said = run(tmp_path, f"import pytest\ndef test_it():\n    {leaves}\n")
    assert code == 1
    assert "1 passed" in said
    assert told in said.partition("LEFT BEHIND")[2]
    assert "forgotten" not in told or "test_it.py::test_it" in said.partition("LEFT BEHIND")[2]


def test_a_process_that_outlives_the_run_is_named_and_ended(tmp_path):
    process = "subprocess.Popen(['sleep', '3600'], start_new_session=True, stdout=subprocess.DEVNULL)"
    source = f"import subprocess\ndef test_it():\n    print({process}.pid, file=open('pid', 'w'))\n"
    code, said = run(tmp_path, source)
    assert code == 1
    pid = int((tmp_path / "pid").read_text())
    assert f"process {pid}: sleep 3600" in said.partition("LEFT BEHIND")[2]
    gone, _ = psutil.wait_procs([left for left in psutil.process_iter() if left.pid == pid], timeout=30)
    assert not psutil.pid_exists(pid) or gone
