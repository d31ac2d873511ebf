"""What a hosted bot is told of its memory before a turn, as its settings say."""

from bot_runner.hosted_bot import HostedBot
from bot_sdk.model import Recollection
from bot_sdk.turn import Turn


async def recall(turn: Turn, bot: HostedBot) -> Recollection:
    """Every block, and unless the bot's settings forbid it the memories that fit the message within the budget."""
    budget_tokens = bot.recall_budget_tokens if bot.recall else 0
    return await turn.memory.recall(turn.text, budget_tokens=budget_tokens)
