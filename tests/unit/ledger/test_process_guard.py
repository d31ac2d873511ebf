"""What the ledger or a benchmark starts does not outlive it, not even when it is killed."""

import asyncio
import signal
import sys
import time

import psutil
import pytest

PATIENCE_S = 60
STARTER = """
import asyncio, sys, {module}

async def main():
{body}

asyncio.run(main())
"""
# A parent with a child of its own in the same group, both asleep until somebody ends them.
FAMILY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
BENCHMARK = f"""
    process = await benchmarks.processes.launch(sys.executable, "-c", {FAMILY!r})
    print(process.pid, flush=True)
    await process.wait()
"""
LEDGER = f"""
    from pathlib import Path
    kept = ledger.processes.Kept("family", [sys.executable, "-c", {FAMILY!r}], {{}}, Path(sys.argv[1]))
    kept.start()
    while kept.pid is None:
        await asyncio.sleep(0.01)
    print(kept.pid, flush=True)
    await asyncio.Event().wait()
"""


async def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


def lives(process):
    """Whether it runs; one that nobody has reaped yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("module", "body"), [("benchmarks.processes", BENCHMARK), ("ledger.processes", LEDGER)], ids=["benchmark", "ledger"]
)
async def test_a_killed_starter_leaves_nothing_behind(module, body, tmp_path):
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER.format(module=module, body=body), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    family = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            parent = psutil.Process(int(await starter.stdout.readline()))
        family.append(parent)
        await until(parent.children)
        family += parent.children()
        parent.send_signal(signal.SIGSTOP)  # what is stopped hears of nothing
        starter.kill()
        await until(lambda: not any(map(lives, family)))
    finally:
        for process in filter(lives, family):
            process.kill()
        await starter.communicate()  # until nobody holds its output any more
