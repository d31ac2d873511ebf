"""A store in one SQLite file: one writer thread, a few reading threads, and a lock that keeps other processes out."""

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from chassis import direct_sql
from chassis import migrations as schema
from chassis.errors import FailedPrecondition
from chassis.group_writer import GroupWriter
from chassis.handover import Handover
from chassis.write_transaction import CommitHook
from chassis.writer_lanes import ThreadLane

T = TypeVar("T")

_READERS = 4
# Reads on the loop before everybody else has a turn: whoever reads again and again would else stop all others.
_GLANCES = 8
_BUSY_TIMEOUT_S = 5.0
_CACHED_STATEMENTS = 512

# Each of a store's six connections has a cache of its own, and a mapped file would count in each: so small caches
# and no mapping. Reads take as long either way, for the system keeps the file's pages anyhow.
_COMMON_PRAGMAS = ("foreign_keys=ON", "temp_store=MEMORY", "cache_size=-4096", "mmap_size=0")
# FULL: a commit is acknowledged only after the flush. The writer's lane has the log folded into the file; 20,000 pages,
# some 80 MB, are for when very large rows fill the log first.
_WRITER_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=20000", *_COMMON_PRAGMAS)
_READER_PRAGMAS = ("query_only=ON", *_COMMON_PRAGMAS)
# Making a table anew with foreign keys on would delete the rows that point to it.
_MIGRATION_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF")


class SqliteStore:
    """Made by `open`; see `chassis.database.Database`, which is what services use."""

    def __init__(self, path: Path, lock_descriptor: int, *, max_queued: int, hook: CommitHook | None) -> None:
        self._lock_descriptor = lock_descriptor
        self._loop = asyncio.get_running_loop()
        self._handover = Handover(self._loop)
        self._write_engine = writer_engine(path)
        self._read_engine = _engine(path, _READER_PRAGMAS, begin="BEGIN")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")
        self._reader_state = threading.local()
        # Since the loop last came round.
        self._glances = 0
        self._read_connections: list[Connection] = []
        self.writer = GroupWriter(ThreadLane(self._write_engine, self._handover, hook=hook), max_queued=max_queued)

    @classmethod
    async def open(
        cls, url: URL, chain: schema.Chain, *, migrate: bool, max_queued: int, hook: CommitHook | None
    ) -> "SqliteStore":
        path = _path(url)
        lock_descriptor = await asyncio.to_thread(_prepare, path, chain, migrate=migrate)
        store = cls(path, lock_descriptor, max_queued=max_queued, hook=hook)
        store.writer.start()
        return store

    async def read(self, function: Callable[[Connection], T]) -> T:
        self._handover.begin()
        try:
            return await self._loop.run_in_executor(self._readers, self._snapshot, function)
        finally:
            self._handover.end()

    async def glance(self, function: Callable[[Connection], T]) -> T:
        if not self._glances:
            self._loop.call_soon(self._turn)
        self._glances += 1
        if self._glances > _GLANCES:
            await asyncio.sleep(0)
        return self._snapshot(function)

    def _turn(self) -> None:
        self._glances = 0

    async def close(self) -> None:
        await self.writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        for conn in self._read_connections:
            conn.close()
        self._handover.close()
        os.close(self._lock_descriptor)

    def _snapshot(self, function: Callable[[Connection], T]) -> T:
        conn: Connection | None = getattr(self._reader_state, "conn", None)
        if conn is None:
            conn = self._reader_state.conn = self._read_engine.connect()
            self._read_connections.append(conn)
        try:
            return function(conn)
        finally:
            direct_sql.roll_back(conn)


def writer_engine(path: Path) -> Engine:
    """An engine whose connections write to the file at `path`, each transaction flushed to disk when it commits."""
    return _engine(path, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE")


def migration_engine(path: Path) -> Engine:
    """An engine for changing the schema of the file at `path`, which nothing else has open."""
    return _engine(path, _MIGRATION_PRAGMAS, begin="BEGIN IMMEDIATE")


def _path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise FailedPrecondition("a SQLite store needs a file, as in sqlite:///var/session.sqlite3")
    return Path(url.database).expanduser().absolute()


def _prepare(path: Path, chain: schema.Chain, *, migrate: bool) -> int:
    """Makes the file ours, private and up to date; returns the descriptor that holds the lock."""
    try:
        _make_private_directory(path.parent)
        lock_descriptor = _lock(path)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot use the database file {path}: {error.strerror}; choose a directory that this user may write",
            metadata={"path": str(path)},
        ) from error
    try:
        _bring_up_to_date(path, chain, migrate=migrate)
    except BaseException:
        os.close(lock_descriptor)
        raise
    return lock_descriptor


def _make_private_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _lock(path: Path) -> int:
    """Takes the exclusive lock of the store. The system releases it when the process ends, however it ends."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        process = f" (process {owner})" if owner else ""
        raise FailedPrecondition(
            f"another mobot is running on {path}{process}; stop it, or choose another MOBOT_DATA_DIR",
            metadata={"path": str(path), "process": owner},
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _bring_up_to_date(path: Path, chain: schema.Chain, *, migrate: bool) -> None:
    engine = migration_engine(path)
    try:
        with engine.connect() as conn:
            if schema.check(conn, chain) == "at head":
                return
            if not migrate:
                raise schema.stale_error(conn, chain)
            schema.upgrade(conn, chain)
            conn.commit()
    except DBAPIError as error:
        if not isinstance(error.orig, sqlite3.DatabaseError) or not _is_damage(error.orig):
            raise
        raise FailedPrecondition(
            f"cannot use the database file {path}: {error.orig}", metadata={"path": str(path)}
        ) from error
    finally:
        engine.dispose()


def _is_damage(error: sqlite3.Error) -> bool:
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR"))


def _engine(path: Path, pragmas: tuple[str, ...], *, begin: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={
            "check_same_thread": False,  # a connection has one user at a time, but is closed by another thread
            "timeout": _BUSY_TIMEOUT_S,
            "cached_statements": _CACHED_STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ANN401 - the driver's, wrapped
        record.info[direct_sql.BEGIN] = begin
        connection.isolation_level = None  # the driver's own idea of when to begin breaks snapshots and DDL
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_transaction(conn: Connection) -> None:
        driver_connection: Any = conn.connection.driver_connection
        if not driver_connection.in_transaction:  # chassis.direct_sql may have begun it
            driver_connection.execute(begin)  # past SQLAlchemy, whose machinery costs more than the statement itself

    return engine
