"""The gateway process: settings, one composition, serve until told to stop."""

from chassis import lifeline

if __name__ == "__main__":
    _line = lifeline.hold()  # before the slow imports: a child whose supervisor is gone must not linger

import asyncio
import logging
import os
import signal

from chassis import logs
from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.settings import ChassisSettings, TargetSettings, load, root_token, run_main
from chassis.telemetry import Telemetry
from gateway.composition import compose
from gateway.settings import GatewaySettings

logger = logging.getLogger("mobot.gateway")


def main(line: lifeline.Lifeline | None = None) -> None:
    """Serves until SIGTERM or SIGINT. `line` is the process's end of its supervisor's line, if held already."""
    held = line or lifeline.hold()
    run_main(lambda: _main(held))


def _main(line: lifeline.Lifeline) -> None:
    chassis = load(ChassisSettings)
    logs.configure("gateway", level=chassis.log_level, json=chassis.log_json)
    asyncio.run(_serve(load(GatewaySettings), load(TargetSettings), chassis, line))


async def _serve(
    settings: GatewaySettings, targets: TargetSettings, chassis: ChassisSettings, line: lifeline.Lifeline
) -> None:
    telemetry = Telemetry.from_settings("gateway", exporter=chassis.trace_exporter, sample=chassis.trace_sample)
    token = root_token(chassis)
    dialer = Dialer(targets.targets(), token=token, actor="operators/root")
    gateway = compose(
        settings,
        token=token,
        dialer=dialer,
        clock=SystemClock(),
        telemetry=telemetry,
        metrics_token=chassis.metrics_token.get_secret_value() if chassis.metrics_token else "",
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        port = await gateway.start()
        logger.info("serving", extra={"host": settings.host, "port": port, "pid": os.getpid()})
        line.ready({"gateway": port})
        await stop.wait()
        logger.info("draining", extra={"sockets": len(gateway.hub)})
    finally:
        await gateway.drain()
        await dialer.close()
        await asyncio.to_thread(telemetry.close)


if __name__ == "__main__":
    main(_line)
