"""Puts the session service together, and runs it as a process of its own: `python -m session_service`."""

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from chassis import lifeline

if TYPE_CHECKING:
    from collections.abc import Collection

    from chassis.channel import Dialer
    from chassis.clock import Clock
    from chassis.server import Service
    from chassis.settings import ChassisSettings
    from chassis.telemetry import Telemetry
    from session_service.domain.rules import Rules
    from session_service.settings import SessionSettings

MIGRATIONS = "session_service.migrations"


async def compose(
    settings: "SessionSettings",
    chassis: "ChassisSettings",
    *,
    dialer: "Dialer",
    clock: "Clock",
    telemetry: "Telemetry",
) -> "Service":
    """The service, ready to be hosted.

    Raises:
        FailedPrecondition: the database cannot be used, or belongs to another version.
        Unavailable: the database server is not reachable.
    """
    from chassis.clock import Uuid7Ids
    from chassis.database import Database
    from chassis.delegation import Delegation
    from chassis.errors import AppError
    from chassis.open_streams import OpenStreams
    from chassis.paging import PageTokens
    from chassis.server import Service
    from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc, worker_pb2
    from mobot.session.v1 import session_service_pb2_grpc
    from session_service.convert.derived import derive
    from session_service.convert.events import encode_change
    from session_service.convert.tokens import WatchTokens
    from session_service.feed.follower import Follower, add_meters
    from session_service.feed.hub import Hub
    from session_service.feed.watch import Patience
    from session_service.operations.metrics import SweepMetrics
    from session_service.operations.sweeper import Sweeper
    from session_service.servicer import SessionServicer
    from session_service.servicer.bots import BotDirectory
    from session_service.servicer.calls import Rooms
    from session_service.store.store import Store

    url = settings.database_url or f"sqlite:///{chassis.data_dir / 'session.sqlite3'}"
    database = await Database.open(url, migrations=MIGRATIONS, migrate=chassis.migrate_on_start, clock=clock)
    # Random, not time-ordered: people name a transcript by the first characters of its uid.
    store = Store(
        database, clock=clock, encode=encode_change, new_uid=lambda: str(uuid.uuid4()), rules=_rules(settings)
    )
    only_writer = database.engine_name == "sqlite"
    hub = Hub(
        store,
        queue_events=settings.watch_queue_events,
        poll_interval_s=None if only_writer else settings.poll_interval_s,
    )
    store.listen(hub)
    secret = await store.secret()
    await hub.start()
    sweeper = Sweeper(store, SweepMetrics(telemetry.registry), interval_s=settings.sweep_interval_s)
    sweeper.start()
    follower = Follower(store, derive, delay_s=settings.index_delay_s)
    await follower.start()
    add_meters(telemetry.registry, follower)
    registry = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))

    async def served(worker: str) -> "Collection[str] | None":
        found = (await registry.GetWorker(registry_service_pb2.GetWorkerRequest(name=worker))).worker
        return None if found.state == worker_pb2.WORKER_STATE_OFFLINE else found.bots

    delegation = Delegation(served)
    streams = OpenStreams()
    rooms = Rooms(
        store=store,
        hub=hub,
        streams=streams,
        bots=BotDirectory(registry, clock=clock, remember_s=settings.bot_cache_s),
        delegation=delegation,
        page_tokens=PageTokens(secret),
        watch_tokens=WatchTokens(secret),
        new_id=Uuid7Ids(clock),
        patience=Patience(settings.slow_after_s, settings.slow_events),
        retention_us=timedelta(days=settings.purge_after_days) // timedelta(microseconds=1),
        import_limit=settings.import_max_mib * 1024 * 1024,
    )

    async def ready() -> bool:
        try:
            await store.ping()
        except AppError:
            return False
        return True

    async def end_watches() -> None:
        hub.end_watches()
        streams.drain()

    async def close() -> None:
        await sweeper.close()
        await follower.close()
        await hub.close()
        await store.close()

    return Service(
        name="session",
        full_name="mobot.session.v1.SessionService",
        servicer=SessionServicer(rooms),
        register=session_service_pb2_grpc.add_SessionServiceServicer_to_server,
        ready=ready,
        end_watches=end_watches,
        close=close,
        busy=("AppendEvents", "GetTurnContext"),
        delegation=delegation,
        workers_may=("AppendEvents", "BatchAppendEvents", "Append", "PublishDeltas"),
    )


def _rules(settings: "SessionSettings") -> "Rules":
    from session_service.domain.rules import Rules

    micros = timedelta(microseconds=1)
    return Rules(
        default_persistent=settings.default_persistent,
        protect_main_session=settings.protect_main_session,
        named_sessions_enabled=settings.named_sessions_enabled,
        max_named_sessions=settings.max_named_sessions,
        idle_ttl=timedelta(days=settings.idle_ttl_days) // micros,
        expiry_warning=timedelta(hours=settings.expiry_warning_hours) // micros,
    )


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    line = lifeline.hold()
    from chassis.settings import run_main

    run_main(lambda: _serve(line))


def _serve(line: lifeline.Lifeline) -> None:
    import asyncio

    from chassis.service_process import run_service
    from session_service.settings import SessionSettings

    asyncio.run(run_service("session", SessionSettings, compose, line))


if __name__ == "__main__":
    main()
