import os

import pytest

from mobot_cli import instance
from mobot_cli.layout import Layout


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


async def test_the_second_claim_names_the_first_pid(layout):
    held = await instance.claim(layout, patience_s=0)
    assert instance.running_pid(layout) == os.getpid()
    with pytest.raises(instance.AlreadyRunning, match=f"pid {os.getpid()}"):
        await instance.claim(layout, patience_s=0)
    held.release()
    assert instance.running_pid(layout) is None
    (await instance.claim(layout, patience_s=0)).release()


async def test_children_that_remain_are_waited_for_and_then_told(layout):
    held = await instance.claim(layout, patience_s=0)
    of_a_child = os.dup(held.children_lock)
    held.release()
    assert instance.running_pid(layout) is None
    with pytest.raises(instance.ChildrenRemain):
        await instance.claim(layout, patience_s=0.1)
    os.close(of_a_child)
    (await instance.claim(layout, patience_s=0)).release()


def test_nobody_runs_where_nothing_was_ever_started(layout):
    assert instance.running_pid(layout) is None


def test_what_only_a_running_mobot_needs_is_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for layout in (Layout(tmp_path / "data"), Layout(tmp_path / ("long" * 25))):
        layout.run_dir.mkdir(parents=True)
        layout.socket("router").touch()
        instance.say_addresses(layout, {"gateway": "127.0.0.1:18789"})
        instance.clear(layout)
        assert not layout.addresses_file.exists()
        assert layout.run_dir.exists() is layout.run_dir.is_relative_to(layout.data_dir)
        instance.clear(layout)
