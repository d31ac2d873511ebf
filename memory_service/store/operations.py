"""Operations as rows. Whoever works on one saves its progress in the transaction of the work itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from memory_service.domain.errors import OperationNotFound, OperationStopped
from memory_service.domain.operation import (
    UNFINISHED,
    Operation,
    OperationFailure,
    OperationKind,
    OperationState,
)
from memory_service.models import OPERATION
from memory_service.store.codec import Row, dump, micros, moment, moment_or_none
from memory_service.store.lists import Page, Position
from memory_service.store.transaction import Transaction, read_namespace

LEASE = timedelta(seconds=60)
"""How long a process may be silent before another one takes its operations over."""
KEPT = timedelta(days=90)
"""How long an operation that has ended can be read."""

Undo: TypeAlias = Callable[[Transaction, Operation], None]
"""Takes back what an operation has begun, in the transaction that cancels it."""

_ORDER = OPERATION.c.pk.desc()


def add_operation(
    tx: Transaction, bot: str, kind: OperationKind, by: str, arguments: Mapping[str, Any], *, total_count: int = 0
) -> Operation:
    row = {
        "bot": bot,
        "operation_id": tx.new_id(),
        "kind": int(kind),
        "state": int(OperationState.PENDING),
        "principal": by,
        "arguments": dump(arguments),
        "progress": "{}",
        "result": "{}",
        "error": "",
        "done_count": 0,
        "total_count": total_count,
        "phase": "",
        "attempt_count": 0,
        "failure_count": 0,
        "owner": "",
        "lease_time": 0,
        "retry_time": 0,
        "create_time": micros(tx.now),
        "update_time": micros(tx.now),
    }
    tx.conn.execute(insert(OPERATION), row)
    return read_operation(tx.conn, bot, str(row["operation_id"]))


def read_operation(conn: Connection, bot: str, operation_id: str) -> Operation:
    query = select(OPERATION).where(OPERATION.c.bot == bot, OPERATION.c.operation_id == operation_id)
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        raise OperationNotFound(f"bots/{bot}/operations/{operation_id}")
    return _from_row(row)


def find_unfinished(conn: Connection, bot: str | None) -> list[Operation]:
    """The oldest first; of every bot with None."""
    query = select(OPERATION).where(OPERATION.c.end_time.is_(None)).order_by(OPERATION.c.pk)
    if bot is not None:
        query = query.where(OPERATION.c.bot == bot)
    return [_from_row(row) for row in conn.execute(query).mappings()]


def list_operations(
    conn: Connection,
    bot: str | None,
    kinds: frozenset[OperationKind],
    states: frozenset[OperationState],
    size: int,
    after: Position,
) -> Page[Operation]:
    """The newest first; of every bot with None."""
    query = select(OPERATION)
    if bot is not None:
        query = query.where(OPERATION.c.bot == bot)
    if kinds:
        query = query.where(OPERATION.c.kind.in_(sorted(kinds)))
    if states:
        query = query.where(OPERATION.c.state.in_(sorted(states)))
    if after:
        query = query.where(OPERATION.c.pk < after[0])
    rows = conn.execute(query.order_by(_ORDER).limit(size + 1)).mappings().all()
    place = (rows[size - 1]["pk"],) if len(rows) > size else ()
    revision = 0 if bot is None else read_namespace(conn, bot).revision
    return Page(tuple(_from_row(row) for row in rows[:size]), place, revision)


def find_due(conn: Connection, owner: str, now: datetime, *, alone: bool) -> list[Operation]:
    """What `owner` has to work on, the oldest first; `alone` when no other process can be at work on this database."""
    query = select(OPERATION).where(OPERATION.c.end_time.is_(None), OPERATION.c.retry_time <= micros(now))
    if not alone:
        query = query.where(_free_for(owner, now))
    return [_from_row(row) for row in conn.execute(query.order_by(OPERATION.c.pk)).mappings()]


def take_up(tx: Transaction, operation: Operation, owner: str, *, alone: bool) -> Operation | None:
    """The operation, now `owner`'s to work on; None when it has ended or another process has it."""
    row = _lock(tx, operation)
    if row is None or row["end_time"] is not None:
        return None
    if not alone and row["owner"] not in ("", owner) and row["lease_time"] > micros(tx.now):
        return None
    values: dict[str, Any] = {"owner": owner, "lease_time": micros(tx.now + LEASE)}
    if row["owner"] != owner:
        values["attempt_count"] = row["attempt_count"] + 1
    if row["state"] == OperationState.PENDING:
        values |= {"state": int(OperationState.RUNNING), "start_time": micros(tx.now), "update_time": micros(tx.now)}
    return _write(tx, operation, values)


