"""Which bots there are, as one of them sees it."""

from bot_sdk import convert
from bot_sdk.model import BotSummary
from bot_sdk.stubs import Stubs, acting_for, answer
from mobot.registry.v1 import registry_service_pb2


class Bots:
    """Asks for `actor`, `bots/{bot}`."""

    def __init__(self, stubs: Stubs, actor: str) -> None:
        self._stubs = stubs
        self._metadata = acting_for(actor)

    async def list(self) -> tuple[BotSummary, ...]:
        """All bots, by id."""
        found: list[BotSummary] = []
        request = registry_service_pb2.ListBotsRequest(page_size=1_000)
        while True:
            response = await answer(self._stubs.registry.ListBots(request, metadata=self._metadata))
            found.extend(map(convert.to_bot_summary, response.bots))
            if not response.next_page_token:
                return tuple(found)
            request.page_token = response.next_page_token
