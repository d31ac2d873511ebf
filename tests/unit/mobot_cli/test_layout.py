import os
import tempfile
from pathlib import Path

import pytest

from mobot_cli import preflight
from mobot_cli.layout import SOCKET_PATH_LIMIT_BYTES, Layout, layout_of


def test_the_flag_wins_over_the_environment_and_the_environment_over_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert layout_of("there", {"MOBOT_DATA_DIR": "/data"}).data_dir == Path.cwd() / "there"
    assert layout_of(None, {"MOBOT_DATA_DIR": "~/data"}).data_dir == Path("/home/ann/data")
    assert layout_of(None, {}).data_dir == Path("/home/ann/.mobot")


def test_sockets_lie_in_the_data_directory():
    assert Layout(Path("/data")).target("router") == "unix:/data/run/router.sock"


@pytest.mark.parametrize("name", ["d" * 120, "ü" * 60])
def test_a_long_data_directory_has_short_sockets_that_are_its_own(name):
    layout, other = Layout(Path("/data") / name), Layout(Path("/data") / f"{name}2")
    assert len(os.fsencode(layout.socket("registry"))) <= SOCKET_PATH_LIMIT_BYTES
    assert layout.run_dir.is_relative_to(tempfile.gettempdir())
    assert layout.run_dir == Layout(Path("/data") / name).run_dir
    assert layout.run_dir != other.run_dir


def test_all_sockets_lie_together_whatever_their_names_lengths():
    for length in range(70, 110):
        layout = Layout(Path("/" + "d" * length))
        sockets = [layout.socket(service) for service in ("registry", "session", "memory", "router")]
        assert {socket.parent for socket in sockets} == {layout.run_dir}
        assert max(len(os.fsencode(socket)) for socket in sockets) <= SOCKET_PATH_LIMIT_BYTES


def test_the_short_directory_must_be_private(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layout = Layout(tmp_path / ("d" * 120))
    preflight.prepare(layout)
    assert layout.run_dir.stat().st_mode & 0o777 == 0o700
    layout.run_dir.chmod(0o755)
    with pytest.raises(preflight.CannotStart, match="directory of this user alone"):
        preflight.prepare(layout)


def test_a_symbolic_link_in_its_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layout = Layout(tmp_path / ("d" * 120))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    layout.run_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(preflight.CannotStart, match="directory of this user alone"):
        preflight.prepare(layout)
