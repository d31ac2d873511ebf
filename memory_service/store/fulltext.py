"""The index of words, which has one form on each engine: FTS5 on SQLite, a tsvector on PostgreSQL.

Both are given words that are ready (`domain.words`), hold only memories that live, and carry the namespace as a word of
its own, so that a search reads the postings of one bot only. Words of a text count fully, those of a context less.

On SQLite the postings of what came last are written some dozens at a time, by `post_due`, which has to be called before
they are searched.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Double,
    Select,
    Text,
    bindparam,
    column,
    select,
    table,
    text,
)

from chassis import direct_sql
from memory_service.domain.memory import Content
from memory_service.domain.search import CONTEXT_WEIGHT
from memory_service.domain.words import words
from memory_service.models import MEMORY
from memory_service.store.transaction import Namespace

_K1 = 1.2
_B = 0.75

_SOURCE = table("memory_fts_source", column("pk"), column("namespace"), column("text"), column("context"))
_SQLITE_INDEX = table("memory_fts", column("rowid"))
_POSTGRESQL_INDEX = table("memory_fts", column("memory"), column("words"))

_INSERT_SOURCE = "INSERT INTO memory_fts_source (pk, namespace, text, context) VALUES (?, ?, ?, ?)"
_POST_EVERY = 64
"""Memories at most whose postings are due."""
_POSTED = "SELECT posted FROM memory_fts_state"
_POST = (
    "INSERT INTO memory_fts(rowid, namespace, text, context) SELECT pk, namespace, text, context "
    f"FROM memory_fts_source WHERE pk > ({_POSTED}) ORDER BY pk"
)
_MARK_POSTED = "UPDATE memory_fts_state SET posted = (SELECT max(pk) FROM memory_fts_source)"
_DUE = f"SELECT EXISTS (SELECT 1 FROM memory_fts_source WHERE pk > ({_POSTED}))"

_INSERT_VECTOR = text(
    "INSERT INTO memory_fts (memory, words) VALUES (:memory, CAST(CAST(:words AS TEXT) AS TSVECTOR))"
).bindparams(bindparam("words", type_=Text))
_UPDATE_VECTOR = text(
    "UPDATE memory_fts SET words = CAST(CAST(:words AS TEXT) AS TSVECTOR) WHERE memory = :memory"
).bindparams(bindparam("words", type_=Text))
# The old words are taken back as they were posted; then the new ones are posted, and noted for indexes in memory.
_RENEW = (
    text(
        "INSERT INTO memory_fts(memory_fts, rowid, namespace, text, context) "
        "SELECT 'delete', pk, namespace, text, context FROM memory_fts_posted WHERE pk = :pk"
    ),
    text("UPDATE memory_fts_source SET text = :text, context = :context WHERE pk = :pk"),
    text(
        "INSERT INTO memory_fts(rowid, namespace, text, context) "
        "SELECT pk, namespace, text, context FROM memory_fts_posted WHERE pk = :pk"
    ),
    text("INSERT INTO memory_fts_gone(namespace, memory) VALUES (:namespace, :pk)"),
)
# How many memories of the namespace hold each word.
_FREQUENCIES = text(
    "SELECT t.word, (SELECT count(*) FROM memory_fts WHERE words @@ CAST(t.query AS TSQUERY)) "
    "FROM unnest(:words, :queries) AS t(word, query)"
).bindparams(bindparam("words", type_=ARRAY(Text)), bindparam("queries", type_=ARRAY(Text)))
# BM25, which PostgreSQL's own ranking is not: it does not know how rare a word is.
_BM25 = (
    f"(SELECT sum(q.idf * f.tf * {_K1 + 1} / (f.tf + {_K1} * ({1 - _B} + {_B} * memory.word_count / :mean))) "
    "FROM unnest(memory_fts.words) AS u JOIN unnest(:terms, :idfs) AS q(term, idf) ON q.term = u.lexeme, "
    f"LATERAL (SELECT sum(CASE w WHEN 'A' THEN 1.0 ELSE {CONTEXT_WEIGHT} END) AS tf FROM unnest(u.weights) AS w) AS f)"
)


@dataclass(frozen=True, slots=True)
class WordMatch:
    """A memory that holds a wanted word; `score` is its BM25, `data` its metadata."""

    key: int
    score: float
    data: str


class Entry:
    """A memory as the index holds it. `length` is how many words it counts in ranking."""

    __slots__ = ("context", "length", "text")

    def __init__(self, content: Content) -> None:
        self.text = words(content.text)
        self.context = words(content.context)
        self.length = len(self.text) + len(self.context)


def add_entries(conn: Connection, namespace: Namespace, entries: Sequence[tuple[int, Entry]]) -> None:
    """Indexes memories, by key, that are not indexed yet."""
    if not entries:
        return
    if conn.dialect.name == "sqlite":
        of = token(namespace.key)
        rows = [(key, of, " ".join(entry.text), " ".join(entry.context)) for key, entry in entries]
        direct_sql.run_many(conn, _INSERT_SOURCE, rows)
        # New keys go on one by one, so that each number is some transaction's.
        if any(row[0] % _POST_EVERY == 0 for row in rows):
            post_due(conn)
    else:
        conn.execute(
            _INSERT_VECTOR, [{"memory": key, "words": _vector(namespace.key, entry)} for key, entry in entries]
        )


def is_due(conn: Connection) -> bool:
    """Whether there are memories whose postings are not written yet."""
    return conn.dialect.name == "sqlite" and bool(direct_sql.fetch(conn, _DUE)[0][0])


def post_due(conn: Connection) -> None:
    """Writes the postings that are due. In a write."""
    if is_due(conn):
        direct_sql.run(conn, _POST)
        direct_sql.run(conn, _MARK_POSTED)


def remove_entries(conn: Connection, keys: Sequence[int]) -> None:
    """Takes memories out of the index, whatever of them it holds."""
    if conn.dialect.name == "sqlite":
        conn.execute(_SOURCE.delete().where(_SOURCE.c.pk.in_(keys)))
    else:
        conn.execute(_POSTGRESQL_INDEX.delete().where(_POSTGRESQL_INDEX.c.memory.in_(keys)))


def renew_entries(conn: Connection, namespace: Namespace, entries: Sequence[tuple[int, Entry]]) -> None:
    """Makes the postings of memories anew, where they are; unlike taking them out and in, that leaves vectors alone."""
    if not entries:
        return
    if conn.dialect.name != "sqlite":
        rows = [{"memory": key, "words": _vector(namespace.key, entry)} for key, entry in entries]
        conn.execute(_UPDATE_VECTOR, rows)
        return
    for key, entry in entries:
        row = {
            "pk": key,
            "namespace": token(namespace.key),
            "text": " ".join(entry.text),
            "context": " ".join(entry.context),
        }
        for statement in _RENEW:
            conn.execute(statement, row)


def find_candidates(
    conn: Connection,
    namespace: Namespace,
    wanted: Sequence[str],
    conditions: Iterable[ColumnElement[bool]],
    limit: int | None,
) -> Generator[WordMatch]:
    """Memories of the namespace with any of the wanted words, the best first, at most `limit`.

    On PostgreSQL also those that are as good as the last.
    """
    query = (_on_sqlite if conn.dialect.name == "sqlite" else _on_postgresql)(conn, namespace, wanted)
    # The index has cut the namespaces apart already. This is the second lock on the door; the sum keeps SQLite from
    # reading the whole namespace by its own index instead of the postings.
    query = query.where(MEMORY.c.namespace + 0 == namespace.key, *conditions)
    if conn.dialect.name == "sqlite":
        query = query.order_by(text("score DESC"), MEMORY.c.update_time.desc(), MEMORY.c.memory_id).limit(limit)
    else:
        query = query.order_by(text("score DESC"))
        query = query if limit is None else query.fetch(limit, with_ties=True)
    with conn.execute(query) as rows:
        for row in rows:
            yield WordMatch(row.pk, float(row.score), row.data)


def _on_sqlite(_: Connection, namespace: Namespace, wanted: Sequence[str]) -> Select[tuple[int]]:
    # Words hold nothing but letters, marks and digits; quoted, none of them is an operator.
    alternatives = " OR ".join(f'"{word}"' for word in wanted)
    match = f'namespace : "{token(namespace.key)}" AND {{text context}} : ({alternatives})'
    score = text(f"-bm25(memory_fts, 0.0, 1.0, {CONTEXT_WEIGHT}) AS score")
    return (
        select(MEMORY.c.pk, MEMORY.c.memory_id, score, MEMORY.c.update_time, MEMORY.c.data)
        .join_from(_SQLITE_INDEX, MEMORY, MEMORY.c.pk == _SQLITE_INDEX.c.rowid)
        .where(text("memory_fts MATCH :words_to_match").bindparams(words_to_match=match))
    )


def _on_postgresql(conn: Connection, namespace: Namespace, wanted: Sequence[str]) -> Select[tuple[int]]:
    mine = token(namespace.key)
    queries = [f"'{mine}' & '{word}'" for word in wanted]
    rows = conn.execute(_FREQUENCIES, {"words": list(wanted), "queries": queries}).all()
    frequencies: dict[str, int] = {row[0]: row[1] for row in rows}
    total = max(1, namespace.live_count)
    idfs = [_inverse_frequency(total, frequencies[word]) for word in wanted]
    score = text(f"{_BM25} AS score").bindparams(
        bindparam("mean", max(1.0, namespace.word_count / total), type_=Double),
        bindparam("terms", list(wanted), type_=ARRAY(Text)),
        bindparam("idfs", idfs, type_=ARRAY(Double)),
    )
    alternatives = " | ".join(f"'{word}'" for word in wanted)
    match = f"'{mine}' & ({alternatives})"
    return (
        select(MEMORY.c.pk, MEMORY.c.memory_id, score, MEMORY.c.update_time, MEMORY.c.data)
        .join_from(_POSTGRESQL_INDEX, MEMORY, MEMORY.c.pk == _POSTGRESQL_INDEX.c.memory)
        .where(
            text("memory_fts.words @@ CAST(:words_to_match AS TSQUERY)").bindparams(
                bindparam("words_to_match", match, type_=Text)
            )
        )
    )


def _inverse_frequency(total: int, frequency: int) -> float:
    return math.log(1 + (max(total, frequency) - frequency + 0.5) / (frequency + 0.5))


def token(namespace: int) -> str:
    """The word that stands for a namespace. Words of texts have no capitals, so none can be mistaken for it."""
    return f"N{namespace}"


def _vector(namespace: int, entry: Entry) -> str:
    """The literal of a tsvector: every word with its places, those of the text weighing most."""
    places: dict[str, list[str]] = {}
    for place, word in enumerate(entry.text, 1):
        places.setdefault(word, []).append(f"{place}A")
    for place, word in enumerate(entry.context, len(entry.text) + 1):
        places.setdefault(word, []).append(f"{place}C")
    # A lexeme keeps at most 256 places, and places end at 16,383.
    lexemes = (f"'{word}':{','.join(at[:255])}" for word, at in places.items())
    return " ".join(chain((f"'{token(namespace)}'",), lexemes))
