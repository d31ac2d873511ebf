import subprocess
import sys
from importlib.metadata import version

import pytest

HEAVY = ("grpc", "sqlalchemy", "pydantic", "rich", "google.protobuf")


def mobot(*arguments):
    """Runs `mobot` and tells which heavy modules it loaded."""
    watch = (
        "import sys, runpy, atexit\n"
        f"atexit.register(lambda: sys.stderr.write('LOADED ' + repr([m for m in {HEAVY!r} if m in sys.modules])))\n"
        "runpy.run_module('mobot_cli', run_name='__main__', alter_sys=True)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", watch, *arguments], input="", capture_output=True, text=True, timeout=40
    )


@pytest.mark.parametrize("arguments", [("--help",), ("up", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(arguments):
    assert "LOADED []" in mobot(*arguments).stderr


def test_the_supervisor_loads_nothing_heavy(tmp_path):
    (tmp_path / "file").touch()
    result = mobot("up", "--data-dir", str(tmp_path / "file"))
    assert "cannot be used" in result.stderr
    assert "LOADED []" in result.stderr


def test_up_has_the_same_flags_however_it_is_called():
    assert mobot("up", "--help").stdout == mobot("--", "up", "--help").stdout
    assert "--isolated" in mobot("up", "--help").stdout


def test_it_tells_its_version():
    result = mobot("--version")
    assert (result.returncode, result.stdout) == (0, f"mobot {version('mobot')}\n")


def test_a_mistyped_command_is_guessed():
    result = mobot("upp")
    assert result.returncode == 2
    assert "Did you mean 'up'?" in result.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_is_none_is_refused(port):
    result = mobot("up", "--port", port)
    assert result.returncode == 2
    assert "--port" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("sessions",), ("bots",), ("send", "main", "hi"), ("history", "main"), ("doctor",)]
)
def test_a_directory_that_was_mistyped_is_named_and_not_made(tmp_path, monkeypatch, arguments):
    monkeypatch.setenv("MOBOT_DATA_DIR", str(tmp_path / "mobto"))
    result = mobot(*arguments)
    assert result.returncode == (1 if arguments == ("doctor",) else 2)
    assert str(tmp_path / "mobto") in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("send", "main", ""), "message"),
        (("send", "main", " \n"), "message"),
        (("send", "main", "-"), "message"),
        (("spawn", "main", ""), "task"),
        (("topics", "publish", "news", ""), "message"),
    ],
)
def test_nothing_to_say_is_not_sent(tmp_path, monkeypatch, arguments, what):
    monkeypatch.setenv("MOBOT_DATA_DIR", str(tmp_path))
    result = mobot(*arguments)
    assert result.returncode == 2
    assert f"the {what} is empty" in result.stderr
