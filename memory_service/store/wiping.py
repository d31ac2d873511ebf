"""Removing for good, down to the bytes of the file as far as the engine can.

SQLite leaves removed rows on free pages and removed words in the segments of its index until those are written anew.
`wiping` lets it write zeroes over rows; `compact_some` writes the index anew without what was removed. PostgreSQL does
both by itself, when its vacuum comes by.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Text, bindparam, text

_PAGES = 500
"""How many pages of the index a step writes: some ten milliseconds."""

_FAST = 2
_POSTED = text("SELECT count(*) FROM memory_fts WHERE memory_fts MATCH :match")
_KEPT = text("SELECT count(*) FROM memory_fts_source WHERE namespace = :word")
_POSTED_WORDS = text("SELECT count(*) FROM memory_fts WHERE words @@ CAST(:match AS TSQUERY)").bindparams(
    bindparam("match", type_=Text)
)
_BEGIN = text("INSERT INTO memory_fts(memory_fts, rank) VALUES ('merge', :pages)").bindparams(pages=-_PAGES)
_GO_ON = text("INSERT INTO memory_fts(memory_fts, rank) VALUES ('merge', :pages)").bindparams(pages=_PAGES)


@contextmanager
def wiping(conn: Connection) -> Iterator[None]:
    """Rows removed inside are overwritten in the file."""
    if conn.dialect.name != "sqlite":
        yield
        return
    before = conn.exec_driver_sql("PRAGMA secure_delete").scalar_one()
    conn.exec_driver_sql("PRAGMA secure_delete = 1")
    try:
        yield
    finally:
        conn.exec_driver_sql(f"PRAGMA secure_delete = {'FAST' if before == _FAST else before}")


def compact_some(conn: Connection, *, begun: bool) -> bool:
    """Writes a part of the index of words anew; says whether there is more to do. `begun` after the first part."""
    if conn.dialect.name != "sqlite":
        return False
    with wiping(conn):
        before = _changes(conn)
        conn.execute(_GO_ON if begun else _BEGIN)
        return not begun or _changes(conn) - before >= 2


def count_postings(conn: Connection, namespace_key: int) -> int:
    """How many memories the index of words holds for a namespace, by its postings and by their source."""
    # The word that stands for a namespace; see `store.fulltext`.
    word = f"N{namespace_key}"
    if conn.dialect.name == "sqlite":
        posted: int = conn.execute(_POSTED, {"match": f'namespace : "{word}"'}).scalar_one()
        kept: int = conn.execute(_KEPT, {"word": word}).scalar_one()
        return posted + kept
    found: int = conn.execute(_POSTED_WORDS, {"match": f"'{word}'"}).scalar_one()
    return found


def _changes(conn: Connection) -> int:
    count: int = conn.execute(text("SELECT total_changes()")).scalar_one()
    return count
