"""Upgrades and compares databases by their URL, where no service has them open and no event loop runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, MetaData
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.migrations import compare_options, read_chain, upgrade
from chassis.postgres_store import driver_url
from chassis.sqlite_store import migration_engine

T = TypeVar("T")


def upgrade_database(url: str, package: str) -> str:
    """Brings the database at `url`, which no service has open, to the head of `package`; returns the head."""
    chain = read_chain(package)

    def run(conn: Connection) -> None:
        upgrade(conn, chain)
        conn.commit()

    _on_connection(url, run)
    return chain.head


def autogenerate_diff(url: str, metadata: MetaData) -> list[Any]:
    """What alembic would change to make the database at `url` equal to `metadata`; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def run(conn: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(conn, opts=compare_options()), metadata))

    return _on_connection(url, run)


def _on_connection(url: str, function: Callable[[Connection], T]) -> T:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = migration_engine(Path(parsed.database or ""))
        try:
            with engine.connect() as conn:
                return function(conn)
        finally:
            engine.dispose()

    async def run() -> T:
        async_engine = create_async_engine(driver_url(parsed))
        try:
            async with async_engine.connect() as conn:
                return await conn.run_sync(function)
        finally:
            await async_engine.dispose()

    return asyncio.run(run())
