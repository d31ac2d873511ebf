"""What `mobot up` says and how it exits when it cannot start: one clear message, the right code, no stack trace."""

import contextlib
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from harness import SERVICES, Finished, Mobot, run_mobot, running
from stock import StockClient

from benchmarks.openclaw_peer import Installation

pytestmark = pytest.mark.e2e

CANNOT_WORK = 2
NOT_NOW = 1

Spoil = Callable[[Mobot], AbstractContextManager[object]]


def up(mobot: Mobot, *flags: str, **settings: str) -> Finished:
    """`mobot up` that is expected to end by itself."""
    return run_mobot(mobot, "up", *flags, timeout_s=60, **settings)


@contextlib.contextmanager
def data_dir_is_a_file(mobot: Mobot) -> Iterator[None]:
    mobot.data_dir.write_text("not a directory")
    yield


@contextlib.contextmanager
def data_dir_is_below_a_file(mobot: Mobot) -> Iterator[None]:
    file = mobot.directory / "file"
    file.write_text("")
    mobot.settings = {"MOBOT_DATA_DIR": str(file / "data")}
    yield


@contextlib.contextmanager
def gateway_port_is_taken(mobot: Mobot) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", mobot.ports["gateway"])):
        yield


@contextlib.contextmanager
def router_port_is_taken(mobot: Mobot) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", mobot.ports["router"])):
        yield


def settings_are(**settings: str) -> Spoil:
    @contextlib.contextmanager
    def spoil(mobot: Mobot) -> Iterator[None]:
        mobot.settings = settings
        yield

    return spoil


@contextlib.contextmanager
def token_file_is_empty(mobot: Mobot) -> Iterator[None]:
    mobot.data_dir.mkdir()
    (mobot.data_dir / "token").write_text("")
    yield


REFUSALS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a file in the place of the data directory": (data_dir_is_a_file, ("data directory", "cannot be used")),
    "a file on the way to the data directory": (data_dir_is_below_a_file, ("data directory", "cannot be used")),
    "the gateway's port is taken": (gateway_port_is_taken, ("is in use by another program", "--port")),
    "a service's port is taken": (router_port_is_taken, ("is in use by another program", "MOBOT_ROUTER_PORT")),
    "a port that is no number": (settings_are(MOBOT_PORT="http"), ("MOBOT_PORT=http", "a number from 0 to 65535")),
    "two processes with one port": (
        settings_are(MOBOT_ROUTER_PORT="50999", MOBOT_MEMORY_PORT="50999"),
        ("MOBOT_ROUTER_PORT", "MOBOT_MEMORY_PORT", "each needs a port of its own"),
    ),
    "a misspelt variable": (
        settings_are(MOBOT_GATEWAY_TICK_INTERVALL_S="5"),
        ("MOBOT_GATEWAY_TICK_INTERVALL_S", "did you mean MOBOT_GATEWAY_TICK_INTERVAL_S?"),
    ),
    "a value out of range": (settings_are(MOBOT_ROUTER_MAX_ATTEMPTS="0"), ("MOBOT_ROUTER_MAX_ATTEMPTS=0",)),
    "an empty token file": (token_file_is_empty, ("token", "is empty")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_start_is_refused(case: str, tmp_path: Path) -> None:
    spoil, expected = REFUSALS[case]
    mobot = Mobot(tmp_path)
    with spoil(mobot):
        done = up(mobot)
    assert done.code == CANNOT_WORK, done.said
    for words in expected:
        assert words in done.said
    assert "Traceback" not in done.said


def test_data_of_a_newer_version_is_refused_by_each_service(tmp_path: Path) -> None:
    mobot = Mobot(tmp_path)
    migrated = run_mobot(mobot, "migrate")
    assert migrated.code == 0, migrated.said
    for service in SERVICES:
        revision = _set_revision(mobot, service, "9999_from_the_future")
        done = up(mobot)
        assert done.code == CANNOT_WORK, done.said
        assert f"the data belongs to a newer version of {service}" in done.said
        assert "9999_from_the_future" in done.said
        assert "Traceback" not in done.said
        _set_revision(mobot, service, revision)


def _set_revision(mobot: Mobot, service: str, revision: str) -> str:
    """Writes a database's schema revision; returns the one it had."""
    with contextlib.closing(sqlite3.connect(mobot.data_dir / f"{service}.sqlite3")) as database, database:
        (old,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return str(old)


def test_a_second_mobot_on_the_same_data_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as mobot:
        second = Mobot(tmp_path)
        done = up(second)
        assert done.code == NOT_NOW, done.said
        assert f"mobot is already running on {mobot.data_dir} (pid {mobot.process.pid})" in done.said
        assert "Traceback" not in done.said
        mobot.wait_ready()


def test_wrong_tokens_are_refused_and_named(tmp_path: Path, openclaw: Installation) -> None:
    with running(tmp_path) as mobot:
        ours = run_mobot(mobot, "sessions", MOBOT_TOKEN="wrong-token")
        assert ours.code == 1
        assert "token" in ours.err
        assert "Traceback" not in ours.said

        stock = StockClient(openclaw, tmp_path / "openclaw-home", mobot)
        theirs = stock.try_call("health", token="wrong-token")
        assert theirs.code != 0
        assert "gateway token mismatch" in theirs.said