def save_progress(
    tx: Transaction,
    operation: Operation,
    *,
    done_count: int,
    total_count: int,
    phase: str,
    progress: Mapping[str, Any],
) -> Operation:
    """Notes where the work stands, in the transaction that did it.

    Raises:
        OperationStopped: it was cancelled or taken over meanwhile; the work of this transaction must not be.
    """
    _check_mine(tx, operation)
    values = {"done_count": done_count, "total_count": total_count, "phase": phase, "progress": dump(dict(progress))}
    times = {"update_time": micros(tx.now), "lease_time": micros(tx.now + LEASE)}
    return _write(tx, operation, values | times)


def succeed(tx: Transaction, operation: Operation, result: Mapping[str, Any]) -> Operation:
    """Ends the operation well. Raises: OperationStopped."""
    _check_mine(tx, operation)
    values = {"result": dump(dict(result)), "error": ""}
    return _end(tx, operation, OperationState.SUCCEEDED, values)


def note_failure(
    tx: Transaction, operation: Operation, failure: OperationFailure, retry_time: datetime | None
) -> Operation | None:
    """Notes why an attempt failed and when the next one is; without a next one the operation has failed.

    None when it is no longer the caller's.
    """
    row = _lock(tx, operation)
    if row is None or row["end_time"] is not None or row["owner"] != operation.owner:
        return None
    values: dict[str, Any] = {
        "error": dump(asdict(failure)),
        "failure_count": row["failure_count"] + 1,
        "update_time": micros(tx.now),
    }
    if retry_time is None:
        return _end(tx, operation, OperationState.FAILED, values)
    # The next attempt counts as one, even if the same process makes it.
    return _write(tx, operation, values | {"owner": "", "retry_time": micros(retry_time)})


def cancel(tx: Transaction, operation: Operation, undo: Undo) -> Operation:
    """Ends the operation without a result; whether it may be is for the caller to know."""
    undo(tx, operation)
    return _end(tx, operation, OperationState.CANCELLED, {})


def lock_operation(tx: Transaction, bot: str, operation_id: str) -> Operation:
    """The operation as it is, which nobody else changes until the commit."""
    operation = read_operation(tx.conn, bot, operation_id)
    row = _lock(tx, operation)
    if row is None:
        raise OperationNotFound(operation.name)
    return _from_row(row)


def forget_ended(tx: Transaction) -> None:
    """Removes operations that ended long ago."""
    tx.conn.execute(delete(OPERATION).where(OPERATION.c.end_time <= micros(tx.now - KEPT)))


def _free_for(owner: str, now: datetime) -> Any:  # noqa: ANN401 - SQLAlchemy's own
    mine = OPERATION.c.owner.in_(("", owner))
    return or_(mine, and_(OPERATION.c.owner != owner, OPERATION.c.lease_time <= micros(now)))


def _check_mine(tx: Transaction, operation: Operation) -> None:
    row = _lock(tx, operation)
    if row is None or row["state"] not in UNFINISHED or row["owner"] != operation.owner:
        raise OperationStopped(operation.name)


def _lock(tx: Transaction, operation: Operation) -> Row | None:
    query = select(OPERATION).where(OPERATION.c.pk == operation.key).with_for_update()
    return tx.conn.execute(query).mappings().one_or_none()


def _end(tx: Transaction, operation: Operation, state: OperationState, values: dict[str, Any]) -> Operation:
    now = micros(tx.now)
    return _write(tx, operation, values | {"state": int(state), "update_time": now, "end_time": now, "phase": ""})


def _write(tx: Transaction, operation: Operation, values: Mapping[str, Any]) -> Operation:
    tx.conn.execute(update(OPERATION).where(OPERATION.c.pk == operation.key).values(**values))
    return read_operation(tx.conn, operation.bot, operation.id)


def _from_row(row: Row) -> Operation:
    return Operation(
        key=row["pk"],
        bot=row["bot"],
        id=row["operation_id"],
        kind=OperationKind(row["kind"]),
        state=OperationState(row["state"]),
        create_time=moment(row["create_time"]),
        update_time=moment(row["update_time"]),
        principal=row["principal"],
        arguments=json.loads(row["arguments"]),
        progress=json.loads(row["progress"]),
        result=json.loads(row["result"]),
        done_count=row["done_count"],
        total_count=row["total_count"],
        phase=row["phase"],
        start_time=moment_or_none(row["start_time"]),
        end_time=moment_or_none(row["end_time"]),
        attempt_count=row["attempt_count"],
        failure_count=row["failure_count"],
        error=_failure(row["error"]),
        owner=row["owner"],
    )


def _failure(text: str) -> OperationFailure | None:
    if not text:
        return None
    kept = json.loads(text)
    pairs: Sequence[Sequence[str]] = kept["metadata"]
    metadata = tuple((key, value) for key, value in pairs)
    return OperationFailure(kept["code"], kept["reason"], kept["message"], metadata)
