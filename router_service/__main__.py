"""The router service as a process of its own, and how the core process composes it."""

from chassis import lifeline

if __name__ == "__main__":
    _line = lifeline.hold()  # before the slow imports: a child whose supervisor is gone must not linger

import asyncio

from chassis.channel import Dialer
from chassis.clock import Clock
from chassis.server import Service
from chassis.service_process import run_service
from chassis.settings import ChassisSettings, root_token, run_main
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
        delegation=router.delegation,
        workers_may=("Attach", "PullDeliveries", "CompleteDelivery", "FailDelivery", "ExtendDelivery"),
    )


def main() -> None:
    """Runs the router until it is told to stop."""
    line = _line if __name__ == "__main__" else lifeline.hold()
    run_main(lambda: asyncio.run(run_service("router", RouterSettings, compose, line)))


if __name__ == "__main__":
    main()
