"""One store on either engine: a writer that groups commits, and readers that each see one consistent snapshot.

Handlers and read functions are synchronous SQLAlchemy code and run unchanged on SQLite and PostgreSQL.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from chassis import migrations as schema
from chassis.clock import Clock
from chassis.errors import FailedPrecondition
from chassis.group_writer import GroupWriter
from chassis.postgres_store import PostgresStore
from chassis.sqlite_store import SqliteStore
from chassis.write_transaction import CommitHook

T = TypeVar("T")

EngineName = Literal["sqlite", "postgresql"]


class Store(Protocol):
    """What an engine brings: its connections and the way its writer works."""

    writer: GroupWriter

    async def read(self, function: Callable[[Connection], T]) -> T: ...

    async def glance(self, function: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...


class Database:
    """A service's own database. Made by `open`, ended by `close`; belongs to the event loop that opened it."""

    def __init__(self, engine_name: EngineName, store: Store, clock: Clock) -> None:
        self.engine_name: EngineName = engine_name
        self.writer = store.writer
        self.clock = clock
        self._store = store
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        migrations: str,
        migrate: bool,
        clock: Clock,
        max_queued: int = 50_000,
        commit_hook: CommitHook | None = None,
    ) -> "Database":
        """Opens "sqlite:///path" or "postgresql://user@host/name", at the newest schema.

        Args:
            migrations: The package with the schema's chain, such as "session_service.migrations".
            migrate: Whether to bring an older schema to the newest; otherwise it is refused.
            max_queued: Writes that may wait before more are refused.
            commit_hook: For tests: called with "before" and "after" around each commit.

        Raises:
            FailedPrecondition: SCHEMA_STALE (older and not to be migrated, or newer than the code), the path cannot be
                used, or another process has it open.
            Unavailable: the server is not reachable.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise _unusable(url) from None
        chain = schema.read_chain(migrations)
        match parsed.get_backend_name():
            case "sqlite":
                sqlite = await SqliteStore.open(parsed, chain, migrate=migrate, max_queued=max_queued, hook=commit_hook)
                return cls("sqlite", sqlite, clock)
            case "postgresql":
                postgres = await PostgresStore.open(
                    parsed, chain, migrate=migrate, max_queued=max_queued, hook=commit_hook
                )
                return cls("postgresql", postgres, clock)
            case _:
                raise _unusable(url)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Runs `function` in a read-only snapshot that has everything committed before the call.

        The connection must not leave the function. On PostgreSQL it may be called twice, when the connection breaks.
        """
        return await self._store.read(function)

    async def glance(self, function: Callable[[Connection], T]) -> T:
        """As `read`, for what SQLite answers in some ten microseconds, by index: there it runs on the loop itself.

        A reading thread and back cost ten times as much.
        """
        return await self._store.glance(function)

    async def ping(self) -> None:
        """Returns if the database answers.

        Raises:
            Unavailable: it does not.
        """
        await self._store.read(lambda conn: conn.execute(select(1)).scalar_one())

    async def close(self) -> None:
        """Finishes queued writes and closes all connections. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            await self._store.close()


def _unusable(url: str) -> FailedPrecondition:
    scheme = url.partition(":")[0]
    return FailedPrecondition(
        f"database URLs look like sqlite:///path or postgresql://user@host/name (this one starts with {scheme!r})",
        metadata={"scheme": scheme},
    )
