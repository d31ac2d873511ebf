"""Signals on PostgreSQL: BM25 over its full text, cosines by pgvector.

The vectors of one namespace are compared exactly. They are cut out first, in a step that the planner must not merge
with the comparison: given a choice it would walk an index over the vectors of all bots, which is slower and misses
some.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, column, func, literal_column, select, text, type_coerce
from sqlalchemy.types import Text

from memory_service.domain.ranking import Signal
from memory_service.domain.selection import meets
from memory_service.models import MEMORY, MEMORY_VECTOR
from memory_service.store.fulltext import find_candidates
from memory_service.store.selecting import conditions_of
from memory_service.store.signals import Signals, Wanted
from memory_service.store.transaction import Namespace
from memory_service.store.vectors import engine_form

_Statement = tuple[Select[tuple[int, float]], dict[str, str]]
_QUERY = "CAST(CAST(:query_vector AS TEXT) AS VECTOR)"


def find_signals(conn: Connection, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals:
    selected = wanted.query.selected
    conditions = conditions_of(selected, now)
    if selected.conditions:
        rows = conn.execute(select(MEMORY.c.pk, MEMORY.c.data).where(MEMORY.c.namespace == namespace.key, *conditions))
        conditions = [MEMORY.c.pk.in_([key for key, data in rows if meets(selected.conditions, data)])]
    scores: dict[int, float] = {}
    if wanted.by_word:
        pool = find_candidates(conn, namespace, wanted.query.words, conditions, wanted.size)
        scores = {each.key: each.score for each in islice(pool, wanted.size)}
    cosines: dict[int, float] = {}
    nearest: list[int] = []
    if wanted.by_meaning:
        cosines = _by_key(conn.execute(*_nearest(namespace, wanted, conditions)))
        nearest = list(cosines)
        cosines |= _by_key(conn.execute(*_cosines(wanted, [key for key in scores if key not in cosines])))
    keys = sorted({*scores, *cosines})
    return Signals(
        {key: Signal(scores.get(key, 0.0), cosines.get(key)) for key in keys},
        {key: place for place, key in enumerate(scores, 1)},
        {key: place for place, key in enumerate(nearest, 1)},
        _without_vector(conn, namespace),
    )


def _by_key(rows: Iterable[Any]) -> dict[int, float]:
    return {row[0]: row[1] for row in rows}


def _nearest(
    namespace: Namespace, wanted: Wanted, conditions: Sequence[ColumnElement[bool]]
) -> _Statement:
    assert wanted.vectors is not None
    mine = (
        select(MEMORY_VECTOR.c.memory, type_coerce(MEMORY_VECTOR.c.vector, Text).label("vector"))
        .join(MEMORY, MEMORY.c.pk == MEMORY_VECTOR.c.memory)
        .where(
            MEMORY_VECTOR.c.vector_set == wanted.vectors.key,
            MEMORY_VECTOR.c.vector.is_not(None),
            MEMORY.c.namespace == namespace.key,
            *conditions,
        )
        .cte("mine")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    cosine: ColumnElement[float] = literal_column(f"-(mine.vector <#> {_QUERY})").label("cosine")
    query = select(mine.c.memory, cosine).order_by(text("cosine DESC"), mine.c.memory).limit(wanted.size)
    return query, {"query_vector": engine_form("postgresql", wanted.vector)}


def _cosines(wanted: Wanted, keys: list[int]) -> _Statement:
    assert wanted.vectors is not None
    cosine: ColumnElement[float] = literal_column(f"-(memory_vector.vector <#> {_QUERY})").label("cosine")
    query = select(MEMORY_VECTOR.c.memory, cosine).where(
        MEMORY_VECTOR.c.vector_set == wanted.vectors.key,
        MEMORY_VECTOR.c.vector.is_not(None),
        MEMORY_VECTOR.c.memory.in_(keys),
    )
    return query, {"query_vector": engine_form("postgresql", wanted.vector)}


def _without_vector(conn: Connection, namespace: Namespace) -> int:
    count: int = conn.execute(
        select(func.count())
        .select_from(MEMORY)
        .where(MEMORY.c.namespace == namespace.key, MEMORY.c.delete_time.is_(None), column("vector_state") != 2)
    ).scalar_one()
    return count
