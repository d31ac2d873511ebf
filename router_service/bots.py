"""What the router knows of bots: a small memory of what the registry says."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import grpc.aio

from chassis.errors import AppError, NotFound, Unavailable
from chassis.status import from_rpc_error
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc, worker_pb2
from router_service.domain.errors import BotDeleted, BotNotFound

DEFAULT_CONCURRENCY = 10
_MAX_REFRESHES = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BotInfo:
    """`works` is False while the bot may not be given work; `concurrency` is how many sessions it works on at once."""

    works: bool = True
    deleted: bool = False
    concurrency: int = DEFAULT_CONCURRENCY
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Bots:
    """Answers from memory for `ttl_s`; what does not exist is asked for each time.

    A bot that was seen before is still served while the registry cannot be reached: mail is not lost for that.
    """

    def __init__(
        self,
        registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub",
        *,
        ttl_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._known: dict[str, tuple[BotInfo, float]] = {}
        self._asking: dict[str, asyncio.Task[BotInfo]] = {}
        # Changes told while a question was on its way: its answer may be older than they are.
        self._changes: dict[str, int] = {}

    def fresh(self, bot: str) -> BotInfo | None:
        """What is known of "bots/main" and not too old."""
        entry = self._known.get(bot)
        if entry is not None and self._monotonic() < entry[1]:
            return entry[0]
        return None

    def last(self, bot: str) -> BotInfo:
        """What was known of the bot last; the defaults for one that was never seen."""
        entry = self._known.get(bot)
        return BotInfo() if entry is None else entry[0]

    async def require(self, bot: str) -> BotInfo:
        """A bot that takes mail.

        Raises:
            NotFound: BOT_NOT_FOUND.
            FailedPrecondition: BOT_DELETED.
            Unavailable: UPSTREAM_UNAVAILABLE; the registry does not answer and the bot was never seen.
        """
        info = self.fresh(bot)
        if info is None:
            info = await self._ask(bot)
        if info.deleted:
            raise BotDeleted(bot)
        return info

    async def refresh(self, bots: Iterable[str]) -> None:
        """Learns what is new about these bots, as far as the registry answers."""
        old = [bot for bot in bots if self.fresh(bot) is None]
        for start in range(0, len(old), _MAX_REFRESHES):
            await asyncio.gather(
                *(self._ask(bot) for bot in old[start : start + _MAX_REFRESHES]), return_exceptions=True
            )

    def learn(self, bot: bot_pb2.Bot) -> None:
        """A bot as it is now; of use for one that was asked for before."""
        if bot.name in self._known:
            self._known[bot.name] = (_info(bot), self._monotonic() + self._ttl_s)
        self._told(bot.name)

    def forget(self, bot: str) -> None:
        """A bot that is gone, or as good as gone: the registry is asked before it gets any more mail."""
        if bot in self._known:
            self._known[bot] = (BotInfo(works=False, deleted=True), 0.0)
        self._told(bot)

    def expire_all(self) -> None:
        """Nothing that is remembered can be trusted any more."""
        self._known = {bot: (info, 0.0) for bot, (info, _) in self._known.items()}
        for bot in self._asking:
            self._told(bot)

    def _told(self, bot: str) -> None:
        if bot in self._asking:
            self._changes[bot] = self._changes.get(bot, 0) + 1

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, bot: str) -> BotInfo:
        # One question for all who want to know: a burst of mail for a new bot asks once.
        task = self._asking.get(bot)
        if task is None:
            task = self._asking[bot] = asyncio.create_task(self._get(bot))
            task.add_done_callback(lambda _: self._answered(bot))
        return await asyncio.shield(task)

    def _answered(self, bot: str) -> None:
        self._asking.pop(bot, None)
        self._changes.pop(bot, None)

    async def _get(self, bot: str) -> BotInfo:
        try:
            answer = await self._registry.GetBot(registry_service_pb2.GetBotRequest(name=bot))
        except grpc.aio.AioRpcError as error:
            return self._without_answer(bot, from_rpc_error(error))
        info = _info(answer.bot)
        until = 0.0 if self._changes.get(bot) else self._monotonic() + self._ttl_s
        self._known[bot] = (info, until)
        return info

    def _without_answer(self, bot: str, error: AppError) -> BotInfo:
        if isinstance(error, NotFound):
            self._known.pop(bot, None)
            raise BotNotFound(bot) from error
        entry = self._known.get(bot)
        if entry is not None:
            _log.warning("registry does not answer", extra={"bot": bot, "reason": error.reason or error.code})
            return entry[0]
        raise Unavailable(
            f"the registry does not answer, and {bot} was not seen before; try again",
            reason="UPSTREAM_UNAVAILABLE",
            metadata={"service": "registry"},
            retry_after_s=1.0,
        ) from error


async def served_bots(
    registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub", worker: str
) -> Collection[str] | None:
    """The bots that a worker serves now, as the registry says; None when it holds no lease."""
    found = (await registry.GetWorker(registry_service_pb2.GetWorkerRequest(name=worker))).worker
    return None if found.state == worker_pb2.WORKER_STATE_OFFLINE else found.bots


def _info(bot: bot_pb2.Bot) -> BotInfo:
    live = bot.lifecycle in (bot_pb2.BOT_LIFECYCLE_UNSPECIFIED, bot_pb2.BOT_LIFECYCLE_ACTIVE)
    enabled = bot.enabled if bot.HasField("enabled") else True
    return BotInfo(
        works=enabled and not bot.suspended,
        deleted=not live,
        concurrency=bot.concurrency or DEFAULT_CONCURRENCY,
        owner=bot.owner,
        labels=dict(bot.labels),
    )
