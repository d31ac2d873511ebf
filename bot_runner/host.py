"""The runner: one worker, and a brain for each bot that the registry configures."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from bot_runner.bot_watch import BotWatch
from bot_runner.brains.distilling import distil_by_rules
from bot_runner.brains.echo import EchoBrain
from bot_runner.brains.openai import OpenaiBrain, missing_key
from bot_runner.hosted_bot import EchoSettings, HostedBot, OpenaiSettings
from bot_runner.meters import ModelMeters
from bot_runner.reflection import Distil, Reflecting
from bot_runner.settings import RunnerSettings
from bot_sdk.meters import TurnMeters
from bot_sdk.registration import software_version
from bot_sdk.stubs import Dials, Stubs
from bot_sdk.turn import Turn
from bot_sdk.worker import Worker

Brain = Callable[[Turn], Awaitable[str | None]]

_log = logging.getLogger("mobot.runner.host")


class RunnerHost:
    """`run` does everything; `drain` makes it end."""

    def __init__(
        self, dialer: Dials, settings: RunnerSettings, *, grace_s: float, meters: CollectorRegistry | None = None
    ) -> None:
        """`grace_s`: how long turns may take to end when it drains, before they are handed back.

        What is counted of turns, tools and models is added to `meters`.
        """
        self._settings = settings
        self._worker = Worker(
            dialer,
            worker_id=settings.worker(),
            concurrency=settings.concurrency,
            grace_s=grace_s,
            software=software_version("bot_runner"),
            meters=TurnMeters(meters),
        )
        self._model_meters = ModelMeters(meters)
        self._watch = BotWatch(Stubs(dialer), only=settings.bots, on_bots=self._host)
        self._hosted: dict[str, HostedBot] = {}
        self._closing: list[OpenaiBrain] = []
        self._stopping = asyncio.Event()

    @property
    def worker(self) -> Worker:
        return self._worker

    def drain(self) -> None:
        self._stopping.set()
        self._worker.drain()

    async def ready(self) -> None:
        """Returns once this worker is registered and knows its bots."""
        await self._watch.known.wait()
        await self._worker.registered()

    async def run(self) -> None:
        """Hosts bots until it is drained.

        Raises:
            bot_sdk.errors.WorkerReplaced: another process has taken this worker's name.
            chassis.errors.AppError: registry or router refuse this worker for good.
        """
        watching = asyncio.create_task(self._watch.run(), name="bot watch")
        working = asyncio.create_task(self._work(), name="worker")
        try:
            await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            await working
        finally:
            for task in (watching, working):
                task.cancel()
            await asyncio.gather(watching, working, return_exceptions=True)
            for brain in self._closing:
                await brain.close()

    async def _work(self) -> None:
        # The worker registers with its bots rather than with none and a change a moment later.
        known = asyncio.ensure_future(self._watch.known.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([known, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            known.cancel()
            stopping.cancel()
        await self._worker.run()

    def _host(self, bots: dict[str, HostedBot]) -> None:
        """Makes the worker serve exactly `bots`. A brain is made anew only for a bot that changed."""
        for bot in self._hosted.keys() - bots.keys():
            _log.info("bot stopped", extra={"bot": bot})
            self._worker.withdraw(bot)
        for bot, hosted in bots.items():
            if self._hosted.get(bot) != hosted:
                _log.info("bot configured", extra={"bot": bot, "brain": type(hosted.brain).__name__})
                brain, problem = self._brain(hosted)
                self._worker.serve(bot, brain, problem=problem)
        self._hosted = bots

    def _brain(self, bot: HostedBot) -> tuple[Brain, str]:
        """The brain, and in one sentence why it cannot take turns, if it cannot."""
        if isinstance(bot.brain, EchoSettings):
            delay_s = bot.brain.word_delay_s
            word_delay_s = self._settings.echo_word_delay_s if delay_s is None else delay_s
            return _reflecting(bot, EchoBrain(bot, word_delay_s=word_delay_s), distil_by_rules), ""
        return self._openai(bot, bot.brain)

    def _openai(self, bot: HostedBot, settings: OpenaiSettings) -> tuple[Brain, str]:
        brain = OpenaiBrain(bot, settings, meters=self._model_meters)
        # Turns of a brain that was replaced may still use it, so all are closed together at the end.
        self._closing.append(brain)
        return _reflecting(bot, brain, brain.distil), missing_key(settings)


def _reflecting(bot: HostedBot, brain: Brain, distil: Distil) -> Brain:
    return Reflecting(brain, distil) if bot.reflection else brain
