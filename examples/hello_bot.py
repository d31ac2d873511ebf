"""A bot that greets. With mobot running: `python examples/hello_bot.py`, then `mobot send hello "good morning"`."""

import asyncio

from bot_sdk.hosting import run_bots
from bot_sdk.turn import Turn


async def hello(turn: Turn) -> str:
    earlier = len(await turn.history())
    answer = f"Hello! You said {turn.text!r}, and before that we said {earlier} things."
    for word in answer.split():
        turn.stream(word + " ")  # shown to whoever watches, at once
        await asyncio.sleep(0.03)
    return answer  # committed: this is the reply


if __name__ == "__main__":
    run_bots({"hello": hello})
