"""The registry as a process, and its composition for whoever hosts it together with others."""

from chassis import lifeline

if __name__ == "__main__":
    _line = lifeline.hold()  # before the slow imports: a child whose supervisor is gone must not linger

import asyncio
import secrets
from collections.abc import Collection

from chassis.channel import Dialer
from chassis.clock import Clock, Uuid7Ids
from chassis.database import Database
from chassis.delegation import Delegation
from chassis.errors import AppError
from chassis.resource_names import bot_name
from chassis.server import Service
from chassis.service_process import run_service
from chassis.settings import ChassisSettings, root_token, run_main
from chassis.telemetry import Telemetry
from mobot.registry.v1 import registry_service_pb2_grpc
from registry_service.convert.tokens import Tokens
from registry_service.feed.tail import Tail
from registry_service.feed.upkeep import Upkeep
from registry_service.servicer import RegistryServicer
from registry_service.settings import RegistrySettings
from registry_service.store.registry import Limits, RegistryStore

NAME = "registry"
FULL_NAME = "mobot.registry.v1.RegistryService"


async def compose(
    settings: RegistrySettings,
    chassis: ChassisSettings,
    *,
    dialer: Dialer,  # noqa: ARG001 - the registry calls nobody
    clock: Clock,
    telemetry: Telemetry,  # noqa: ARG001 - the host measures its calls
) -> Service:
    """The registry, open and ready to be hosted.

    Raises:
        FailedPrecondition: the data belongs to another version, or the database cannot be used.
        Unavailable: the database server is not reachable.
    """
    url = settings.database_url or f"sqlite:///{chassis.data_dir / 'registry.sqlite3'}"
    database = await Database.open(
        url, migrations="registry_service.migrations", migrate=chassis.migrate_on_start, clock=clock
    )
    new_id = Uuid7Ids(clock)
    tail = Tail(poll_interval_s=settings.poll_interval_s)
    store = RegistryStore(
        database,
        clock=clock,
        new_id=new_id,
        new_secret=lambda: secrets.token_urlsafe(24),
        limits=Limits(settings.max_bots, settings.kept_changes),
        on_change=tail.ring,
    )
    try:
        head = await store.prepare()
    except BaseException:
        await store.close()  # an open store would keep the process
        raise
    tail.start(store, head.position)
    upkeep = Upkeep(store, clock, poll_interval_s=settings.poll_interval_s)
    upkeep.start()
    servicer = RegistryServicer(
        store=store,
        tail=tail,
        tokens=Tokens(root_token(chassis).encode(), head.log_id),
        clock=clock,
        new_id=new_id,
        settings=settings,
    )

    async def ready() -> bool:
        try:
            await store.ping()
        except AppError:
            return False
        return True

    async def served(worker: str) -> Collection[str] | None:
        found = await store.get_worker(worker.removeprefix("workers/"))
        return tuple(bot_name(bot) for bot in found.bots) if found.holds_lease else None

    async def close() -> None:
        await upkeep.close()
        await tail.close()
        await store.close()

    return Service(
        name=NAME,
        full_name=FULL_NAME,
        servicer=servicer,
        register=registry_service_pb2_grpc.add_RegistryServiceServicer_to_server,
        ready=ready,
        end_watches=tail.close,
        close=close,
        delegation=Delegation(served, ttl_s=0.0),  # it knows itself, at any moment
    )


def main() -> None:
    """Runs the registry until it is told to stop."""
    line = _line if __name__ == "__main__" else lifeline.hold()
    run_main(lambda: asyncio.run(run_service(NAME, RegistrySettings, compose, line)))


if __name__ == "__main__":
    main()
