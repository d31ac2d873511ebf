"""A worker: one process that serves bots, from registration to drain."""

import asyncio
import logging
from collections.abc import Iterator, Mapping

from bot_sdk.appends import AppendQueue
from bot_sdk.attachment import Attachment
from bot_sdk.deltas import DeltaPublisher
from bot_sdk.errors import WorkerReplaced
from bot_sdk.meters import TurnMeters
from bot_sdk.model import BotProfile
from bot_sdk.registration import BotLoad, Registration, WorkerIdentity, software_version
from bot_sdk.runs import STOP_GRACE_S, Handler, Runs
from bot_sdk.stubs import Dials, Stubs
from chassis import errors, resource_names
from chassis.waiting import within

CONCURRENCY = 100
GRACE_S = 5.0
_SETTLE_S = 2.0
_LEAVE_S = 1.0

_log = logging.getLogger("mobot.sdk.worker")


class Worker:
    """Serves bots with handlers. `run` does everything; `drain` makes it end.

    Deliveries go to handlers as they come, up to `concurrency` at once over all bots and one at a time per session.
    """

    def __init__(
        self,
        dialer: Dials,
        *,
        worker_id: str,
        handlers: Mapping[str, Handler] | None = None,
        concurrency: int = CONCURRENCY,
        grace_s: float = GRACE_S,
        stop_grace_s: float = STOP_GRACE_S,
        software: str = "",
        labels: Mapping[str, str] | None = None,
        meters: TurnMeters | None = None,
    ) -> None:
        """`handlers` are by bot id ("main"). `grace_s` is how long turns may take to end when the worker drains.

        `stop_grace_s` is how long a handler may take to end once its turn was stopped, before it is left alone.
        `meters` counts the turns and tool calls of this worker.
        """
        resource_names.check_worker_id(worker_id)
        stubs = Stubs(dialer)
        self._grace_s = grace_s
        self._handlers: dict[str, Handler] = {}
        self._problems: dict[str, str] = {}
        self._profiles: dict[str, BotProfile] = {}
        self._appends = AppendQueue(stubs)
        self._deltas = DeltaPublisher(stubs)
        self._registration = Registration(
            stubs,
            WorkerIdentity(worker_id, concurrency, software or software_version("bot_sdk"), labels=labels),
            loads=self._loads,
            on_profile=self._learn,
            on_removed=self._removed,
            on_drain=self._drain_ordered,
        )
        self._runs = Runs(
            stubs,
            self._appends,
            self._deltas,
            handlers=self._handlers,
            profiles=self._profiles,
            on_load=self._registration.load_changed,
            meters=meters or TurnMeters(),
            stop_grace_s=stop_grace_s,
        )
        self._attachment = Attachment(
            stubs, self._registration.worker, self._runs, credit=concurrency, bots=lambda: list(self._handlers)
        )
        self._stopping = asyncio.Event()
        for bot, handler in (handlers or {}).items():
            self.serve(bot, handler)

    @property
    def name(self) -> str:
        """`workers/{worker}`."""
        return self._registration.worker

    @property
    def working(self) -> int:
        """Turns that are worked on now."""
        return self._runs.working

    def serve(self, bot: str, handler: Handler, *, problem: str = "") -> None:
        """Serves `bot` (an id) from now on, or with another handler from its next turn on.

        `problem` says in one sentence why its brain cannot take turns; the bot is shown as degraded then.
        """
        name = resource_names.bot_name(bot)
        self._handlers[name] = handler
        self._problems[name] = problem
        self._tell_bots()

    def withdraw(self, bot: str) -> None:
        """Serves `bot` (an id) no more. Turns in flight end by themselves."""
        name = resource_names.bot_name(bot)
        if self._handlers.pop(name, None) is not None:
            self._problems.pop(name, None)
            self._tell_bots()

    def drain(self) -> None:
        """Takes no more work and makes `run` return when what is in flight has ended or was handed back."""
        self._stopping.set()

    async def registered(self) -> None:
        """Returns once the registry knows this worker."""
        await self._registration.registered.wait()

    async def attached(self) -> None:
        """Returns once the router hands out work to this worker."""
        await self._attachment.attached.wait()

    async def run(self) -> None:
        """Serves until it is drained.

        Raises:
            WorkerReplaced: another process attached under the same worker id.
            chassis.errors.AppError: registry or router refuse this worker for good.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._runs.start(tasks, self._attachment)
                pumps = [
                    tasks.create_task(self._registration.run(), name="registration"),
                    tasks.create_task(self._appends.run(), name="appends"),
                    tasks.create_task(self._deltas.run(), name="deltas"),
                    tasks.create_task(self._attach(), name="attachment"),
                ]
                await self._stopping.wait()
                await self._drain()
                for pump in pumps:
                    pump.cancel()
        except* (errors.AppError, WorkerReplaced) as group:
            # One cause ends a worker; what else failed meanwhile failed because of it.
            raise next(_leaves(group)) from None

    async def _attach(self) -> None:
        await self._registration.registered.wait()
        await self._attachment.run()

    async def _drain(self) -> None:
        _log.info("draining", extra={"worker": self.name, "in_flight": self._runs.working})
        self._registration.drain()
        self._attachment.drain()
        # A turn that began while the queues below it are being taken down would wait for them for ever.
        self._runs.drain()
        if not await within(self._grace_s, self._runs.all_ended()):
            self._runs.hand_back()
            await within(self._grace_s, self._runs.all_ended())
        await within(_SETTLE_S, self._attachment.all_settled())
        if self._registration.registered.is_set():
            self._registration.leave()
            await within(_LEAVE_S, self._registration.left.wait())

    def _tell_bots(self) -> None:
        self._registration.changed()
        self._attachment.bots_changed()

    def _loads(self) -> dict[str, BotLoad]:
        return {bot: BotLoad(self._runs.in_flight(bot), self._problems.get(bot, "")) for bot in self._handlers}

    def _learn(self, profile: BotProfile) -> None:
        self._profiles[profile.name] = profile

    def _removed(self, bot: str) -> None:
        _log.warning("bot is not to be served", extra={"bot": bot})
        if self._handlers.pop(bot, None) is not None:
            self._problems.pop(bot, None)
            self._attachment.bots_changed()

    def _drain_ordered(self, detail: str) -> None:
        """An operator's order: no new work, but the process stays, so that it can be told otherwise by a restart."""
        _log.info("drained by order", extra={"worker": self.name, "detail": detail})
        self._attachment.drain()


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
