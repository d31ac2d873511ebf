"""One child: what it says in its first moment is not missed."""

import asyncio
import sys

from mobot_cli.child import Child, ChildSpec


async def test_what_a_process_said_before_its_start_was_seen_is_its_last_line(tmp_path, monkeypatch):
    start = asyncio.create_subprocess_exec

    async def started_and_ended(*command, **settings):
        process = await start(*command, **settings)
        await process.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started_and_ended)
    log_file = tmp_path / "alpha.log"
    log_file.write_text("what an earlier one said\n")
    child = await Child.start(ChildSpec("alpha", [sys.executable, "-c", "print('no such setting')"], log_file))
    assert await child.ended() == 0
    child.close()
    assert child.last_lines(5) == ["no such setting"]
