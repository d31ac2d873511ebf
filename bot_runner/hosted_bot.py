"""A bot as the runner hosts it: its profile, its brain's settings, its tools."""

from dataclasses import dataclass
from typing import TypeAlias

from bot_sdk.model import BotProfile


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """`word_delay_s` is the pause before each word; None leaves it to the runner."""

    word_delay_s: float | None


@dataclass(frozen=True, slots=True)
class OpenaiSettings:
    """An OpenAI-compatible endpoint. `api_key_env` names a variable of the runner; 0 and None mean the default."""

    base_url: str
    model: str
    api_key_env: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int = 0
    timeout_s: float = 120.0
    context_window_tokens: int = 32_768
    max_tool_rounds: int = 25
    reasoning_effort: str = ""
    max_retries: int = 2


BrainSettings: TypeAlias = EchoSettings | OpenaiSettings


@dataclass(frozen=True, slots=True)
class HostedBot:
    """Everything a brain is made from. Two equal ones need no new brain."""

    profile: BotProfile
    brain: BrainSettings
    tools: tuple[str, ...] = ()
    recall: bool = True
    recall_budget_tokens: int = 1_024
    reflection: bool = False
