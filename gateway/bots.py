"""The bots clients can talk to, as the registry knows them: cached for a moment, asked for once at a time."""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeAlias

from gateway.shapes import split_model
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc

RegistryStub: TypeAlias = "registry_service_pb2_grpc.RegistryServiceAsyncStub"

_FRESH_S = 1.0
_PAGE_SIZE = 1000
_DEFAULT_CONTEXT_TOKENS = 32_768


class Bots:
    """What ListBots says, at most a second old."""

    def __init__(self, registry: RegistryStub, default_bot: str) -> None:
        self.default_bot = default_bot
        self._registry = registry
        self._bots: tuple[bot_pb2.Bot, ...] = ()
        self._fetched_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def all(self) -> Sequence[bot_pb2.Bot]:
        """Every bot that is not deleted, sorted by name. Raises AioRpcError when the registry cannot be asked."""
        async with self._fetching:
            if time.monotonic() - self._fetched_s > _FRESH_S:
                self._bots = await self._fetch()
                self._fetched_s = time.monotonic()
            return self._bots

    async def warm(self) -> None:
        """Asks once at the beginning, so that `model` and `defaults` know something. Cheap ever after."""
        if self._fetched_s == float("-inf"):
            await self.all()

    def find(self, bot: str) -> bot_pb2.Bot | None:
        """A bot among those fetched last, by its id."""
        name = f"bots/{bot}"
        return next((known for known in self._bots if known.name == name), None)

    def model(self, bot: str) -> str:
        """ "provider/model" of a bot's brain; "mobot/unknown" for one that is not known (yet)."""
        known = self.find(bot)
        return model_of(known) if known else "mobot/unknown"

    def defaults(self) -> dict[str, object]:
        """`defaults` of list and history answers: those of the default bot."""
        provider, model = split_model(self.model(self.default_bot))
        known = self.find(self.default_bot)
        return {
            "modelProvider": provider,
            "model": model,
            "contextTokens": context_tokens_of(known) if known else _DEFAULT_CONTEXT_TOKENS,
        }

    async def _fetch(self) -> tuple[bot_pb2.Bot, ...]:
        found: list[bot_pb2.Bot] = []
        token = ""
        while True:
            response = await self._registry.ListBots(
                registry_service_pb2.ListBotsRequest(page_size=_PAGE_SIZE, page_token=token)
            )
            found.extend(response.bots)
            token = response.next_page_token
            if not token:
                return tuple(found)


def model_of(bot: bot_pb2.Bot) -> str:
    """ "provider/model": clients do not let a person write to an agent without one."""
    brain = bot.brain
    match brain.WhichOneof("settings"):
        case "echo":
            return "mobot/echo"
        case "openai":
            return f"openai/{brain.openai.model or 'model'}"
        case "worker":
            return _qualified(brain.worker.model, "mobot/worker")
        case "openclaw":
            return _qualified(brain.openclaw.model, f"openclaw/{brain.openclaw.agent_id or 'agent'}")
        case _:
            return "mobot/worker"


def context_tokens_of(bot: bot_pb2.Bot) -> int:
    return int(bot.brain.openai.context_window_tokens) or _DEFAULT_CONTEXT_TOKENS


def _qualified(model: str, fallback: str) -> str:
    if not model:
        return fallback
    return model if "/" in model else f"mobot/{model}"
