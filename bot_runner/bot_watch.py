"""Which bots are configured, live: a watch of the registry that survives its restarts."""

import asyncio
import logging
import time
from collections.abc import Callable

import grpc.aio

from bot_runner.convert import to_hosted_bot
from bot_runner.hosted_bot import HostedBot
from bot_sdk.backoff import Backoff
from bot_sdk.stubs import Stubs
from chassis import errors, status
from mobot.registry.v1 import bot_pb2, registry_service_pb2

_STEADY_S = 5.0
_FATAL = (errors.Unauthenticated, errors.PermissionDenied, errors.Unimplemented)

_log = logging.getLogger("mobot.runner.watch")


class BotWatch:
    """`run` keeps the watch; its owner is the host."""

    def __init__(self, stubs: Stubs, *, only: tuple[str, ...], on_bots: Callable[[dict[str, HostedBot]], None]) -> None:
        """`only`: ids of the bots to host, all when empty. `on_bots` gets all bots to host, whenever they change."""
        self._stubs = stubs
        self._only = only
        self._on_bots = on_bots
        self._bots: dict[str, HostedBot] = {}
        self._snapshot: dict[str, HostedBot] | None = None
        self._resume_token = ""
        self.known = asyncio.Event()
        """Set once every bot that exists has been told."""

    async def run(self) -> None:
        """Watches until it is cancelled.

        Raises:
            chassis.errors.AppError: the registry refuses the watch for good.
        """
        backoff = Backoff()
        while True:
            opened_at = time.monotonic()
            self._snapshot = None
            call = self._stubs.registry.WatchBots(self._request())
            try:
                async for frame in call:
                    self._read(frame)
            except grpc.aio.AioRpcError as error:
                self._broken(status.from_rpc_error(error))
            finally:
                call.cancel()
            if time.monotonic() - opened_at > _STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    def _request(self) -> registry_service_pb2.WatchBotsRequest:
        return registry_service_pb2.WatchBotsRequest(
            resume_token=self._resume_token,
            filter=bot_pb2.BotFilter(
                brains=[bot_pb2.BRAIN_KIND_ECHO, bot_pb2.BRAIN_KIND_OPENAI],
                bots=[f"bots/{bot}" for bot in self._only],
            ),
        )

    def _broken(self, error: errors.AppError) -> None:
        _log.warning("watch broken", extra={"reason": error.reason or error.code})
        if isinstance(error, _FATAL):
            raise error
        if error.reason in ("WATCH_TOKEN_INVALID", "WATCH_TOKEN_TOO_OLD"):
            self._forget()

    def _read(self, frame: registry_service_pb2.WatchBotsResponse) -> None:
        phase = frame.phase
        if phase == registry_service_pb2.WATCH_PHASE_RESET:
            self._forget()
            return
        in_snapshot = phase in (
            registry_service_pb2.WATCH_PHASE_SNAPSHOT,
            registry_service_pb2.WATCH_PHASE_SNAPSHOT_END,
        )
        if in_snapshot and self._snapshot is None:
            # A snapshot tells everything anew: what it does not name is gone.
            self._snapshot = {}
        bots = self._bots if self._snapshot is None else self._snapshot
        for change in frame.changes:
            _apply(bots, change)
        if frame.resume_token:
            self._resume_token = frame.resume_token
        if phase == registry_service_pb2.WATCH_PHASE_SNAPSHOT:
            return
        if self._snapshot is not None:
            self._bots, self._snapshot = self._snapshot, None
        if frame.changes or in_snapshot:
            self._on_bots(dict(self._bots))
        self.known.set()

    def _forget(self) -> None:
        self._resume_token = ""
        self._snapshot = None


def _apply(bots: dict[str, HostedBot], change: registry_service_pb2.RegistryChange) -> None:
    kind = change.WhichOneof("change")
    if kind == "removed_bot":
        bots.pop(change.removed_bot.removeprefix("bots/"), None)
    elif kind == "bot":
        hosted = to_hosted_bot(change.bot)
        bot = change.bot.name.removeprefix("bots/")
        if hosted is None:
            bots.pop(bot, None)
        else:
            bots[bot] = hosted
