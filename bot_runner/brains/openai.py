"""A brain behind an OpenAI-compatible endpoint: rounds of streamed answers and tool calls until the model is done.

Every tool call and every text before one is committed as it happens. A retried run hands all of that to the model
again and goes on behind it, so nothing is asked or done twice.

This module is light; what needs pydantic-ai is in `openai_model`, imported with the first turn.
"""

import asyncio
import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from bot_runner.brains import distilling
from bot_runner.hosted_bot import HostedBot, OpenaiSettings
from bot_runner.meters import ModelMeters
from bot_runner.recall import recall
from bot_runner.reflection import Fact
from bot_runner.tools.catalog import tools_of
from bot_runner.tools.tool import Tool
from bot_sdk.errors import Permanent, TurnFailed
from bot_sdk.mail import TASK_TYPE
from bot_sdk.model import Consumption, Entry, Recollection, Said
from bot_sdk.steps import CommittedCall, ToolAnswer
from bot_sdk.turn import Turn
from chassis import resource_names

if TYPE_CHECKING:
    from bot_runner.brains.openai_model import ChatModel, Round, Transcript

KEY_MISSING = "MODEL_KEY_MISSING"
REPLY_SKIP = "REPLY_SKIP"
"""What a model answers that has nothing to say to another bot: so two bots need not thank each other for ever."""
_KNOWN = 10
_MAX_CONTEXT_BYTES = 8 * 1024 * 1024


def missing_key(settings: OpenaiSettings, environment: Mapping[str, str] = os.environ) -> str:
    """In one sentence that the key is not there; empty when it is, or none is needed."""
    if settings.api_key_env and not environment.get(settings.api_key_env):
        return f"the runner has no variable {settings.api_key_env}, which should hold the key for {settings.base_url}"
    return ""


