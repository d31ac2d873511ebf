"""A store in a PostgreSQL database: one writing connection, and a pool of reading ones."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chassis import migrations as schema
from chassis.group_writer import GroupWriter
from chassis.write_transaction import CommitHook, Outage, is_outage, outage_error
from chassis.writer_lanes import TaskLane, connect

T = TypeVar("T")

_READERS = 8
_CONNECT_TIMEOUT_S = 10.0


class PostgresStore:
    """Made by `open`; see `chassis.database.Database`, which is what services use."""

    def __init__(self, engine: AsyncEngine, *, max_queued: int, hook: CommitHook | None) -> None:
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.writer = GroupWriter(TaskLane(engine, hook=hook), max_queued=max_queued)

    @classmethod
    async def open(
        cls, url: URL, chain: schema.Chain, *, migrate: bool, max_queued: int, hook: CommitHook | None
    ) -> "PostgresStore":
        engine = create_async_engine(
            driver_url(url),
            pool_size=_READERS + 1,
            max_overflow=0,
            connect_args={"timeout": _CONNECT_TIMEOUT_S, "server_settings": {"application_name": chain.package}},
        )
        try:
            await _bring_up_to_date(engine, chain, migrate=migrate)
        except BaseException:
            await engine.dispose()
            raise
        store = cls(engine, max_queued=max_queued, hook=hook)
        store.writer.start()
        return store

    async def read(self, function: Callable[[Connection], T]) -> T:
        # A connection that broke while it lay in the pool says nothing about the server, hence a second try.
        try:
            return await self._snapshot(function)
        except Outage:
            pass
        try:
            return await self._snapshot(function)
        except Outage as outage:
            raise outage_error() from outage

    async def close(self) -> None:
        await self.writer.close()
        await self._engine.dispose()

    async def _snapshot(self, function: Callable[[Connection], T]) -> T:
        conn = await connect(self._reading)
        try:
            return await conn.run_sync(function)
        except DBAPIError as error:
            if is_outage(error):
                raise Outage(unknown=False) from error
            raise
        finally:
            await conn.close()


async def _bring_up_to_date(engine: AsyncEngine, chain: schema.Chain, *, migrate: bool) -> None:
    def upgrade(conn: Connection) -> None:
        if schema.check(conn, chain) == "at head":
            return
        if not migrate:
            raise schema.stale_error(conn, chain)
        schema.upgrade(conn, chain)
        conn.commit()

    try:
        conn = await connect(engine)
    except Outage as outage:
        raise outage_error() from outage
    try:
        await conn.run_sync(upgrade)
    finally:
        await conn.close()


def driver_url(url: URL) -> URL:
    """The URL for asyncpg, which names one of libpq's parameters differently."""
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
