"""A process that dies around a commit: everything it acknowledged is there, and nothing is there in part."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_nothing_acknowledged_is_lost_when_the_process_dies(database_url, moment, open_notebook):
    acknowledged = set()
    for commits in (1, 7, 20):
        victim = subprocess.run(
            [sys.executable, "kill_victim.py", database_url, moment, str(commits)],
            cwd=Path(__file__).parent, stdout=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
        assert victim.returncode == 9
        acknowledged |= {int(line) for line in victim.stdout.split(b"\n")[:-1]}
    stored = await (await open_notebook()).stored()
    assert acknowledged
    assert acknowledged <= set(stored)
    assert stored == list(range(len(stored)))
