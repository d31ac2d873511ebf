"""From the registry's bots to the runner's."""

from bot_runner.hosted_bot import BrainSettings, EchoSettings, HostedBot, OpenaiSettings
from bot_sdk import convert as sdk_convert
from mobot.registry.v1 import bot_pb2

_TIMEOUT_S = 120.0
_CONTEXT_TOKENS = 32_768
_TOOL_ROUNDS = 25
_RETRIES = 2
_RECALL_TOKENS = 1_024


def to_hosted_bot(bot: bot_pb2.Bot) -> HostedBot | None:
    """The bot as this runner hosts it; None when it is not to be hosted here or not now."""
    brain = _brain(bot.brain)
    enabled = bot.enabled if bot.HasField("enabled") else True
    if brain is None or not enabled or bot.suspended or bot.lifecycle != bot_pb2.BOT_LIFECYCLE_ACTIVE:
        return None
    memory = bot.memory
    return HostedBot(
        profile=sdk_convert.to_profile(bot),
        brain=brain,
        tools=tuple(bot.tools),
        recall=memory.recall if memory.HasField("recall") else True,
        recall_budget_tokens=(
            memory.recall_budget_tokens if memory.HasField("recall_budget_tokens") else _RECALL_TOKENS
        ),
        reflection=memory.reflection,
    )


def _brain(brain: bot_pb2.Brain) -> BrainSettings | None:
    kind = brain.WhichOneof("settings")
    if kind == "echo":
        delay = brain.echo.word_delay
        return EchoSettings(delay.ToNanoseconds() / 1e9 if brain.echo.HasField("word_delay") else None)
    if kind == "openai":
        return _openai(brain.openai)
    return None


def _openai(openai: bot_pb2.OpenaiBrain) -> OpenaiSettings:
    return OpenaiSettings(
        base_url=openai.base_url,
        model=openai.model,
        api_key_env=openai.api_key_env,
        temperature=openai.temperature if openai.HasField("temperature") else None,
        top_p=openai.top_p if openai.HasField("top_p") else None,
        max_output_tokens=openai.max_output_tokens,
        timeout_s=openai.timeout.ToNanoseconds() / 1e9 if openai.HasField("timeout") else _TIMEOUT_S,
        context_window_tokens=openai.context_window_tokens or _CONTEXT_TOKENS,
        max_tool_rounds=openai.max_tool_rounds or _TOOL_ROUNDS,
        reasoning_effort=openai.reasoning_effort,
        max_retries=openai.max_retries if openai.HasField("max_retries") else _RETRIES,
    )
