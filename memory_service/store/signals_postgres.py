"""Signals on PostgreSQL: BM25 over its full text, cosines by pgvector.

The vectors of one namespace are compared exactly. They are cut out first, in a step that the planner must not merge
with the comparison: given a choice it would walk an index over the vectors of all bots, which is slower and misses
some.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, TextClause, bindparam, column, func, select, text

from memory_service.domain.ranking import Signal
from memory_service.domain.selection import meets
from memory_service.models import MEMORY, MEMORY_VECTOR
from memory_service.store.fulltext import find_candidates
from memory_service.store.selecting import conditions_of
from memory_service.store.signals import TIES, Signals, Wanted
from memory_service.store.transaction import Namespace
from memory_service.store.vectors import engine_form


def find_signals(conn: Connection, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals:
    selected = wanted.query.selected
    conditions = conditions_of(selected, now)
    if selected.conditions:
        rows = conn.execute(select(MEMORY.c.pk, MEMORY.c.data).where(MEMORY.c.namespace == namespace.key, *conditions))
        conditions = [MEMORY.c.pk.in_([key for key, data in rows if meets(selected.conditions, data)])]
    scores: dict[int, float] = {}
    if wanted.by_word:
        pool = find_candidates(conn, namespace, wanted.query.words, conditions, wanted.size)
        scores = {each.key: each.score for each in islice(pool, TIES)}
    cosines: dict[int, float] = {}
    nearest: list[int] = []
    if wanted.by_meaning:
        cosines = _by_key(conn.execute(_nearest(namespace, wanted, conditions)))
        nearest = list(cosines)
        cosines |= _by_key(conn.execute(_cosines(wanted, [key for key in scores if key not in cosines])))
    text_ranks = {key: place for place, key in enumerate(scores, 1)}
    missing = [key for key in nearest if key not in scores]
    if scores and missing:
        # What is near by meaning has a score by its words as well, if not one of the best.
        more = find_candidates(conn, namespace, wanted.query.words, [MEMORY.c.pk.in_(missing)], None)
        scores |= {each.key: each.score for each in more}
    keys = sorted({*scores, *cosines})
    return Signals(
        {key: Signal(scores.get(key, 0.0), cosines.get(key)) for key in keys},
        text_ranks,
        {key: place for place, key in enumerate(nearest, 1)},
        _without_vector(conn, namespace),
    )


def _nearest(namespace: Namespace, wanted: Wanted, conditions: Sequence[ColumnElement[bool]]) -> Select[tuple[int]]:
    """The keys and cosines of the memories nearest to the query."""
    assert wanted.vectors is not None
    mine = (
        select(MEMORY_VECTOR.c.memory, MEMORY_VECTOR.c.vector)
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
    query = select(mine.c.memory, _cosine("mine", wanted))
    return query.order_by(text("cosine DESC"), mine.c.memory).limit(wanted.size)


def _cosines(wanted: Wanted, keys: Sequence[int]) -> Select[tuple[int]]:
    """The keys and cosines of these memories, of those that have a vector."""
    assert wanted.vectors is not None
    return select(MEMORY_VECTOR.c.memory, _cosine("memory_vector", wanted)).where(
        MEMORY_VECTOR.c.vector_set == wanted.vectors.key,
        MEMORY_VECTOR.c.vector.is_not(None),
        MEMORY_VECTOR.c.memory.in_(keys),
    )


def _cosine(table: str, wanted: Wanted) -> TextClause:
    """pgvector's product, which it gives negated; of vectors of length 1 it is the cosine."""
    expression = text(f"-({table}.vector <#> CAST(CAST(:query_vector AS TEXT) AS VECTOR)) AS cosine")
    return expression.bindparams(bindparam("query_vector", engine_form("postgresql", wanted.vector), type_=Text))


def _by_key(rows: Iterable[Any]) -> dict[int, float]:
    return {row[0]: row[1] for row in rows}


def _without_vector(conn: Connection, namespace: Namespace) -> int:
    count: int = conn.execute(
        select(func.count())
        .select_from(MEMORY)
        .where(MEMORY.c.namespace == namespace.key, MEMORY.c.delete_time.is_(None), column("vector_state") != 2)
    ).scalar_one()
    return count
