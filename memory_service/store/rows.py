"""Rows of memories, read and added; on SQLite in the driver's own wording, which takes a fraction of the time."""

import json
from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any, Final, Literal

from sqlalchemy import Connection, insert, select

from chassis import direct_sql
from memory_service.models import MEMORY
from memory_service.store.codec import Row

_COLUMNS: Final = tuple(column.name for column in MEMORY.columns)
_ADDED: Final = tuple(name for name in _COLUMNS if name != "pk")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM memory WHERE"
_SELECT_ONE: Final = {
    column: f"{_SELECT} namespace = ? AND {column} = ? ORDER BY pk" for column in ("memory_id", "text_key")
}
_AMONG: Final = "IN (SELECT value FROM json_each(?))"
# A list of parameters is read a third faster than a JSON list; a few lengths keep the statements few.
_LENGTHS: Final = (4, 16, 64)
_OF_KEYS: Final = {length: f"{_SELECT} pk IN ({', '.join('?' * length)})" for length in _LENGTHS}
_INSERT: Final = f"INSERT INTO memory ({', '.join(_ADDED)}) VALUES ({', '.join('?' * len(_ADDED))})"
_values: Final = itemgetter(*_ADDED)


def rows_of_keys(conn: Connection, keys: Sequence[int]) -> Sequence[Row]:
    """Those that exist."""
    if conn.dialect.name == "sqlite":
        length = next((length for length in _LENGTHS if len(keys) <= length), 0)
        if length:
            return _named(direct_sql.fetch(conn, _OF_KEYS[length], (*keys, *[None] * (length - len(keys)))))
        return _named(direct_sql.fetch(conn, f"{_SELECT} pk {_AMONG}", (json.dumps(keys),)))
    return conn.execute(select(MEMORY).where(MEMORY.c.pk.in_(keys))).mappings().all()


def rows_with(
    conn: Connection, namespace: int, column: Literal["memory_id", "text_key"], values: Collection[str]
) -> Sequence[Row]:
    """The rows of a namespace with one of these values, in order of their keys."""
    if conn.dialect.name == "sqlite":
        if len(values) == 1:
            return _named(direct_sql.fetch(conn, _SELECT_ONE[column], (namespace, *values)))
        statement = f"{_SELECT} namespace = ? AND {column} {_AMONG} ORDER BY pk"
        return _named(direct_sql.fetch(conn, statement, (namespace, json.dumps(list(values)))))
    query = select(MEMORY).where(MEMORY.c.namespace == namespace, MEMORY.c[column].in_(values))
    return conn.execute(query.order_by(MEMORY.c.pk)).mappings().all()


def add_rows(conn: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The keys by id. The rows have all columns but the key."""
    if conn.dialect.name == "sqlite":
        return {row["memory_id"]: direct_sql.insert(conn, _INSERT, _values(row)) for row in rows}
    statement = insert(MEMORY).returning(MEMORY.c.pk, MEMORY.c.memory_id)
    return {memory_id: key for key, memory_id in conn.execute(statement, rows).all()}


def _named(rows: Sequence[Sequence[Any]]) -> list[Row]:
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
