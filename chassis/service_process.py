"""A service in a process of its own: from the environment to its sockets, the same way for every service."""

import contextlib
from typing import Protocol, TypeVar

from chassis import logs
from chassis.channel import Dialer
from chassis.clock import Clock, SystemClock
from chassis.identity import Authenticator, mint_token
from chassis.lifeline import Lifeline
from chassis.metrics_endpoint import open_metrics
from chassis.server import Service, ServiceHost, serve
from chassis.settings import ChassisSettings, ListenSettings, TargetSettings, load, root_token
from chassis.telemetry import Telemetry

S = TypeVar("S", bound=ListenSettings)
S_contra = TypeVar("S_contra", bound=ListenSettings, contravariant=True)


class Compose(Protocol[S_contra]):
    """A service's composition root, short of hosting it."""

    async def __call__(
        self, settings: S_contra, chassis: ChassisSettings, /, *, dialer: Dialer, clock: Clock, telemetry: Telemetry
    ) -> Service: ...


async def run_service(name: str, settings_class: type[S], compose: Compose[S], line: Lifeline) -> None:
    """Serves the service `name` until SIGTERM or SIGINT, then drains.

    Raises:
        SettingsError: a variable is wrong.
        AppError: a port is taken, the database cannot be used or belongs to a newer version.
    """
    chassis, settings, targets = load(ChassisSettings), load(settings_class), load(TargetSettings)
    logs.configure(name, level=chassis.log_level, json=chassis.log_json)
    clock, secret = SystemClock(), root_token(chassis)
    async with contextlib.AsyncExitStack() as opened:
        telemetry = Telemetry.from_settings(name, exporter=chassis.trace_exporter, sample=chassis.trace_sample)
        opened.callback(telemetry.close)
        await open_metrics(name, settings, chassis, telemetry, opened)
        dialer = Dialer(targets.targets(), token=mint_token(secret, f"services/{name}"), actor=None)
        opened.push_async_callback(dialer.close)
        host = ServiceHost(
            await compose(settings, chassis, dialer=dialer, clock=clock, telemetry=telemetry),
            authenticator=Authenticator(secret),
            listen=[f"{settings.host}:{settings.port}", *([f"unix:{settings.socket}"] if settings.socket else [])],
            listen_setting=f"MOBOT_{name.upper()}_PORT",
            grace_s=chassis.grace_s,
            grpc_front=chassis.grpc_front,
            telemetry=telemetry,
            clock=clock,
        )
        await serve([host], on_ready=line.ready)
