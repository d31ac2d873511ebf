"""Vectors as rows, in sets: which set serves a namespace, which memories wait for a vector, and those that came.

A set has the vectors of one model and no others. Memories lose their vectors where they leave the index of words, by a
trigger; `forget` is for whoever removes rows by other ways.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, text, update

from chassis import direct_sql
from memory_service.domain.embedder import Model, Shape, VectorSet, floats
from memory_service.domain.memory import VectorState
from memory_service.models import MEMORY, MEMORY_VECTOR, NAMESPACE, VECTOR_SET
from memory_service.store.transaction import Namespace, Transaction

_BATCH = 500

_MINE = VECTOR_SET.c
_COLUMNS = (
    _MINE.pk,
    _MINE.namespace,
    _MINE.embedder,
    _MINE.dimension,
    _MINE.fingerprint,
    _MINE.model,
    _MINE.shape,
    _MINE.serving,
)
_SERVING_SQLITE = (
    f"SELECT {', '.join(column.name for column in _COLUMNS)} FROM vector_set WHERE namespace = ? AND serving"
)

_TURNS_BEFORE = text(
    "SELECT turn.pk, before.text FROM memory AS turn JOIN memory AS before ON before.pk = ("
    "SELECT pk FROM memory AS each WHERE each.namespace = turn.namespace AND each.session = turn.session "
    "AND each.session <> '' AND each.event_sequence < turn.event_sequence AND each.delete_time IS NULL "
    "ORDER BY each.event_sequence DESC, each.pk DESC LIMIT 1) "
    "WHERE turn.session <> '' AND turn.event_sequence > 0 AND turn.pk IN :keys"
).bindparams(bindparam("keys", expanding=True))


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A memory that waits for a vector. `before` is the turn before it, where the shape of its set asks for that."""

    key: int
    bot: str
    namespace: int
    text: str
    text_key: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A vector as the engine stores it; None when the text was refused. `text_key` is of the text it was made from."""

    key: int
    text_key: str
    vector: Any


def serving_set(conn: Connection, namespace: int) -> VectorSet | None:
    if conn.dialect.name == "sqlite":
        rows = direct_sql.fetch(conn, _SERVING_SQLITE, (namespace,))
        return _set(rows[0]) if rows else None
    row = conn.execute(select(*_COLUMNS).where(_MINE.namespace == namespace, _MINE.serving)).one_or_none()
    return None if row is None else _set(row)


def get_set(conn: Connection, key: int) -> VectorSet | None:
    row = conn.execute(select(*_COLUMNS).where(_MINE.pk == key)).one_or_none()
    return None if row is None else _set(row)


def add_set(tx: Transaction, namespace: Namespace, model: Model, shape: Shape, *, serving: bool) -> VectorSet:
    row = {
        "namespace": namespace.key,
        "embedder": model.name,
        "model": model.model,
        "fingerprint": model.fingerprint,
        "dimension": model.dimension,
        "shape": int(shape),
        "serving": serving,
    }
    key: int = tx.conn.execute(insert(VECTOR_SET).returning(_MINE.pk), row).scalar_one()
    return VectorSet(key, namespace.key, model, shape, serving)


def drop_set(tx: Transaction, vectors: VectorSet) -> None:
    tx.conn.execute(delete(MEMORY_VECTOR).where(MEMORY_VECTOR.c.vector_set == vectors.key))
    tx.conn.execute(delete(VECTOR_SET).where(_MINE.pk == vectors.key))


def take_over(tx: Transaction, namespace: Namespace, made: VectorSet) -> None:
    """The made set serves from now on, and the one before it is no more."""
    before = serving_set(tx.conn, namespace.key)
    if before is not None and before.key != made.key:
        drop_set(tx, before)
    tx.conn.execute(update(VECTOR_SET).where(_MINE.pk == made.key).values(serving=True))
    there = select(MEMORY_VECTOR.c.vector).where(
        MEMORY_VECTOR.c.memory == MEMORY.c.pk, MEMORY_VECTOR.c.vector_set == made.key
    )
    mine = and_(MEMORY.c.namespace == namespace.key, MEMORY.c.delete_time.is_(None))
    states = (
        (VectorState.PENDING, ~there.exists()),
        (VectorState.FAILED, there.where(MEMORY_VECTOR.c.vector.is_(None)).exists()),
        (VectorState.READY, there.where(MEMORY_VECTOR.c.vector.is_not(None)).exists()),
    )
    for state, condition in states:
        tx.conn.execute(update(MEMORY).where(mine, condition).values(vector_state=int(state)))
    tx.mark_changed(namespace)


def find_backlog(conn: Connection, usable: Collection[str], limit: int) -> list[Unembedded]:
    """Living memories without a vector, the oldest first, but those of namespaces whose model is not among `usable`."""
    foreign = select(_MINE.namespace).where(_MINE.serving, _MINE.fingerprint.not_in(sorted(usable)))
    query = (
        select(MEMORY.c.pk, NAMESPACE.c.bot, MEMORY.c.namespace, MEMORY.c.text, MEMORY.c.text_key)
        .join_from(MEMORY, NAMESPACE, NAMESPACE.c.pk == MEMORY.c.namespace)
        .where(text("vector_state = 1 AND delete_time IS NULL"), MEMORY.c.namespace.not_in(foreign))
        .where(NAMESPACE.c.erasing == "")
        .order_by(MEMORY.c.pk)
        .limit(limit)
    )
    return [Unembedded(*row) for row in conn.execute(query)]


def find_unmade(conn: Connection, made: VectorSet, after: int, limit: int) -> list[Unembedded]:
    """Living memories of the set's namespace without a vector in it, in order of their keys, beyond `after`."""
    there = select(MEMORY_VECTOR.c.seq).where(
        MEMORY_VECTOR.c.memory == MEMORY.c.pk, MEMORY_VECTOR.c.vector_set == made.key
    )
    query = (
        select(MEMORY.c.pk, NAMESPACE.c.bot, MEMORY.c.namespace, MEMORY.c.text, MEMORY.c.text_key)
        .join_from(MEMORY, NAMESPACE, NAMESPACE.c.pk == MEMORY.c.namespace)
        .where(MEMORY.c.namespace == made.namespace, MEMORY.c.delete_time.is_(None), MEMORY.c.pk > after)
        .where(~there.exists())
        .order_by(MEMORY.c.pk)
        .limit(limit)
    )
    return [Unembedded(*row) for row in conn.execute(query)]


