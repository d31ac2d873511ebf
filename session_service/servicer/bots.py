"""Whether a bot exists. The registry knows; a yes is remembered for a few seconds."""

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from chassis.clock import Clock
from mobot.registry.v1 import registry_service_pb2
from session_service.domain.errors import BotNotFound

if TYPE_CHECKING:
    from mobot.registry.v1 import registry_service_pb2_grpc

_MAX_REMEMBERED = 10_000


class BotDirectory:
    """Asks the registry. A no is never remembered, so that a bot can be used as soon as it is created."""

    def __init__(
        self, registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub", *, clock: Clock, remember_s: float
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._remember = timedelta(seconds=remember_s)
        self._known_until: dict[str, float] = {}

    async def check(self, bot: str) -> None:
        """Raises BotNotFound; a registry that cannot be reached is UNAVAILABLE."""
        now = self._clock.now()
        if self._known_until.get(bot, 0.0) > now.timestamp():
            return
        name = f"bots/{bot}"
        try:
            response = await self._registry.GetBot(registry_service_pb2.GetBotRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise BotNotFound(name) from None
            raise
        if response.bot.HasField("delete_time"):
            raise BotNotFound(name)
        if len(self._known_until) >= _MAX_REMEMBERED:
            self._known_until.clear()
        self._known_until[bot] = (now + self._remember).timestamp()
