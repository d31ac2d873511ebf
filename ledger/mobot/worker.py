"""A worker that does what the first word of its mail says: `python -m ledger.mobot.worker NAME`."""

import asyncio
import os
import re
import signal
import sys

from bot_sdk.errors import Permanent, Retryable
from bot_sdk.turn import Turn
from bot_sdk.worker import Worker
from chassis.channel import Dialer
from ledger.mobot.names import BOTS

_TASK = re.compile(r"^(\w+) #(\d+)$")
_PIECES = 4


async def work(turn: Turn) -> str | None:
    """Answers in pieces, with a pause between them, so that death comes in the middle of answers too."""
    task = _TASK.match(turn.text)
    if task is None:
        return None  # an answer to something this bot asked: read, and not answered
    kind, number = task.groups()
    if kind == "flaky" and turn.attempt == 1:
        raise Retryable("the first attempt fails", retry_after_s=0.02)
    if kind == "broken":
        raise Permanent("it never works", reason="BROKEN")
    for piece in range(_PIECES):
        turn.stream(f"({piece}) ")
        await asyncio.sleep(0.005)
    await turn.reply(f"answer #{number}")
    return None


async def main(name: str) -> None:
    targets = {service: os.environ[f"LEDGER_{service.upper()}"] for service in ("registry", "session", "memory", "router")}
    dialer = Dialer(targets, token=os.environ["LEDGER_TOKEN"], actor=None)
    worker = Worker(dialer, worker_id=name, handlers=dict.fromkeys(BOTS, work), concurrency=200)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
    try:
        await worker.run()
    finally:
        await dialer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
