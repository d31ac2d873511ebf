"""A journal in which fake processes write what happens to them, and a way to wait for it."""

import os
from pathlib import Path

import pytest


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Journal:
    """What the fake processes wrote: lines of (event, name, pid)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[tuple[str, str, int]]:
        return [
            (event, name, int(pid))
            for event, name, pid in (line.split() for line in self.path.read_text().splitlines())
        ]

    def events(self) -> list[str]:
        """As "stopped gateway", in the order in which they happened."""
        return [f"{event} {name}" for event, name, _ in self.lines()]

    def pids(self, name: str | None = None) -> list[int]:
        return [pid for event, who, pid in self.lines() if event == "started" and name in (None, who)]

    def alive(self) -> list[int]:
        """The fake processes that still run."""
        return [pid for pid in self.pids() if _alive(pid)]


@pytest.fixture
def journal(tmp_path, monkeypatch) -> Journal:
    made = Journal(tmp_path / "journal")
    monkeypatch.setenv("FAKE_JOURNAL", str(made.path))
    yield made
    left = made.alive()
    for pid in left:
        os.kill(pid, 9)
    assert not left, "fake processes were left behind"
