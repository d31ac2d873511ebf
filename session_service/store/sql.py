"""Statements that the two engines word differently, made once for each engine."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Text,
    TextClause,
    any_,
    bindparam,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

# A list goes to SQLite as one JSON parameter: a row of question marks would be another statement for every length.
_FIND_EVENTS: Final = {
    "sqlite": text(
        "SELECT e.session, e.event_id, e.sequence, e.kind, e.run FROM json_each(:keys) k CROSS JOIN event e "
        "ON e.session = json_extract(k.value, '$[0]') AND e.event_id = json_extract(k.value, '$[1]')"
    ),
    "postgresql": text(
        "SELECT e.session, e.event_id, e.sequence, e.kind, e.run FROM unnest(:sessions, :ids) AS k(session, event_id) "
        "JOIN event e ON e.session = k.session AND e.event_id = k.event_id"
    ).bindparams(bindparam("sessions", type_=ARRAY(BigInteger)), bindparam("ids", type_=ARRAY(Text))),
}


def among(conn: Connection, item: ColumnElement[Any], values: Sequence[str] | Sequence[int]) -> ColumnElement[bool]:
    """`item IN values`, for any number of values."""
    if conn.dialect.name == "sqlite":
        each = func.json_each(literal(orjson.dumps(list(values)).decode())).table_valued("value")
        return item.in_(select(each.c.value))
    kind = BigInteger if isinstance(item.type, Integer) else Text
    return item == any_(bindparam(None, list(values), type_=ARRAY(kind), unique=True))


def find_events(conn: Connection, keys: Sequence[tuple[int, str]]) -> Sequence[Any]:
    """The rows (session, event_id, sequence, kind, run) of those `keys` (session, event id) that are in the log."""
    statement: TextClause = _FIND_EVENTS[conn.dialect.name]
    if conn.dialect.name == "sqlite":
        return conn.execute(statement, {"keys": orjson.dumps(keys).decode()}).all()
    return conn.execute(statement, {"sessions": [key[0] for key in keys], "ids": [key[1] for key in keys]}).all()


def escape_like(words: str) -> str:
    """`words` as a literal part of a LIKE pattern with the escape character "\\"."""
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
