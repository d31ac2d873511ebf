"""A worker that does what the first word of its mail says: `python -m ledger.mobot.worker NAME`."""

import asyncio
import os
import signal
import sys

from bot_sdk.errors import Permanent, Retryable
from bot_sdk.model import Effect
from bot_sdk.steps import ToolAnswer, ToolRequest
from bot_sdk.turn import Turn
from bot_sdk.worker import Worker
from chassis.channel import Dialer
from ledger.mobot.names import BOTS, MAIL, answer_to
from ledger.model import Kind

_PIECES = 4


class Bot:
    """Answers in pieces, with a pause between them, so that death comes in the middle of answers too.

    `payments` is a descriptor of the world outside: what is written there nobody takes back.
    """

    def __init__(self, payments: int) -> None:
        self._payments = payments

    async def work(self, turn: Turn) -> str | None:
        task = MAIL.match(turn.message.text)
        if task is None:
            return None  # an answer to something this bot asked: read, and not answered
        kind, number = Kind(task[1]), int(task[2])
        if kind is Kind.FLAKY and turn.attempt == 1:
            raise Retryable("the first attempt fails", retry_after_s=0.02)
        if kind is Kind.BROKEN:
            raise Permanent("it never works", reason="BROKEN")
        if kind is Kind.DECIDE:
            await turn.call_tool(ToolRequest("pay", "{}", Effect.ONCE), lambda: self._pay(number, turn.attempt))
        answered = [number, *(int(mail[2]) for message in turn.collected if (mail := MAIL.match(message.text)))]
        for piece in range(_PIECES):
            turn.stream(f"({piece}) ")
            await asyncio.sleep(0.005)
            answered += [int(mail[2]) for text in turn.take_steering() if (mail := MAIL.match(text))]
        await turn.reply(answer_to(answered))
        return None

    async def _pay(self, number: int, attempt: int) -> ToolAnswer:
        os.write(self._payments, f"{number}\n".encode())
        if attempt == 1:
            raise Retryable("the payment's answer did not come", retry_after_s=0.02)
        return ToolAnswer("paid")


async def main(name: str) -> None:
    targets = {
        service: os.environ[f"LEDGER_{service.upper()}"] for service in ("registry", "session", "memory", "router")
    }
    dialer = Dialer(targets, token=os.environ["LEDGER_TOKEN"], actor=None)
    bot = Bot(os.open(os.environ["LEDGER_PAYMENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    worker = Worker(dialer, worker_id=name, handlers=dict.fromkeys(BOTS, bot.work), concurrency=200)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
    try:
        await worker.run()
    finally:
        await dialer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
