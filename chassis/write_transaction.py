"""One transaction for many writes: the part of the group writer that runs, synchronously, on either engine.

Deadlocks and serialization failures are retried; any other failure rolls back and sends every entry into a
transaction of its own, so that only the guilty one fails.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Generic, Literal, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError

from chassis import direct_sql
from chassis.errors import Aborted, AppError, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

BatchHandler = Callable[[Connection, Sequence[Item]], Sequence[Result | AppError]]
CommitHook = Callable[[Literal["before", "after"]], None]

MAX_ATTEMPTS = 5
RETRY_AFTER_S = 0.5

_CONFLICT_STATES = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_OUTAGE_STATES = ("08", "57P", "53300")  # connection exceptions, operator intervention, too many connections
_SQLITE_OUTAGES = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_BUSY")


@dataclass(frozen=True, slots=True, eq=False)
class WriteKind(Generic[Item, Result]):
    """A kind of write: what `GroupWriter.kind` returns and `GroupWriter.submit` takes."""

    name: str
    handler: BatchHandler[Item, Result]
    after_commit: Callable[[Sequence[Result]], None] | None = None
    on_rollback: Callable[[], None] | None = None
    brief: bool = False
    weigh: Callable[[Item], int] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an entry whose submitter gets `error` raised."""

    error: Exception


PENDING: Final = Failure(RuntimeError("the write was not decided"))


@dataclass(slots=True, eq=False)
class Entry:
    """One place in the queue. `outcome` is a list with a result or AppError for each item, or a `Failure` for all."""

    kind: WriteKind[Any, Any]
    items: Sequence[Any]
    future: asyncio.Future[Any]
    alone: bool
    outcome: list[Any] | Failure = PENDING


class Outage(Exception):
    """The database went away. `unknown` says that it went during COMMIT, so the fate of the writes cannot be known."""

    def __init__(self, *, unknown: bool) -> None:
        super().__init__("the database went away")
        self.unknown = unknown


def handle_entries(conn: Connection, entries: Sequence[Entry]) -> list[list[Any]] | None:
    """Runs the handlers of `entries` and leaves the transaction open, to be committed by `write_entries`.

    None if a handler raised: then everything is rolled back, and `write_entries` begins anew and finds out whose fault
    it was.
    """
    try:
        return _handle(conn, entries)
    except Exception:  # noqa: BLE001 - a handler may raise anything; it is told to its submitter the second time
        with contextlib.suppress(DBAPIError, sqlite3.Error):  # a connection that is broken says so again
            direct_sql.roll_back(conn)
        _tell_rollback(entries)
        return None


def write_entries(
    conn: Connection,
    entries: Sequence[Entry],
    hook: CommitHook | None,
    handled: list[list[Any]] | None = None,
) -> None:
    """Writes and commits `entries`, and sets their outcomes. `handled` is what `handle_entries` returned for them.

    Raises:
        Outage: the connection is of no more use; entries without an outcome were not written, or, if `unknown`, maybe.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        stage = _Stage()
        try:
            outcomes = _handle(conn, entries) if handled is None else handled
            handled = None
            _commit(conn, hook, stage)
            # Outcomes become visible only now: an entry that has one is on disk.
            for entry, outcome in zip(entries, outcomes, strict=True):
                entry.outcome = outcome
            return
        except Exception as error:  # noqa: BLE001 - a handler may raise anything, and each submitter must get its own
            cause = error
        if stage.committed or is_outage(cause):
            raise Outage(unknown=stage.committing) from cause
        _roll_back(conn)
        _tell_rollback(entries)
        if not is_conflict(cause):
            break
        if attempt == MAX_ATTEMPTS:
            cause = Aborted("too many concurrent writes touched the same rows; try again", retry_after_s=RETRY_AFTER_S)
    if len(entries) == 1:
        entries[0].outcome = Failure(cause)
        return
    for entry in entries:
        write_entries(conn, [entry], hook)


def is_outage(error: BaseException) -> bool:
    """Whether `error` says that the database cannot be reached or written at all, not that a write was wrong."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        if isinstance(error.orig, sqlite3.Error):
            return is_outage(error.orig)
        state = _sqlstate(error)
        return state.startswith(_OUTAGE_STATES) or (isinstance(error, InterfaceError) and not state)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "").startswith(_SQLITE_OUTAGES)
    return isinstance(error, ConnectionError)


def is_conflict(error: BaseException) -> bool:
    """Whether `error` is a deadlock or serialization failure, which trying again mends."""
    return isinstance(error, DBAPIError) and _sqlstate(error) in _CONFLICT_STATES


def outage_error(*, unknown: bool = False) -> Unavailable:
    """What a caller gets when the database went away under its call."""
    fate = "went away while committing, so the write may or may not have happened" if unknown else "is not reachable"
    return Unavailable(f"the database {fate}; try again", retry_after_s=RETRY_AFTER_S)


def run_each(conn: Connection, functions: Sequence[Callable[[Connection], object]]) -> list[object]:
    """The handler of single admin writes: each in a savepoint, so that one that raises leaves nothing behind."""
    results: list[object] = []
    for function in functions:
        savepoint = conn.begin_nested()
        try:
            results.append(function(conn))
        except Exception as error:
            if is_outage(error) or is_conflict(error):
                raise
            savepoint.rollback()
            results.append(Failure(error))
        else:
            savepoint.commit()
    return results


@dataclass(slots=True)
class _Stage:
    committing: bool = False
    committed: bool = False


def _handle(conn: Connection, entries: Sequence[Entry]) -> list[list[Any]]:
    outcomes: list[list[Any]] = []
    for kind, group in groupby(entries, key=_kind_of):
        together = list(group)
        items = together[0].items if len(together) == 1 else [item for entry in together for item in entry.items]
        results = kind.handler(conn, items)
        if len(results) != len(items):
            raise RuntimeError(f"write handler {kind.name!r} gave {len(results)} results for {len(items)} items")
        start = 0
        for entry in together:
            end = start + len(entry.items)
            outcomes.append(list(results[start:end]))
            start = end
    return outcomes


def _commit(conn: Connection, hook: CommitHook | None, stage: _Stage) -> None:
    if hook is not None:
        hook("before")
    stage.committing = True
    direct_sql.commit(conn)
    stage.committed = True
    if hook is not None:
        hook("after")


def _tell_rollback(entries: Sequence[Entry]) -> None:
    for kind in {entry.kind for entry in entries}:
        if kind.on_rollback is not None:
            kind.on_rollback()


def _roll_back(conn: Connection) -> None:
    try:
        direct_sql.roll_back(conn)
    except (DBAPIError, sqlite3.Error) as error:
        raise Outage(unknown=False) from error


def _kind_of(entry: Entry) -> WriteKind[Any, Any]:
    return entry.kind


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")
