"""One OpenAI-compatible endpoint through pydantic-ai: what is sent, what comes back, what can go wrong."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI, Timeout
from pydantic_ai import exceptions
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

from bot_runner.hosted_bot import OpenaiSettings
from bot_runner.tools.redaction import redacted
from bot_runner.tools.tool import Tool
from bot_sdk.errors import Permanent, Retryable, TurnFailed
from bot_sdk.model import Consumption, Entry, InboundMessage, Role, Said, ToolCall, ToolResult
from bot_sdk.steps import ToolAnswer, ToolRequest

_CONNECT_TIMEOUT_S = 10.0
_CHARS_PER_TOKEN = 3  # low on purpose: a context that overflows costs the whole turn
_ANSWER_SHARE = 0.25
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Requested:
    """A tool call that the model wants made."""

    tool: str
    arguments_json: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Round:
    """One answer of the model; with calls it is not the last."""

    parts: Sequence[ModelResponsePart]
    calls: tuple[Requested, ...]
    used: Consumption
    stop_reason: str


class Transcript:
    """The messages of a conversation as the model gets them."""

    def __init__(self, opening: Sequence[ModelMessage]) -> None:
        self.messages: list[ModelMessage] = list(opening)

    def add_said(self, text: str) -> None:
        """The bot said something before it went on."""
        if text:
            self.messages.append(ModelResponse(parts=[TextPart(text)]))

    def add_inbound(self, texts: Sequence[str]) -> None:
        """What was said into the running turn."""
        for text in texts:
            self.messages.append(ModelRequest(parts=[UserPromptPart(text)]))

    def add_call(self, request: ToolRequest, answer: ToolAnswer) -> None:
        """A call of an earlier attempt."""
        call = ToolCallPart(request.tool, request.arguments_json, request.call_id)
        last = self.messages[-1]
        if isinstance(last, ModelResponse):
            # The text before a call and the call are one answer to the model.
            self.messages[-1] = ModelResponse(parts=[*last.parts, call])
        else:
            self.messages.append(ModelResponse(parts=[call]))
        self._add_return(request.tool, request.call_id, answer.text)

    def add_answer(self, answer: Round) -> None:
        """What the model just answered."""
        self.messages.append(ModelResponse(parts=list(answer.parts)))

    def add_result(self, call: Requested, answer: ToolAnswer) -> None:
        self._add_return(call.tool, call.call_id, answer.text)

    def add_unknown_tool(self, call: Requested, known: Sequence[str]) -> None:
        self._add_return(call.tool, call.call_id, f"There is no tool {call.tool}. There are: {', '.join(known)}.")

    def _add_return(self, tool: str, call_id: str, text: str) -> None:
        part = ToolReturnPart(tool_name=tool, content=text, tool_call_id=call_id)
        last = self.messages[-1]
        if isinstance(last, ModelRequest) and all(isinstance(part, ToolReturnPart) for part in last.parts):
            self.messages[-1] = ModelRequest(parts=[*last.parts, part])
        else:
            self.messages.append(ModelRequest(parts=[part]))


class ChatModel:
    """The model of one bot. A call that fails before its first token is tried again as the settings say."""

    def __init__(self, settings: OpenaiSettings, *, api_key: str) -> None:
        self._settings = settings
        self._client = AsyncOpenAI(
            base_url=settings.base_url,
            api_key=api_key or "none",  # the client insists on one; endpoints without keys ignore it
            timeout=Timeout(settings.timeout_s, connect=min(_CONNECT_TIMEOUT_S, settings.timeout_s)),
            max_retries=settings.max_retries,
        )
        self._model = OpenAIChatModel(settings.model, provider=OpenAIProvider(openai_client=self._client))

    async def close(self) -> None:
        await self._client.close()

    def transcript(
        self, *, instructions: str, summary: str, history: Sequence[Entry], message: InboundMessage
    ) -> Transcript:
        """Instructions, what was said before as far as the context window reaches, and the message."""
        request = UserPromptPart(_inbound_text(message))
        window = self._settings.context_window_tokens
        answer_tokens = self._settings.max_output_tokens or int(window * _ANSWER_SHARE)
        budget = max(0, window - answer_tokens) * _CHARS_PER_TOKEN
        budget -= len(instructions) + len(summary) + len(message.text)
        system = instructions + (f"\n\nWhat was said earlier, in short:\n{summary}" if summary else "")
        earlier = _conversation(_newest(history, budget))
        return Transcript([ModelRequest(parts=[SystemPromptPart(system)]), *earlier, ModelRequest(parts=[request])])

    async def ask(self, transcript: Transcript, tools: Mapping[str, Tool[Any]], show: Callable[[str], None]) -> Round:
        """One round: `show` gets the text as it comes.

        Raises:
            Retryable: the endpoint is away, overloaded or slow.
            Permanent: the endpoint refuses the key, the model or the request.
        """
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name, parameters_json_schema=tool.schema(), description=tool.description, strict=False
                )
                for tool in tools.values()
            ]
        )
        try:
            async with model_request_stream(
                self._model,
                transcript.messages,
                model_settings=self._model_settings(),
                model_request_parameters=parameters,
            ) as stream:
                async for event in stream:
                    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                        show(event.part.content)
                    elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                        show(event.delta.content_delta)
                response = stream.get()
        except exceptions.AgentRunError as error:
            raise self._failure(error) from error
        # A connection that ends without the closing chunk looks like the end of an answer, and is none; what the
        # library then gives as the reason to stop is its own guess.
        if not (response.provider_details or {}).get("finish_reason"):
            raise Retryable(f"{self._settings.base_url} broke off in the middle", reason="MODEL_CUT_OFF")
        return _round(response)

    def _model_settings(self) -> OpenAIChatModelSettings:
        settings = self._settings
        chosen = OpenAIChatModelSettings()
        if settings.temperature is not None:
            chosen["temperature"] = settings.temperature
        if settings.top_p is not None:
            chosen["top_p"] = settings.top_p
        if settings.max_output_tokens:
            chosen["max_tokens"] = settings.max_output_tokens
        if settings.reasoning_effort:
            chosen["extra_body"] = {"reasoning_effort": settings.reasoning_effort}
        return chosen

    def _failure(self, error: exceptions.AgentRunError) -> TurnFailed:
        """What went wrong, for a person who may know this endpoint by its address only."""
        settings = self._settings
        where = settings.base_url
        retry_after_s = error.retry_after if isinstance(error, exceptions.ModelAPIError) else None
        key = f"the key in {settings.api_key_env}" if settings.api_key_env else "calls without a key"
        said = redacted(_said(error))
        match error:
            case exceptions.ModelAuthenticationError():
                return Permanent(f"{where} refuses {key}{said}", reason="MODEL_UNAUTHORIZED")
            case exceptions.ModelNotFoundError():
                return Permanent(f"{where} has no model {settings.model}{said}", reason="MODEL_NOT_FOUND")
            case exceptions.ModelQuotaExceededError():
                return Permanent(f"the quota at {where} is used up{said}", reason="MODEL_QUOTA_EXCEEDED")
            case exceptions.ModelContextWindowExceededError():
                return Permanent(f"{settings.model} cannot read that much{said}", reason="MODEL_CONTEXT_EXCEEDED")
            case exceptions.ContentFilterError():
                return Permanent(f"{where} filtered the answer{said}", reason="MODEL_FILTERED")
            case exceptions.ModelRequestRejectedError():
                return Permanent(f"{where} refuses the request{said}", reason="MODEL_REQUEST_REJECTED")
            case exceptions.ModelRateLimitError():
                return Retryable(
                    f"{where} allows no more calls now{said}", reason="MODEL_RATE_LIMITED", retry_after_s=retry_after_s
                )
            case exceptions.ModelTimeoutError() | exceptions.ModelRequestTimeout():
                return Retryable(f"{where} said nothing for {settings.timeout_s:g} s", reason="MODEL_TIMEOUT")
            case exceptions.ModelConnectionError():
                return Retryable(f"{where} cannot be reached", reason="MODEL_UNREACHABLE")
            case exceptions.ModelAPIError():
                return Retryable(f"{where} failed{said}", reason="MODEL_UNAVAILABLE", retry_after_s=retry_after_s)
        return Retryable(f"{where} answered with nonsense{said}", reason="MODEL_ANSWER_INVALID")


def _round(response: ModelResponse) -> Round:
    calls = tuple(
        Requested(part.tool_name, part.args_as_json_str(), part.tool_call_id)
        for part in response.parts
        if isinstance(part, ToolCallPart)
    )
    usage = response.usage
    return Round(
        parts=[part for part in response.parts if isinstance(part, (TextPart, ToolCallPart))],
        calls=calls,
        used=Consumption(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        ),
        stop_reason=response.finish_reason or "stop",
    )


def _newest(history: Sequence[Entry], budget: int) -> Sequence[Entry]:
    """The newest entries whose text fits `budget` characters."""
    for place in range(len(history) - 1, -1, -1):
        entry = history[place]
        budget -= len(entry.arguments_json) if isinstance(entry, ToolCall) else len(entry.text)
        if budget < 0:
            return history[place + 1 :]
    return history


def _conversation(history: Sequence[Entry]) -> list[ModelMessage]:
    """Messages in the order of the log; a call without its result, or a result without its call, is left out."""
    results = {entry.call_id: entry for entry in history if isinstance(entry, ToolResult)}
    messages: list[ModelMessage] = []
    for entry in history:
        if isinstance(entry, Said):
            _append(messages, *_said_part(entry))
        elif isinstance(entry, ToolCall):
            result = results.get(entry.call_id)
            if result is not None and _TOOL_NAME.fullmatch(entry.tool):
                _append(messages, None, ToolCallPart(entry.tool, entry.arguments_json, entry.call_id))
                returned = ToolReturnPart(tool_name=entry.tool, content=result.text, tool_call_id=entry.call_id)
                _append(messages, returned, None)
    return messages


def _said_part(entry: Said) -> tuple[ModelRequestPart | None, ModelResponsePart | None]:
    if not entry.text:
        return None, None
    if entry.role is Role.ASSISTANT:
        return None, TextPart(entry.text + (" [stopped here]" if entry.partial else ""))
    if entry.role is Role.SYSTEM:
        return SystemPromptPart(entry.text), None
    return UserPromptPart(_marked(entry.text, entry.source if entry.inter_session else "")), None


def _append(messages: list[ModelMessage], request: ModelRequestPart | None, response: ModelResponsePart | None) -> None:
    """Adds a part; text and the calls that follow it are one answer."""
    if request is not None:
        messages.append(ModelRequest(parts=[request]))
    if response is not None:
        last = messages[-1] if messages else None
        if isinstance(last, ModelResponse):
            messages[-1] = ModelResponse(parts=[*last.parts, response])
        else:
            messages.append(ModelResponse(parts=[response]))


def _inbound_text(message: InboundMessage) -> str:
    return _marked(message.text, message.source if message.from_session else "")


def _marked(text: str, sender: str) -> str:
    """A message that no person wrote says so, since a model would take its words for its user's."""
    return f"[Message from {sender}: another bot wrote it, not a person]\n{text}" if sender else text


def _said(error: exceptions.AgentRunError) -> str:
    """What the endpoint said of the failure, as far as it is short."""
    body = error.body if isinstance(error, exceptions.ModelAPIError) else None
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(message, str) and message:
            return f": {message[:300]}"
    if isinstance(error, exceptions.ModelHTTPError):
        return f" (HTTP {error.status_code})"
    return ""
