"""Registry stores on a test's database, several of them as replicas, and short ways to fill them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from registry_service.domain.bot import Bot, BotSettings, NewBot
from registry_service.domain.brain import EchoBrain
from registry_service.domain.status import BrainHealth
from registry_service.domain.worker import BotReport, Registration, Report, WorkerSettings
from registry_service.store.registry import Limits, Registered, RegistryStore, Ticket

MIGRATIONS = "registry_service.migrations"
NO_TICKET: Ticket[Any] = Ticket("operators/root", "Test", "", "", lambda _: b"")
DAY = timedelta(days=1)


def ticket(request_id: str, *, method: str = "Test", fingerprint: str = "f") -> Ticket[Any]:
    return Ticket("operators/root", method, request_id, fingerprint, lambda result: repr(result).encode())


@dataclass
class Opened:
    """A store with its clock; `rings` counts what `on_change` heard."""

    store: RegistryStore
    clock: FakeClock
    rings: list[int]

    async def create(self, bot_id: str, *, enabled: bool = True, **fields: Any) -> Bot:
        draft = NewBot(bot_id, settings(bot_id, **fields), enabled)
        created = await self.store.create_bot(draft, NO_TICKET)
        assert isinstance(created, Bot)
        return created

    async def register(self, worker_id: str, *bots: str, lease_s: float = 15, **fields: Any) -> Registered:
        registration = Registration(
            id=worker_id,
            settings=WorkerSettings(contract_major_version=1, **fields),
            bots=bots,
            lease_s=lease_s,
            registrant="operators/root",
            trusted=True,
        )
        registered = await self.store.register_worker(registration, NO_TICKET)
        assert isinstance(registered, Registered)
        return registered

    async def pass_time(self, **span: float) -> None:
        self.clock.advance(timedelta(**span))
        await self.store.sweep()


@asynccontextmanager
async def opened(
    url: str,
    clock: FakeClock,
    *,
    max_bots: int = 100,
    kept_changes: int = 100,
    commit_hook: Callable[[str], None] | None = None,
) -> AsyncIterator[Opened]:
    database = await Database.open(url, migrations=MIGRATIONS, migrate=True, clock=clock, commit_hook=commit_hook)
    rings: list[int] = []
    secrets = (f"secret-{number}" for number in count(1))
    store = RegistryStore(
        database,
        clock=clock,
        new_id=Uuid7Ids(clock),
        new_secret=lambda: next(secrets),
        limits=Limits(max_bots, kept_changes),
        on_change=lambda: rings.append(1),
    )
    try:
        await store.prepare()
        yield Opened(store, clock, rings)
    finally:
        await store.close()


def settings(bot_id: str, **fields: Any) -> BotSettings:
    return BotSettings(**{"display_name": bot_id, "brain": EchoBrain(), "owner": "operators/root", **fields})


def report(registered: Registered, *bots: BotReport, sequence: int = 1, **fields: Any) -> Report:
    worker = registered.worker
    in_flight = sum(each.in_flight_count for each in bots)
    return Report(worker.id, worker.lease.id, sequence, **{"in_flight_count": in_flight, "bots": bots, **fields})


def about(bot_id: str, *, in_flight: int = 0, health: BrainHealth = BrainHealth.HEALTHY, detail: str = "") -> BotReport:
    return BotReport(bot_id, in_flight, health, detail)