class OpenaiBrain:
    """Makes the answers of one bot."""

    def __init__(
        self,
        bot: HostedBot,
        settings: OpenaiSettings,
        *,
        meters: ModelMeters,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._bot = bot
        self._settings = settings
        self._meters = meters
        self._environment = environment
        self._tools = tools_of(bot.tools)
        self._model: ChatModel | None = None
        self._loading = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connections to the endpoint."""
        if self._model is not None:
            await self._model.close()

    async def __call__(self, turn: Turn) -> None:
        model = await self._load()
        recalled = await recall(turn, self._bot)
        context = await turn.context(max_bytes=min(self._settings.context_window_tokens * 4, _MAX_CONTEXT_BYTES))
        transcript = model.transcript(
            instructions=self._instructions(turn, recalled),
            summary=context.summary,
            history=context.history,
            message=replace(turn.message, text=turn.text, source="" if _is_task(turn) else turn.message.source),
        )
        used = Consumption()
        if await self._go_on_behind(turn, transcript):
            return
        for left in reversed(range(self._settings.max_tool_rounds + 1)):
            # In the last round the model gets no tools, so that it has to answer.
            answer = await self._ask(model, transcript, self._tools if left else {}, turn.stream)
            used = _sum(used, answer)
            if not answer.calls:
                steering = turn.take_steering() if left else []
                if not steering:
                    await self._reply(turn, answer, used)
                    return
                # Somebody spoke into the turn: what was said stands, and the model answers that too.
                await turn.say()
                transcript.add_answer(answer)
                transcript.add_inbound(steering)
                continue
            if turn.streamed:
                await turn.say()
            if await self._use_tools(turn, transcript, answer, used):
                return
            transcript.add_inbound(turn.take_steering())

    async def distil(self, turn: Turn, talk: Sequence[Entry]) -> Sequence[Fact]:
        """What is worth remembering of a run, as the model sees it."""
        said = "\n".join(entry.text for entry in talk if isinstance(entry, Said))
        if not said.strip():
            return ()
        model = await self._load()
        known = await turn.memory.search(said, limit=_KNOWN)
        exchange = distilling.told(talk, [memory.text for memory in known])
        transcript = model.transcript(
            instructions=distilling.INSTRUCTIONS,
            summary="",
            history=(),
            message=replace(turn.message, text=exchange, source=""),
        )
        pieces: list[str] = []
        await self._ask(model, transcript, {}, pieces.append)
        return distilling.facts_in("".join(pieces))

    async def _ask(
        self, model: "ChatModel", transcript: "Transcript", tools: Mapping[str, Tool[Any]], show: Callable[[str], None]
    ) -> "Round":
        """One round, counted with what it consumed, whatever becomes of the turn."""
        began = time.perf_counter()
        try:
            answer = await model.ask(transcript, tools, show)
        except TurnFailed as error:
            self._meters.failed(time.perf_counter() - began, error.reason)
            raise
        except asyncio.CancelledError:
            self._meters.failed(time.perf_counter() - began, "CANCELLED")
            raise
        self._meters.answered(time.perf_counter() - began, answer.used)
        return answer

    async def _load(self) -> "ChatModel":
        async with self._loading:
            if self._model is None:
                problem = missing_key(self._settings, self._environment)
                if problem:
                    raise Permanent(problem, reason=KEY_MISSING)
                # Two seconds of imports must not stop the other bots of this process.
                module = await asyncio.to_thread(importlib.import_module, "bot_runner.brains.openai_model")
                key = self._environment.get(self._settings.api_key_env, "") if self._settings.api_key_env else ""
                self._model = module.ChatModel(self._settings, api_key=key)
            model: ChatModel = self._model
            return model

    async def _go_on_behind(self, turn: Turn, transcript: "Transcript") -> bool:
        """Puts what earlier attempts committed behind the message, and ends what they left without a result.

        True when an earlier attempt ended the turn with a tool.
        """
        for step in await turn.committed():
            if not isinstance(step, CommittedCall):
                transcript.add_said(step.text)
                continue
            tool = self._tools.get(step.request.tool)
            result = step.result
            if result is None and tool is not None:
                result = await tool.call(
                    turn, step.request.arguments_json, call_id=step.request.call_id, step=step.request.step
                )
            if result is not None:
                transcript.add_call(step.request, result)
                if tool is not None and tool.ends_turn and not result.is_error:
                    await self._yield(turn, result, Consumption())
                    return True
        return False

    async def _use_tools(self, turn: Turn, transcript: "Transcript", answer: "Round", used: Consumption) -> bool:
        """Makes the calls. True when one of them ends the turn."""
        transcript.add_answer(answer)
        ending: ToolAnswer | None = None
        for call in answer.calls:
            tool = self._tools.get(call.tool)
            if tool is None:
                transcript.add_unknown_tool(call, sorted(self._tools))
                continue
            result = await tool.call(turn, call.arguments_json, call_id=call.call_id)
            transcript.add_result(call, result)
            if tool.ends_turn and not result.is_error:
                ending = result
        if ending is None:
            return False
        await self._yield(turn, ending, used)
        return True

    async def _yield(self, turn: Turn, ending: ToolAnswer, used: Consumption) -> None:
        """Ends the turn with what the tool was told to say; the bot goes on when the next message comes."""
        message = orjson.loads(ending.text).get("message", "")
        if message:
            await turn.reply(message, model=f"openai/{self._settings.model}", used=used, stop_reason="yield")
        else:
            turn.skip_reply("yield")

    async def _reply(self, turn: Turn, answer: "Round", used: Consumption) -> None:
        if turn.streamed.strip() == REPLY_SKIP:
            turn.skip_reply()
            return
        await turn.reply(model=f"openai/{self._settings.model}", used=used, stop_reason=answer.stop_reason)

    def _instructions(self, turn: Turn, recalled: Recollection) -> str:
        profile = self._bot.profile
        key = resource_names.parse_session(turn.session).key
        parts = [f"You are {profile.title}, the bot {profile.id!r}. This is your session {key}."]
        if _is_task(turn):
            parts.append(f"You were given a task. Your answer is the result, and goes to {turn.message.source}.")
        elif turn.message.from_session:
            parts.append(
                f"Another bot wrote to you. If nothing needs to be said to it, answer {REPLY_SKIP} and no more."
            )
        return "\n\n".join([*parts, *filter(None, (profile.instructions, recalled.text()))])


def _is_task(turn: Turn) -> bool:
    return turn.message.type == TASK_TYPE


def _sum(used: Consumption, answer: "Round") -> Consumption:
    more = answer.used
    return replace(
        used,
        input_tokens=used.input_tokens + more.input_tokens,
        output_tokens=used.output_tokens + more.output_tokens,
        cache_read_tokens=used.cache_read_tokens + more.cache_read_tokens,
        cache_write_tokens=used.cache_write_tokens + more.cache_write_tokens,
        requests=used.requests + 1,
        tool_calls=used.tool_calls + len(answer.calls),
    )
