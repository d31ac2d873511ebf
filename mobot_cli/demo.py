"""The two bots of the very first start, so that there is somebody to talk to.

`mobot up` runs this once as a process of its own, when everything is ready and the marker file is missing. Bots that a
person made, or deleted, are never touched: nothing happens when the registry knows any other bot, and the marker is
set in any case. A crash between the two bots is mended by the next start: the calls carry fixed request ids.
"""

import asyncio
import uuid

from google.protobuf import duration_pb2

from chassis.channel import Dialer
from chassis.identity import mint_token
from chassis.settings import load, root_token, run_main
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from mobot_cli.layout import Layout
from mobot_cli.settings import CliSettings

# Slow enough to see the answer stream, fast enough not to wait for it.
_WORD_DELAY = duration_pb2.Duration(nanos=30_000_000)

_DEMO_BOTS = {
    "main": bot_pb2.Bot(
        display_name="Mo",
        emoji="🤖",
        description="The bot that is there from the start. It says back what it hears.",
        brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay=_WORD_DELAY)),
    ),
    "scout": bot_pb2.Bot(
        display_name="Scout",
        emoji="🔭",
        description="A second bot, to send mail to.",
        brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain(word_delay=_WORD_DELAY)),
    ),
}


async def make_demo_bots(registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub") -> None:
    """Makes those that are missing, unless the registry has bots of its own."""
    filter_ = bot_pb2.BotFilter(show_deleted=True)
    known = await registry.ListBots(registry_service_pb2.ListBotsRequest(filter=filter_))
    names = {bot.name for bot in known.bots}
    if names - {f"bots/{bot_id}" for bot_id in _DEMO_BOTS}:
        return
    for bot_id, bot in _DEMO_BOTS.items():
        if f"bots/{bot_id}" in names:
            continue
        request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"mobot demo bot {bot_id}"))
        await registry.CreateBot(registry_service_pb2.CreateBotRequest(bot_id=bot_id, bot=bot, request_id=request_id))


async def _run(settings: CliSettings) -> int:
    dialer = Dialer(settings.targets(), token=mint_token(root_token(settings), "operators/root"), actor=None)
    try:
        await make_demo_bots(registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry")))
    finally:
        await dialer.close()
    Layout(settings.data_dir).demo_marker.touch()
    return 0


def main() -> int:
    return asyncio.run(_run(load(CliSettings)))


if __name__ == "__main__":
    run_main(main)
