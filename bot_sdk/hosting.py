"""Runs handlers as a program of their own: settings, signals and a worker, in one call."""

import asyncio
import logging
import platform
import re
import signal
from collections.abc import Mapping
from typing import NoReturn

from bot_sdk.errors import WorkerReplaced
from bot_sdk.runs import Handler
from bot_sdk.stubs import Stubs, answer
from bot_sdk.worker import CONCURRENCY, Worker
from chassis import errors, logs
from chassis.channel import Dialer
from chassis.identity import principal_of
from chassis.settings import ChassisSettings, TargetSettings, load, root_token, run_main
from mobot.registry.v1 import bot_pb2, registry_service_pb2

EXIT_REPLACED = 3
"""Exit code when another process runs under the same worker id."""

_log = logging.getLogger("mobot.sdk")


def run_bots(
    handlers: Mapping[str, Handler], *, worker_id: str = "", concurrency: int = CONCURRENCY, create: bool = True
) -> NoReturn:
    """Serves bots (by id) until SIGTERM or Ctrl-C, and exits.

    Reads MOBOT_DATA_DIR, MOBOT_TOKEN and MOBOT_*_TARGET. `worker_id` must be the same after a restart and another one
    in every process; by default it is made from the first bot and the host's name, and with a token of a worker's own
    it is that worker's. `create` makes the bots that do not exist yet, with a brain of kind `worker`; only the root
    secret can.
    """

    def main() -> int:
        return asyncio.run(_serve(handlers, worker_id or _worker_id(next(iter(handlers))), concurrency, create))

    run_main(main)


async def _serve(handlers: Mapping[str, Handler], worker_id: str, concurrency: int, create: bool) -> int:
    settings = load(ChassisSettings)
    logs.configure(worker_id, level=settings.log_level, json=settings.log_json)
    token = root_token(settings)
    principal = principal_of(token)
    if principal.startswith("workers/"):
        worker_id = principal.removeprefix("workers/")
    # A token of a worker's or a bot's own says by itself who it is; with the root secret it must be said.
    dialer = Dialer(load(TargetSettings).targets(), token=token, actor=None if principal else f"workers/{worker_id}")
    try:
        if create and not principal:
            await create_missing_bots(dialer, handlers)
        worker = Worker(
            dialer, worker_id=worker_id, handlers=handlers, concurrency=concurrency, grace_s=settings.grace_s
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.drain)
        await worker.run()
    except WorkerReplaced:
        _log.error("another process runs under this worker id", extra={"worker": worker_id})
        return EXIT_REPLACED
    finally:
        await dialer.close()
    return 0


async def create_missing_bots(dialer: Dialer, bots: Mapping[str, Handler]) -> None:
    """Makes the bots (by id) that do not exist yet; their answers come from whoever attaches for them."""
    registry = Stubs(dialer).registry
    # Made for the operator who runs the program: a worker's own identity may not make bots.
    metadata = (("mobot-actor", "operators/root"),)
    for bot in bots:
        draft = bot_pb2.Bot(brain=bot_pb2.Brain(worker=bot_pb2.WorkerBrain()))
        request = registry_service_pb2.CreateBotRequest(bot_id=bot, bot=draft)
        try:
            await answer(registry.CreateBot(request, metadata=metadata, wait_for_ready=True))
        except errors.AlreadyExists:
            continue
        _log.info("bot created", extra={"bot": bot})


def _worker_id(bot: str) -> str:
    host = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", platform.node())[:60].strip("-.")
    return f"{bot}-{host}" if host else bot
