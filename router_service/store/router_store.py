"""The router's store: the mail writer, the reads, and the few writes that are not mail."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from chassis import idempotency
from chassis.clock import Clock
from chassis.database import Database
from chassis.write_transaction import CommitHook
from router_service.domain.mail import Lease
from router_service.domain.state import TERMINAL, MessageState
from router_service.models import ATTACHMENT, LEDGER, MESSAGE
from router_service.store import policies, reads, spawns, steps, topics
from router_service.store.accepting import Rules
from router_service.store.bulk import Bulk
from router_service.store.database_clock import DatabaseClock
from router_service.store.ending import LOG_NOTHING
from router_service.store.letters import Letters
from router_service.store.mail_handler import MailHandler
from router_service.store.mail_writer import MailWriter

T = TypeVar("T")

MIGRATIONS = "router_service.migrations"
_CLOCK_AGE_S = 1.0

_SWEPT = tuple(int(state) for state in sorted(TERMINAL - {MessageState.DEAD_LETTERED}))


class RouterStore:
    """Made by `open`; belongs to the event loop that opened it."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        clock: Clock,
        letters: Letters,
        database_clock: DatabaseClock | None = None,
    ) -> None:
        self._database = database
        self._database_clock = database_clock
        clock = self._clock = database_clock or clock
        self.single_process = database.engine_name == "sqlite"
        handler = MailHandler(Bulk(database.engine_name), clock, rules, letters)
        self.unlogged = handler.unlogged
        self._handler = handler
        self.mail = MailWriter(database.writer, handler)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        rules: Rules,
        clock: Clock,
        letters: Letters,
        migrate: bool,
        commit_hook: CommitHook | None = None,
        database_time: bool = False,
    ) -> "RouterStore":
        """Opens the database; see `chassis.database.Database.open` for what may be wrong with it.

        With `database_time`, a server's own clock says when leases end and messages are due; a file has none, and
        belongs to this process anyway.
        """
        database = await Database.open(
            url, migrations=MIGRATIONS, migrate=migrate, clock=clock, commit_hook=commit_hook
        )
        if not database_time or database.engine_name == "sqlite":
            return cls(database, rules, clock, letters)
        database_clock = DatabaseClock()
        await _read_clock(database, database_clock)
        return cls(database, rules, clock, letters, database_clock)

    def now_us(self) -> int:
        return int(self._clock.now().timestamp() * 1e6)

    async def keep_time(self) -> None:
        """Looks at the database's clock, unless that was just done."""
        if self._database_clock is not None and self._database_clock.age_s() > _CLOCK_AGE_S:
            await _read_clock(self._database, self._database_clock)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Runs one of the functions of `router_service.store.reads` or `.messages`."""
        return await self._database.read(function)

    async def glance(self, function: Callable[[Connection], T]) -> T:
        """As `read`, for what is found by one key: on SQLite the loop itself looks."""
        return await self._database.glance(function)

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Runs one admin write in the order of the mail."""
        return await self._database.writer.run(function)

    async def settle(self) -> None:
        """Returns when everything that was on its way to the database before is there."""
        await self.write(lambda _conn: None)

    def watch(self, watched: bool) -> None:
        """Whether transactions shall say which messages they wrote."""
        self._handler.watched = watched

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self.mail.close()
        await self._database.close()

    async def attach(self, worker: str, attachment: str, expire_us: int) -> list[tuple[Lease, bool]]:
        """Makes `attachment` the worker's newest stream; returns the worker's leases, and which of them shall stop."""

        def write(conn: Connection) -> list[tuple[Lease, bool]]:
            row = {"worker": worker, "id": attachment, "expire_time": expire_us}
            insert = sqlite.insert if conn.dialect.name == "sqlite" else postgresql.insert
            statement: Any = insert(ATTACHMENT).values(row)
            conn.execute(statement.on_conflict_do_update(index_elements=["worker"], set_=row))
            return reads.leases_of(conn, (worker,))

        return await self.write(write)

    async def renew(self, attachments: Sequence[tuple[str, str]], expire_us: int) -> set[str]:
        """Moves the end of these streams (worker, attachment) on; returns the workers that have a newer stream."""

        def write(conn: Connection) -> set[str]:
            workers = [worker for worker, _ in attachments]
            found = conn.execute(select(ATTACHMENT).where(ATTACHMENT.c.worker.in_(workers)))
            newest = {row.worker: row.id for row in found}
            ours = [worker for worker, attachment in attachments if newest.get(worker) == attachment]
            if ours:
                conn.execute(update(ATTACHMENT).where(ATTACHMENT.c.worker.in_(ours)).values(expire_time=expire_us))
            return set(workers) - set(ours)

        return await self.write(write)

    async def detach(self, worker: str, attachment: str | None = None) -> None:
        """Forgets a worker's stream, if it is still the newest; with None, whichever it is, once it has run out."""

        def write(conn: Connection) -> None:
            statement = delete(ATTACHMENT).where(ATTACHMENT.c.worker == worker)
            if attachment is None:
                statement = statement.where(ATTACHMENT.c.expire_time <= self.now_us())
            else:
                statement = statement.where(ATTACHMENT.c.id == attachment)
            conn.execute(statement)

        await self.write(write)

    async def sweep(self, before_id: str, limit: int) -> int:
        """Removes ended messages with ids below `before_id`, but no dead letters, at most `limit`; returns how many.

        With them goes what belongs to them, as many of the children, publications and records of before then, and what
        is past its time in the ledger of requests.
        """
        now = self._clock.now()

        def write(conn: Connection) -> int:
            for forget in (spawns.sweep, topics.sweep, policies.sweep):
                forget(conn, before_id, limit)
            idempotency.sweep(conn, LEDGER, now)
            columns = MESSAGE.c
            old = (
                select(columns.id)
                .where(columns.id < before_id, columns.state.in_(_SWEPT), columns.log_flags == LOG_NOTHING)
                .limit(limit)
            )
            count = conn.execute(delete(MESSAGE).where(columns.id.in_(old))).rowcount
            steps.sweep(conn, gone=count > 0)
            return count

        return await self.write(write)

    @property
    def ledger(self) -> Any:  # noqa: ANN401 - a Table, which only this package may know
        return LEDGER


async def _read_clock(database: Database, clock: DatabaseClock) -> None:
    def look(conn: Connection) -> datetime:
        found: datetime = conn.execute(select(func.clock_timestamp())).scalar_one()
        return found

    before_s = clock.steady_s()
    there = await database.read(look)
    clock.told(there, before_s, clock.steady_s())
