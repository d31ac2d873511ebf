"""A store in a PostgreSQL database: one writing connection, and a pool of reading ones."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chassis import migrations as schema
from chassis.errors import AppError, FailedPrecondition, Unavailable
from chassis.group_writer import GroupWriter
from chassis.write_transaction import RETRY_AFTER_S, CommitHook, Outage, is_outage, outage_error
from chassis.writer_lanes import TaskLane, connect

T = TypeVar("T")

_READERS = 8
_CONNECT_TIMEOUT_S = 10.0
_URL_PARAMETERS = ("host", "port", "sslmode", "passfile", "target_session_attrs")


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
        except BaseException as error:
            await engine.dispose()
            if isinstance(error, Outage):
                raise _opening_error(url, error) from error
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

    async def glance(self, function: Callable[[Connection], T]) -> T:
        return await self.read(function)

    async def close(self) -> None:
        await self.writer.close()
        await self._engine.dispose()

    async def _snapshot(self, function: Callable[[Connection], T]) -> T:
        conn = await connect(self._reading)
        try:
            try:
                return await conn.run_sync(function)
            finally:
                await conn.close()  # ends the snapshot, which asks the server once more
        except DBAPIError as error:
            if is_outage(error):
                raise Outage(unknown=False) from error
            raise


def _opening_error(url: URL, outage: Outage) -> AppError:
    """What an operator needs to read at start: the server and its own words, without the password."""
    cause = outage.__cause__
    where = url.set(query={}).render_as_string(hide_password=True)
    if isinstance(cause, DBAPIError) and not is_outage(cause):
        return FailedPrecondition(f"cannot open the database {where}: {cause.orig}", metadata={"url": where})
    words = cause.orig if isinstance(cause, DBAPIError) else cause
    return Unavailable(
        f"the database {where} is not reachable: {words}", metadata={"url": where}, retry_after_s=RETRY_AFTER_S
    )


async def _bring_up_to_date(engine: AsyncEngine, chain: schema.Chain, *, migrate: bool) -> None:
    def upgrade(conn: Connection) -> None:
        if schema.check(conn, chain) == "at head":
            return
        if not migrate:
            raise schema.stale_error(conn, chain)
        schema.upgrade(conn, chain)
        conn.commit()

    conn = await connect(engine)
    try:
        await conn.run_sync(upgrade)
    finally:
        await conn.close()


def driver_url(url: URL) -> URL:
    """The URL for asyncpg, which names one of libpq's parameters differently.

    Raises:
        FailedPrecondition: a parameter is none of those that make sense here.
    """
    query = dict(url.query)
    for name in query:
        if name not in _URL_PARAMETERS:
            raise FailedPrecondition(
                f"the database URL has the parameter {name!r}; it may have {', '.join(_URL_PARAMETERS)}",
                metadata={"parameter": name},
            )
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)
