"""Statements that the two engines word differently, made once for each engine."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Insert,
    Integer,
    Select,
    Text,
    UnaryExpression,
    Update,
    any_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import custom_op

from chassis import direct_sql

_MAX_SHAPES = 1_024

# A list goes to SQLite as one JSON parameter: a row of question marks would be another statement for every length.
_FIND_EVENTS_SQLITE: Final = (
    "SELECT e.session, e.event_id, e.sequence, e.kind, e.run FROM json_each(?) k CROSS JOIN event e "
    "ON e.session = json_extract(k.value, '$[0]') AND e.event_id = json_extract(k.value, '$[1]')"
)
_FIND_EVENTS_POSTGRESQL: Final = text(
    "SELECT e.session, e.event_id, e.sequence, e.kind, e.run FROM unnest(:sessions, :ids) AS k(session, event_id) "
    "JOIN event e ON e.session = k.session AND e.event_id = k.event_id"
).bindparams(bindparam("sessions", type_=ARRAY(BigInteger)), bindparam("ids", type_=ARRAY(Text)))


class Among:
    """`columns` of the rows of one table whose `key` is among many; worded once for each engine."""

    def __init__(self, columns: Sequence[Column[Any]], key: Column[Any]) -> None:
        names = ", ".join(f"{key.table.name}.{column.name}" for column in columns)
        select_from = f"SELECT {names} FROM {key.table.name} WHERE {key.name}"
        kind = BigInteger if isinstance(key.type, Integer) else Text
        self._sqlite = f"{select_from} IN (SELECT value FROM json_each(?))"
        self._postgresql = text(f"{select_from} = ANY(:keys)").bindparams(bindparam("keys", type_=ARRAY(kind)))

    def run(self, conn: Connection, keys: Sequence[str] | Sequence[int]) -> Sequence[Any]:
        if conn.dialect.name == "sqlite":
            return direct_sql.fetch(conn, self._sqlite, (orjson.dumps(keys).decode(),))
        return conn.execute(self._postgresql, {"keys": list(keys)}).all()


class Worded:
    """A statement that is run for many rows at once, with the values of each row in the order of `names`.

    SQLAlchemy spends as much on the parameters of a row as SQLite on the row. So it only words the statement, once for
    each engine, and the driver gets plain tuples; all columns are of types that drivers take as they are.
    """

    def __init__(self, statement: Insert | Update | Select[Any], names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._worded: dict[str, str] = {}

    def run(self, conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        direct_sql.run_many(conn, self._text(conn), rows)

    def fetch(self, conn: Connection) -> Sequence[Any]:
        """The one row of a statement without parameters."""
        return direct_sql.fetch(conn, self._text(conn))[0]

    def _text(self, conn: Connection) -> str:
        text = self._worded.get(conn.dialect.name)
        if text is None:
            text = self._worded[conn.dialect.name] = self._word(conn)
        return text

    def _word(self, conn: Connection) -> str:
        keys = list(self._names) if isinstance(self._statement, Insert) else None
        compiled = self._statement.compile(dialect=conn.dialect, column_keys=keys)
        if not isinstance(compiled, SQLCompiler) or tuple(compiled.positiontup or ()) != self._names:
            raise AssertionError(f"the parameters of {compiled} are not in the order {self._names}")
        return str(compiled)


class Shapes:
    """The wording of statements that are put together from parts, kept for each set of parts.

    SQLAlchemy takes longer to put one together than SQLite to answer it.
    """

    def __init__(self) -> None:
        self._worded: dict[Hashable, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def fetch(
        self,
        conn: Connection,
        shape: Hashable,
        make: Callable[[], Select[Any]],
        values: Mapping[str, Any],
    ) -> Sequence[Any]:
        """The rows of the statement of this shape, with `values` for its named parameters.

        `make` is called for the first of a shape; `shape` must tell apart whatever it words differently.
        """
        key = (conn.dialect.name, shape)
        worded = self._worded.get(key)
        if worded is None:
            compiled = make().compile(dialect=conn.dialect)
            if not isinstance(compiled, SQLCompiler):
                raise AssertionError(f"{compiled} is no statement")
            # What SQLAlchemy adds by itself (SQLite gets an offset of 0 with each limit) is a part of the wording.
            own = {name: value for name, value in compiled.params.items() if name not in values}
            worded = (str(compiled), tuple(compiled.positiontup or ()), own)
            if len(self._worded) >= _MAX_SHAPES:
                self._worded.clear()
            self._worded[key] = worded
        text, names, own = worded
        return direct_sql.fetch(conn, text, [own[name] if name in own else values[name] for name in names])


def among(
    conn: Connection, item: ColumnElement[Any], values: Sequence[str] | Sequence[int], name: str | None = None
) -> ColumnElement[bool]:
    """`item IN values`, for any number of values. With a `name` they can be given anew, as `listed` has them."""
    given = listed(conn, values)
    if conn.dialect.name == "sqlite":
        each = func.json_each(bindparam(name, given, type_=Text, unique=name is None)).table_valued("value")
        return item.in_(select(each.c.value))
    kind = BigInteger if isinstance(item.type, Integer) else Text
    return item == any_(bindparam(name, given, type_=ARRAY(kind), unique=name is None))


def listed(conn: Connection, values: Sequence[str] | Sequence[int]) -> str | list[str] | list[int]:
    """The values of `among` as a parameter."""
    return orjson.dumps(list(values)).decode() if conn.dialect.name == "sqlite" else list(values)  # type: ignore[return-value]


def unindexed(conn: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column as a filter that SQLite looks no index up for; PostgreSQL knows better by itself."""
    if conn.dialect.name != "sqlite":
        return column
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def find_events(conn: Connection, keys: Sequence[tuple[int, str]]) -> Sequence[Any]:
    """The rows (session, event_id, sequence, kind, run) of those `keys` (session, event id) that are in the log."""
    if conn.dialect.name == "sqlite":
        return direct_sql.fetch(conn, _FIND_EVENTS_SQLITE, (orjson.dumps(keys).decode(),))
    given = {"sessions": [key[0] for key in keys], "ids": [key[1] for key in keys]}
    return conn.execute(_FIND_EVENTS_POSTGRESQL, given).all()


def escape_like(words: str) -> str:
    """`words` as a literal part of a LIKE pattern with the escape character "\\"."""
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