def turns_before(conn: Connection, keys: Sequence[int]) -> dict[int, str]:
    """The text of the turn before each memory in its session, for those that have one."""
    found: dict[int, str] = {}
    for start in range(0, len(keys), _BATCH):
        rows = conn.execute(_TURNS_BEFORE, {"keys": list(keys[start : start + _BATCH])})
        found.update((row[0], row[1]) for row in rows)
    return found


def save_vectors(tx: Transaction, vectors: VectorSet, made: Sequence[Embedded]) -> int:
    """Stores vectors of one namespace, which is locked. Those of texts that changed meanwhile are dropped."""
    keys = [each.key for each in made]
    query = select(MEMORY.c.pk, MEMORY.c.text_key).where(MEMORY.c.pk.in_(keys), MEMORY.c.delete_time.is_(None))
    current = {row.pk: row.text_key for row in tx.conn.execute(query)}
    good = [each for each in made if current.get(each.key) == each.text_key]
    if not good:
        return 0
    forget(tx.conn, [each.key for each in good], only=vectors)
    rows = [{"vector_set": vectors.key, "memory": each.key, "vector": each.vector} for each in good]
    if tx.conn.dialect.name == "sqlite":
        tx.conn.execute(insert(MEMORY_VECTOR), rows)
    else:
        tx.conn.execute(_INSERT, rows)
    if vectors.serving:
        for state in (VectorState.READY, VectorState.FAILED):
            done = [each.key for each in good if (each.vector is None) == (state is VectorState.FAILED)]
            if done:
                tx.conn.execute(update(MEMORY).where(MEMORY.c.pk.in_(done)).values(vector_state=int(state)))
    return len(good)


_INSERT = text(
    "INSERT INTO memory_vector (vector_set, memory, vector) "
    "VALUES (:vector_set, :memory, CAST(CAST(:vector AS TEXT) AS VECTOR))"
)


