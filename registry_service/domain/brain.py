"""What produces a bot's answers: one frozen settings class per kind of brain. Durations are in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias


class BrainKind(StrEnum):
    ECHO = "ECHO"
    OPENAI = "OPENAI"
    WORKER = "WORKER"
    OPENCLAW = "OPENCLAW"


@dataclass(frozen=True, slots=True)
class EchoBrain:
    word_delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class OpenaiBrain:
    base_url: str
    model: str
    api_key_env: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int = 0
    timeout_s: float | None = None
    context_window_tokens: int = 0
    max_tool_rounds: int = 0
    reasoning_effort: str = ""
    max_retries: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerBrain:
    """`settings` is a JSON object, handed to the worker unread; None when absent."""

    model: str = ""
    worker_labels: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OpenclawBrain:
    url: str
    token_env: str = ""
    agent_id: str = ""
    timeout_s: float | None = None
    model: str = ""


Brain: TypeAlias = EchoBrain | OpenaiBrain | WorkerBrain | OpenclawBrain


def kind_of(brain: Brain) -> BrainKind:
    match brain:
        case EchoBrain():
            return BrainKind.ECHO
        case OpenaiBrain():
            return BrainKind.OPENAI
        case WorkerBrain():
            return BrainKind.WORKER
        case OpenclawBrain():
            return BrainKind.OPENCLAW
