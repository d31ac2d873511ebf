"""The router service as a process of its own, and how the core process composes it."""

import asyncio

from chassis import lifeline, logs
from chassis.channel import Dialer
from chassis.clock import Clock, SystemClock
from chassis.identity import Authenticator, mint_token
from chassis.lifeline import Lifeline
from chassis.server import Service, ServiceHost, serve
from chassis.settings import ChassisSettings, TargetSettings, load, root_token, run_main
from chassis.telemetry import Telemetry
from mobot.router.v1 import router_service_pb2_grpc
from router_service.router import Router
from router_service.settings import RouterSettings


async def compose(
    settings: RouterSettings,
    chassis: ChassisSettings,
    *,
    dialer: Dialer,
    clock: Clock,
    telemetry: Telemetry,
) -> Service:
    """The service, running and ready to be hosted."""
    router = await Router.open(
        settings,
        settings.database_url or f"sqlite:///{chassis.data_dir / 'router.sqlite3'}",
        registry=dialer.dial("registry"),
        session=dialer.dial("session"),
        clock=clock,
        page_secret=root_token(chassis).encode(),
        migrate=chassis.migrate_on_start,
        database_time=True,
    )
    telemetry.registry.register(router.meters)

    async def close() -> None:
        telemetry.registry.unregister(router.meters)
        await router.close()

    return Service(
        name="router",
        full_name="mobot.router.v1.RouterService",
        servicer=router.servicer,
        register=router_service_pb2_grpc.add_RouterServiceServicer_to_server,
        ready=router.ready,
        end_watches=router.end_watches,
        close=close,
        busy=("SendMessage",),
    )


async def run(line: Lifeline) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    chassis, settings, targets = load(ChassisSettings), load(RouterSettings), load(TargetSettings)
    logs.configure("router", level=chassis.log_level, json=chassis.log_json)
    secret, clock = root_token(chassis), SystemClock()
    telemetry = Telemetry.from_settings("router", exporter=chassis.trace_exporter, sample=chassis.trace_sample)
    dialer = Dialer(targets.targets(), token=mint_token(secret, "services/router"), actor=None)
    service = await compose(settings, chassis, dialer=dialer, clock=clock, telemetry=telemetry)
    address = f"{settings.host}:{settings.port}"
    host = ServiceHost(
        service,
        authenticator=Authenticator(secret),
        listen=(address, f"unix:{settings.socket}") if settings.socket else (address,),
        listen_setting="MOBOT_ROUTER_PORT",
        grace_s=chassis.grace_s,
        telemetry=telemetry,
        clock=clock,
    )
    try:
        await serve([host], on_ready=line.ready)
    finally:
        await dialer.close()
        telemetry.close()


def main() -> None:
    line = lifeline.hold()
    asyncio.run(run(line))


if __name__ == "__main__":
    run_main(main)
