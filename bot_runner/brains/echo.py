"""A brain without a model: it repeats what it is told, word by word, so that everything can be tried offline.

A few words make it use its tools as a model would; `help` lists them.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson

from bot_runner.hosted_bot import HostedBot
from bot_runner.tools.catalog import tools_of
from bot_sdk.errors import Permanent, Retryable
from bot_sdk.mail import TASK_TYPE
from bot_sdk.steps import Json
from bot_sdk.turn import Turn

ASK_TIMEOUT_S = 30
MAX_COUNT = 1_000

HELP = """\
I am {name}, an echo: I repeat what you say. I also understand:
- send scout: hello (mail to another bot or session, without waiting)
- ask scout: hello (the same, and waits for the reply)
- remember the sky is blue / recall sky / memories / forget ID
- note human: likes tea (into a block that is always before me) / blocks
- spawn count to 3 (a child session does it, and its result comes here as a message)
- sessions / history / agents / status
- count 20 (slowly, to try stopping me)
- fail / retry (to see how a run ends badly, or is tried again)"""

_WITH_WORDS = frozenset({"remember", "recall", "forget", "history", "spawn"})
_MAIL = re.compile(r"(send|ask) +([^\s:]+(?::[^\s:]+)*) *: *(.+)", re.IGNORECASE | re.DOTALL)
_NOTE = re.compile(r"note +([a-z0-9][a-z0-9_-]{0,63}) *: *(.+)", re.IGNORECASE | re.DOTALL)
_COUNT = re.compile(r"count +(\d{1,4})", re.IGNORECASE)


class EchoBrain:
    """Makes the answers of one bot. `word_delay_s` is the pause before each word after the first."""

    def __init__(self, bot: HostedBot, *, word_delay_s: float) -> None:
        self._name = bot.profile.title
        self._tools = tools_of(bot.tools)
        self._word_delay_s = word_delay_s
        self._commands: dict[str, Callable[[Turn, str], Awaitable[str]]] = {
            "help": self._help,
            "/help": self._help,
            "remember": self._remember,
            "recall": self._recall,
            "memories": self._memories,
            "forget": self._forget,
            "blocks": self._blocks,
            "spawn": self._spawn,
            "agents": self._agents,
            "status": self._status,
            "sessions": self._sessions,
            "history": self._history,
            "fail": self._fail,
            "retry": self._retry,
        }

    async def __call__(self, turn: Turn) -> None:
        await self._speak(turn, await self._answer(turn))

    async def _answer(self, turn: Turn) -> str:
        text = turn.text.strip()
        if turn.message.from_session and turn.message.type != TASK_TYPE:
            # Another bot's words are no commands: what it says must not make us act.
            return f"{self._name} here. {turn.message.source} says: {text}"
        mail = _MAIL.fullmatch(text)
        if mail is not None:
            return await self._mail(turn, mail[1].lower() == "ask", mail[2], mail[3].strip())
        note = _NOTE.fullmatch(text)
        if note is not None:
            return await self._note(turn, note[1].lower(), note[2].strip())
        count = _COUNT.fullmatch(text)
        if count is not None:
            return " ".join(str(number) for number in range(1, min(int(count[1]), MAX_COUNT) + 1))
        word, _, rest = text.partition(" ")
        command = self._commands.get(word.lower())
        if command is not None and (word.lower() in _WITH_WORDS) == bool(rest.strip()):
            return await command(turn, rest.strip())
        if text.lower() == "history":
            return await self._history(turn, "")
        return f"{self._name} here. You said: {text}"

    async def _speak(self, turn: Turn, text: str) -> None:
        """Streams word by word; white space stays as it is."""
        for number, word in enumerate(re.findall(r"\s*\S+", text)):
            if number and self._word_delay_s:
                await asyncio.sleep(self._word_delay_s)
            turn.stream(word)
        await turn.reply(text, model="mobot/echo")

    async def _mail(self, turn: Turn, ask: bool, to: str, message: str) -> str:
        arguments: dict[str, Json] = {"message": message, "timeoutSeconds": ASK_TIMEOUT_S if ask else 0}
        arguments["sessionKey" if ":" in to else "agentId"] = to
        result = await self._use(turn, "sessions_send", arguments)
        status = result.get("status")
        if status == "accepted":
            return f"Sent to {result['sessionKey']} (run {result['runId']}). It is delivered; I did not wait."
        if status == "ok":
            return f"{result['sessionKey']} replied: {result['reply']}"
        if status == "timeout":
            return f"{result['sessionKey']} got it and has not replied yet (run {result['runId']})."
        return f"That did not work: {result.get('error') or status}"

    async def _remember(self, turn: Turn, text: str) -> str:
        result = await self._use(turn, "memory_save", {"text": text})
        return f"I will remember: {text}" if result["status"] == "ok" else f"That did not work: {result['error']}"

    async def _recall(self, turn: Turn, query: str) -> str:
        result = await self._use(turn, "memory_search", {"query": query})
        if "error" in result:
            return f"That did not work: {result['error']}"
        found = [f"- {memory['text']}" for memory in result["results"]]
        return "\n".join(["I remember:", *found]) if found else f"I remember nothing about {query}."

    async def _memories(self, turn: Turn, _: str) -> str:
        result = await self._use(turn, "memory_list", {"limit": 20})
        if "error" in result:
            return f"That did not work: {result['error']}"
        rows = [f"- {row['text']} ({row['memory'].rpartition('/')[2]})" for row in result["memories"]]
        return "\n".join(["I remember:", *rows]) if rows else "I remember nothing yet."

    async def _forget(self, turn: Turn, memory: str) -> str:
        result = await self._use(turn, "memory_forget", {"memory": memory})
        return f"Forgotten: {memory}" if result["status"] == "ok" else f"That did not work: {result['error']}"

    async def _note(self, turn: Turn, block: str, text: str) -> str:
        known = any(each.id == block for each in await turn.memory.blocks())
        action = "append" if known else "write"
        result = await self._use(turn, "block_edit", {"block": block, "action": action, "text": text})
        return f"{block}: {result['text']}" if result["status"] == "ok" else f"That did not work: {result['error']}"

    async def _blocks(self, turn: Turn, _: str) -> str:
        blocks = [f"{block.id}: {block.text}" for block in await turn.memory.blocks()]
        return "\n".join(blocks) if blocks else "I have no blocks."

    async def _spawn(self, turn: Turn, task: str) -> str:
        result = await self._use(turn, "sessions_spawn", {"task": task})
        if "error" in result:
            return f"That did not work: {result['error']}"
        return f"{result['childSessionKey']} works on it; its result comes here."

    async def _agents(self, turn: Turn, _: str) -> str:
        result = await self._use(turn, "agents_list", {})
        if "error" in result:
            return f"That did not work: {result['error']}"
        return "\n".join(f"- {agent['id']}: {agent['name']} ({agent['state']})" for agent in result["agents"])

    async def _status(self, turn: Turn, _: str) -> str:
        result = await self._use(turn, "session_status", {})
        if "error" in result:
            return f"That did not work: {result['error']}"
        return f"{result['key']}: {result['messageCount']} messages, {result['queued']} waiting"

    async def _sessions(self, turn: Turn, _: str) -> str:
        result = await self._use(turn, "sessions_list", {"limit": 20})
        if "error" in result:
            return f"That did not work: {result['error']}"
        rows = [f"- {row['key']} ({row['status']})" for row in result["sessions"]]
        return "\n".join([f"I have {result['total']} sessions:", *rows])

    async def _history(self, turn: Turn, reference: str) -> str:
        result = await self._use(turn, "sessions_history", {"sessionKey": reference, "limit": 10})
        if "error" in result:
            return f"That did not work: {result['error']}"
        lines = [f"- {line['role']}: {line['text'][:200]}" for line in result["messages"]]
        return "\n".join([f"The newest of {result['sessionKey']}:", *lines])

    async def _help(self, _turn: Turn, _: str) -> str:
        return HELP.format(name=self._name)

    async def _fail(self, _turn: Turn, _: str) -> str:
        raise Permanent("you asked me to fail", reason="ECHO_FAILED")

    async def _retry(self, turn: Turn, _: str) -> str:
        if turn.attempt == 1:
            raise Retryable("you asked me to fail once", reason="ECHO_RETRIED")
        return f"This is attempt {turn.attempt}."

    async def _use(self, turn: Turn, tool: str, arguments: dict[str, Json]) -> dict[str, Any]:
        known = self._tools.get(tool)
        if known is None:
            return {"status": "error", "error": f"I may not use {tool}"}
        return cast(dict[str, Any], orjson.loads((await known.call(turn, arguments)).text))
