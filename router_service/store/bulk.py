"""Statements over many rows at once, for the hot tables.

Rows are bound by the dozen into one VALUES list, and what is read comes back as one row of JSON: on SQLite every step
of a statement gives the interpreter's lock away, and a statement is prepared, bound and finished once for 64 rows. On
PostgreSQL arrays do the same. Texts are few and constant, so both engines keep them prepared.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal

import orjson
from sqlalchemy import Boolean, Connection, Integer, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.types import BigInteger

from chassis import direct_sql

Row = Sequence[Any]

# Powers of two, so that a list of any length takes few statements of few shapes.
_CHUNKS = (128, 64, 32, 16, 8, 4, 2, 1)
_ARRAY_TYPES: tuple[tuple[type[Any], str], ...] = (
    (BigInteger, "bigint[]"),
    (SmallInteger, "smallint[]"),
    (Boolean, "boolean[]"),
    (Integer, "integer[]"),
    (LargeBinary, "bytea[]"),
    (Text, "text[]"),
)


class Bulk:
    """Insert, update and select by key for one engine. Without state but its statement texts."""

    def __init__(self, engine_name: Literal["sqlite", "postgresql"]) -> None:
        self.sqlite = engine_name == "sqlite"
        self._texts: dict[tuple[str, str, tuple[str, ...], int], str] = {}

    def insert(
        self, conn: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Row], *, ignore: bool = False
    ) -> None:
        """Inserts rows of values in the order of `columns`; `ignore` leaves rows out whose key exists."""
        action = "insert-ignore" if ignore else "insert"
        self._write(conn, action, table, columns, rows)

    def update(self, conn: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Sets columns of rows found by the first of `columns`. No key may be twice in `rows`."""
        self._write(conn, "update", table, columns, rows)

    def select(
        self, conn: Connection, columns: tuple[str, ...], tail: str, keys: Iterable[str], *, lock: str = ""
    ) -> list[list[Any]]:
        """Selects columns (no binary ones) `tail`, where "{keys}" stands for a table of `keys` with the column `value`.

        `lock` names the column to lock by, in its order, on PostgreSQL; SQLite has one writer anyway.
        """
        names = ", ".join(columns)
        if self.sqlite:
            inner = f"SELECT {names} {tail.format(keys='json_each(?) AS k')}"
            bare = ", ".join(name.rpartition(".")[2] for name in columns)
            statement = f"SELECT json_group_array(json_array({bare})) FROM ({inner})"
            found = direct_sql.fetch(conn, statement, (orjson.dumps(list(keys)).decode(),))
            rows: list[list[Any]] = orjson.loads(found[0][0])
            return rows
        order = f" ORDER BY {lock} FOR UPDATE" if lock else ""
        statement = f"SELECT {names} {tail.format(keys='unnest($1::text[]) AS k(value)')}{order}"
        return [list(row) for row in direct_sql.fetch(conn, statement, (list(keys),))]

    def execute(self, conn: Connection, statement: str, keys: Iterable[str]) -> None:
        """Runs a statement in which "{keys}" stands for a table of `keys` with the column `value`."""
        if self.sqlite:
            direct_sql.run(conn, statement.format(keys="json_each(?) AS k"), (orjson.dumps(list(keys)).decode(),))
        else:
            direct_sql.run(conn, statement.format(keys="unnest($1::text[]) AS k(value)"), (list(keys),))

    def _write(
        self, conn: Connection, action: str, table: Table, columns: tuple[str, ...], rows: Sequence[Row]
    ) -> None:
        if not rows:
            return
        if not self.sqlite:
            arrays = tuple(list(values) for values in zip(*rows, strict=True))
            direct_sql.run(conn, self._text(action, table, columns, 0), arrays)
            return
        start, left = 0, len(rows)
        for size in _CHUNKS:
            while left >= size:
                values = tuple(chain.from_iterable(rows[start : start + size]))
                direct_sql.run(conn, self._text(action, table, columns, size), values)
                start, left = start + size, left - size

    def _text(self, action: str, table: Table, columns: tuple[str, ...], size: int) -> str:
        key = (action, table.name, columns, size)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = _render(action, table, columns, size)
        return text


def _render(action: str, table: Table, columns: tuple[str, ...], size: int) -> str:
    names = ", ".join(columns)
    if size:
        row = f"({', '.join('?' * len(columns))})"
        source = f"VALUES {', '.join([row] * size)}"
        value_names = [f"column{number}" for number in range(1, len(columns) + 1)]
    else:
        arrays = ", ".join(f"${n}::{_array_type(table, name)}" for n, name in enumerate(columns, 1))
        value_names = [f"c{number}" for number in range(1, len(columns) + 1)]
        source = f"SELECT * FROM unnest({arrays}) AS u({', '.join(value_names)})"
    if action == "update":
        sets = ", ".join(f"{name} = v.{value}" for name, value in zip(columns[1:], value_names[1:], strict=True))
        return (
            f"UPDATE {table.name} SET {sets} FROM ({source}) AS v WHERE {table.name}.{columns[0]} = v.{value_names[0]}"
        )
    conflict = " ON CONFLICT DO NOTHING" if action == "insert-ignore" else ""
    return f"INSERT INTO {table.name} ({names}) {source}{conflict}"


def _array_type(table: Table, column: str) -> str:
    kind = table.c[column].type
    return next(name for cls, name in _ARRAY_TYPES if isinstance(kind, cls))
