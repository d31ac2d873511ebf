"""The core process: the four services and the gateway on one event loop, calling each other without sockets.

Each service keeps its own settings, database, sockets and identity, exactly as in a process of its own (the isolated
layout); only the calls between them go through local channels. A service is found by its name: `compose` in
`<name>_service.__main__` and `<Name>Settings` in `<name>_service.settings`. With MOBOT_GATEWAY_APART the gateway is not
here but in a process of its own, and calls through the sockets.
"""

import asyncio
import contextlib
import gc
import importlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

from chassis import lifeline, logs
from chassis.channel import LOCAL, Dialer
from chassis.clock import SystemClock
from chassis.errors import FailedPrecondition
from chassis.identity import Authenticator, mint_token
from chassis.lifeline import Lifeline
from chassis.metrics_endpoint import open_metrics
from chassis.server import Front, ServiceHost, serve
from chassis.service_process import Compose
from chassis.settings import ChassisSettings, ListenSettings, TargetSettings, load, root_token, run_main
from chassis.telemetry import Telemetry
from gateway.settings import GatewaySettings
from mobot_cli.layout import SERVICES, Layout

EXIT_SETTINGS = 2
_SETTLE_S = 1.0


async def run(line: Lifeline) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        SettingsError: a variable is wrong.
        AppError: a port is taken, a database cannot be used or belongs to a newer version.
    """
    settings = load(ChassisSettings)
    logs.configure("core", level=settings.log_level, json=settings.log_json)
    secret = root_token(settings)
    authenticator, clock = Authenticator(secret), SystemClock()
    telemetry = Telemetry.from_settings("core", exporter=settings.trace_exporter, sample=settings.trace_sample)
    dialers = {name: _dialer(name, secret) for name in SERVICES}
    edge = load(GatewaySettings)
    if not edge.gateway_apart:
        dialers["gateway"] = _gateway_dialer(secret)
    layout = Layout(settings.data_dir)
    hosts: list[ServiceHost] = []
    async with contextlib.AsyncExitStack() as opened:
        opened.callback(telemetry.close)
        for dialer in dialers.values():
            opened.push_async_callback(dialer.close)
        for name in SERVICES:
            own = load(_settings_class(name))
            await open_metrics(name, own, settings, telemetry, opened)
            compose = _compose(name)
            service = await compose(own, settings, dialer=dialers[name], clock=clock, telemetry=telemetry)
            # A host that never started is not drained, and a store that is not closed keeps the process alive.
            service = replace(service, close=_once(service.close))
            opened.push_async_callback(service.close)
            host = ServiceHost(
                service,
                authenticator=authenticator,
                listen=(f"unix:{own.socket or layout.socket(name)}", f"{own.host}:{own.port}"),
                listen_setting=f"MOBOT_{name.upper()}_PORT",
                grace_s=settings.grace_s,
                grpc_front=settings.grpc_front,
                telemetry=telemetry,
                clock=clock,
            )
            hosts.append(host)
            for dialer in dialers.values():
                dialer.add_handlers(host.local_handlers)
        front: Front | None = None
        if not edge.gateway_apart:
            # Imported here: a core whose gateway is apart need not load a web server.
            from gateway.composition import compose as compose_gateway

            front = compose_gateway(
                edge,
                token=secret,
                dialer=dialers["gateway"],
                clock=clock,
                telemetry=telemetry,
                metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else "",
            )
        await serve(hosts, on_ready=lambda: _ready(line), front=front)


def _dialer(name: str, secret: str) -> Dialer:
    """Each service speaks to the others under its own name, as it would from its own process."""
    return Dialer(dict.fromkeys(SERVICES, LOCAL), token=mint_token(secret, f"services/{name}"), actor=None)


def _gateway_dialer(secret: str) -> Dialer:
    """The gateway's calls are the operator's. What the environment gives another target is dialled there, as ever."""
    given = load(TargetSettings)
    elsewhere = {name: given.targets()[name] for name in SERVICES if f"{name}_target" in given.model_fields_set}
    return Dialer(dict.fromkeys(SERVICES, LOCAL) | elsewhere, token=secret, actor="operators/root")


def _ready(line: Lifeline) -> None:
    line.ready()
    # Not at once: whoever waited for the start comes first.
    asyncio.get_running_loop().call_later(_SETTLE_S, _settle)


def _settle() -> None:
    # What start-up left behind stays for good: the collector need not look through it again at every full collection.
    gc.collect()
    gc.freeze()
    # Mail on its way is no garbage: to look for cycles in it at each 700 objects took a tenth of all time.
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _settings_class(name: str) -> type[ListenSettings]:
    module = importlib.import_module(f"{name}_service.settings")
    return cast("type[ListenSettings]", getattr(module, f"{name.capitalize()}Settings"))


def _compose(name: str) -> Compose[ListenSettings]:
    return cast("Compose[ListenSettings]", importlib.import_module(f"{name}_service.__main__").compose)


def _once(close: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    closed = False

    async def close_once() -> None:
        nonlocal closed
        if not closed:
            closed = True
            await close()

    return close_once


def main() -> int:
    """Exit code 2 is for what only a person can mend: the supervisor does not start the process again."""
    line = lifeline.hold()
    gc.disable()  # until it serves: nothing that an import makes is garbage
    try:
        asyncio.run(run(line))
    except FailedPrecondition as error:
        sys.stderr.write(f"mobot: {error.message}\n")
        return EXIT_SETTINGS
    return 0


if __name__ == "__main__":
    run_main(main)
