"""The runner's process: settings, signals, and the one place where things are put together."""

import asyncio
import contextlib
import logging
import signal

from bot_runner.host import RunnerHost
from bot_runner.settings import RunnerSettings
from bot_sdk.errors import WorkerReplaced
from chassis import logs
from chassis.channel import Dialer
from chassis.lifeline import Lifeline
from chassis.metrics_endpoint import open_metrics
from chassis.settings import ChassisSettings, TargetSettings, load, root_token
from chassis.telemetry import Telemetry

EXIT_REPLACED = 3
"""Exit code when another process runs under the same worker id."""

_log = logging.getLogger("mobot.runner")


async def serve(line: Lifeline) -> int:
    """Runs the runner until it is drained and returns the exit code.

    Raises:
        SettingsError: a setting breaks its rule.
        chassis.errors.AppError: the port of its metrics is taken, or registry or router refuse this worker for good.
    """
    settings = load(RunnerSettings)
    chassis = load(ChassisSettings)
    logs.configure("runner", level=chassis.log_level, json=chassis.log_json)
    actor = f"workers/{settings.worker()}"
    async with contextlib.AsyncExitStack() as opened:
        dialer = Dialer(load(TargetSettings).targets(), token=root_token(chassis), actor=actor)
        opened.push_async_callback(dialer.close)
        telemetry = Telemetry("runner")
        host = RunnerHost(dialer, settings, grace_s=chassis.grace_s, meters=telemetry.registry)
        await open_metrics("runner", settings, chassis, telemetry, opened)
        return await _run(host, line, actor)


async def _run(host: RunnerHost, line: Lifeline, actor: str) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.drain)
    telling = asyncio.create_task(_tell_ready(host, line), name="ready")
    try:
        await host.run()
    except WorkerReplaced:
        _log.error("another process runs under this worker id", extra={"worker": actor})
        return EXIT_REPLACED
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    return 0


async def _tell_ready(host: RunnerHost, line: Lifeline) -> None:
    await host.ready()
    line.ready()