def forget(conn: Connection, keys: Sequence[int], *, only: VectorSet | None = None) -> None:
    """Removes the vectors of memories: all, or those of one set."""
    for start in range(0, len(keys), _BATCH):
        statement = delete(MEMORY_VECTOR).where(MEMORY_VECTOR.c.memory.in_(keys[start : start + _BATCH]))
        conn.execute(statement if only is None else statement.where(MEMORY_VECTOR.c.vector_set == only.key))


@dataclass(frozen=True, slots=True)
class VectorStats:
    """`model` and `shape` are of the set that serves; None without one, or over several that differ."""

    vector_bytes: int
    failed_count: int
    model: Model | None
    shape: Shape | None


def read_vector_stats(conn: Connection, bot: str | None) -> VectorStats:
    """Of one bot, or of all with None."""
    query = select(*_COLUMNS).where(_MINE.serving)
    living = [MEMORY.c.delete_time.is_(None), MEMORY.c.vector_state == int(VectorState.FAILED)]
    if bot is not None:
        mine = select(NAMESPACE.c.pk).where(NAMESPACE.c.bot == bot)
        query = query.where(_MINE.namespace.in_(mine))
        living.append(MEMORY.c.namespace.in_(mine))
    sets = [_set(row) for row in conn.execute(query)]
    per_set = (
        select(MEMORY_VECTOR.c.vector_set, func.count())
        .where(MEMORY_VECTOR.c.vector_set.in_([each.key for each in sets]), MEMORY_VECTOR.c.vector.is_not(None))
        .group_by(MEMORY_VECTOR.c.vector_set)
    )
    counts = {row[0]: row[1] for row in conn.execute(per_set)}
    models = {each.model for each in sets}
    shapes = {each.shape for each in sets}
    return VectorStats(
        vector_bytes=sum(4 * each.model.dimension * counts.get(each.key, 0) for each in sets),
        failed_count=conn.execute(select(func.count()).select_from(MEMORY).where(*living)).scalar_one(),
        model=models.pop() if len(models) == 1 else None,
        shape=shapes.pop() if len(shapes) == 1 and bot is not None else None,
    )


def count_backlog(conn: Connection) -> int:
    """How many memories of the whole service wait for a vector."""
    count: int = conn.execute(
        select(func.count()).select_from(MEMORY).where(text("vector_state = 1 AND delete_time IS NULL"))
    ).scalar_one()
    return count


def forget_trail(conn: Connection) -> None:
    """Empties the trail of what left the index of words: at a start nothing in memory has to follow it."""
    if conn.dialect.name == "sqlite":
        conn.execute(text("DELETE FROM memory_fts_gone"))


def _set(row: Any) -> VectorSet:  # noqa: ANN401 - a row of _COLUMNS
    key, namespace, name, dimension, fingerprint, model, shape, serving = row
    return VectorSet(key, namespace, Model(name, dimension, fingerprint, model), Shape(shape), bool(serving))


def vectors_of(conn: Connection, vector_set: int, keys: Sequence[int]) -> dict[int, bytes]:
    """The vectors of memories in a set, those that there are, as little-endian 32-bit floats."""
    query = select(MEMORY_VECTOR.c.memory, MEMORY_VECTOR.c.vector).where(
        MEMORY_VECTOR.c.vector_set == vector_set, MEMORY_VECTOR.c.vector.is_not(None), MEMORY_VECTOR.c.memory.in_(keys)
    )
    rows = conn.execute(query).all() if keys else []
    return {key: stored if isinstance(stored, bytes) else from_engine(stored).tobytes() for key, stored in rows}


def engine_form(dialect: str, vector: Any) -> Any:  # noqa: ANN401
    """A vector as bytes on SQLite, and in pgvector's form of text on PostgreSQL, without loss."""
    return vector.tobytes() if dialect == "sqlite" else "[" + ",".join(f"{each:.9g}" for each in vector) + "]"


def engine_form_of_bytes(dialect: str, vector: bytes) -> bytes | str:
    """The same of a vector as little-endian 32-bit floats."""
    return vector if dialect == "sqlite" else str(engine_form(dialect, floats(vector)))


def from_engine(stored: bytes | str) -> Any:  # noqa: ANN401 - a row of 32-bit floats
    """A vector as the engine gave it."""
    import numpy as np

    return np.frombuffer(stored, np.float32) if isinstance(stored, bytes) else np.array(json.loads(stored), np.float32)
