"""Learns of changed and deleted bots as they happen, so that nobody's mail is taken for a bot that is gone."""

import asyncio
import logging

import grpc.aio

from chassis.waiting import within
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from router_service.bots import Bots

_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 15.0

_log = logging.getLogger(__name__)


class BotWatch:
    """Keeps `Bots` up to date from the registry's watch. Without it a bot's settings are up to `bot_cache_s` old."""

    def __init__(self, registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub", bots: Bots) -> None:
        self._registry = registry
        self._bots = bots
        self._closing = asyncio.Event()
        self._token = ""
        self._delay_s = _FIRST_RETRY_S
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while not self._closing.is_set():
            self._reading = asyncio.create_task(self._read())
            try:
                await asyncio.shield(self._reading)
            except grpc.aio.AioRpcError as error:
                _log.debug("watch of bots ended", extra={"code": error.code().name})
                if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
                    self._token = ""
            except asyncio.CancelledError:
                if not self._closing.is_set():
                    await self._stop()
                    raise
            await within(self._delay_s, self._closing.wait())
            self._delay_s = min(2 * self._delay_s, _LAST_RETRY_S)
        await self._stop()

    def close(self) -> None:
        self._closing.set()
        if self._reading is not None:
            self._reading.cancel()

    async def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        call = self._registry.WatchBots(registry_service_pb2.WatchBotsRequest(resume_token=self._token))
        try:
            async for frame in call:
                self._delay_s = _FIRST_RETRY_S
                if frame.phase == registry_service_pb2.WATCH_PHASE_RESET:
                    self._bots.expire_all()
                for change in frame.changes:
                    if change.HasField("bot"):
                        self._bots.learn(change.bot)
                    elif change.HasField("removed_bot"):
                        self._bots.forget(change.removed_bot)
                self._token = frame.resume_token or self._token
        finally:
            call.cancel()
