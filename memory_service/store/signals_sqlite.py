"""Signals on SQLite: from the namespace's index in memory, which first catches up with what was committed since.

What changed is in the database itself, so the index follows whoever writes: new entries have higher keys than any
before, what went left a trail, and vectors are numbered as they come.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from chassis import direct_sql
from memory_service.domain.ranking import Signal
from memory_service.domain.selection import MemoryFilter, meets
from memory_service.index.cache import IndexCache
from memory_service.index.namespace_index import SIGN_CANDIDATES, Marks, NamespaceIndex
from memory_service.models import MEMORY
from memory_service.store.codec import micros
from memory_service.store.fulltext import find_candidates, token
from memory_service.store.selecting import conditions_of
from memory_service.store.signals import MEMORY_OF_AN_ENTRY, TIES, Signals, Wanted
from memory_service.store.transaction import Namespace

_NEWS = (
    "SELECT EXISTS (SELECT 1 FROM memory_fts_gone WHERE namespace = ? AND seq > ?) "
    "OR EXISTS (SELECT 1 FROM memory_fts_source WHERE namespace = ? AND pk > ?) "
    "OR EXISTS (SELECT 1 FROM memory_vector WHERE vector_set = ? AND seq > ?)"
)
# The plus keeps SQLite from reading the whole namespace by another index.
_EXPIRED = "SELECT pk FROM memory WHERE expire_time IS NOT NULL AND expire_time <= ? AND +namespace = ? AND NOT pinned"

_BRIEF_BYTES = 20_000_000
"""Vectors of so many bytes are compared in half a millisecond, which the loop may take."""

Scores = NDArray[np.float32]


def find_at_once(
    conn: Connection, cache: IndexCache, namespace: Namespace, wanted: Wanted, now: datetime
) -> Signals | None:
    """What `find_signals` gives, if that takes the loop no longer than a thread and back would; otherwise None."""
    if wanted.query.selected != MemoryFilter():
        return None
    vectors = wanted.vectors
    index = cache.find(namespace.key, vector_set=vectors.key if vectors else 0)
    if index is None or not index.is_exact or index.vector_bytes > _BRIEF_BYTES:
        return None
    if not index.lock.acquire(blocking=False):
        return None
    try:
        if _has_news(conn, index.marks, token(namespace.key), index.marks.vector_set):
            return None
        return _from_index(conn, index, namespace, wanted, now)
    finally:
        index.lock.release()


def find_signals(conn: Connection, cache: IndexCache, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals:
    if namespace.live_count * MEMORY_OF_AN_ENTRY > cache.limit_bytes and wanted.by_word:
        return _from_file(conn, namespace, wanted, now)
    vectors = wanted.vectors
    index = cache.get(
        namespace.key,
        vector_set=vectors.key if vectors else 0,
        dimension=vectors.model.dimension if vectors else 1,
    )
    with index.lock:
        # A search by word alone leaves the index its vectors, for the next one that needs them.
        catch_up(conn, index, namespace.key, vectors.key if vectors else index.marks.vector_set)
        signals = _from_index(conn, index, namespace, wanted, now)
    cache.note(namespace.key, index)
    return signals


def catch_up(conn: Connection, index: NamespaceIndex, namespace: int, vector_set: int) -> None:
    """Brings the index to the state that the connection sees, with the vectors of that set (0: with none)."""
    marks, of = index.marks, token(namespace)
    if index.built and not _has_news(conn, marks, of, vector_set):
        return
    run = conn.exec_driver_sql
    gone = run(
        "SELECT seq, memory FROM memory_fts_gone WHERE namespace = ? AND seq > ? ORDER BY seq", (of, marks.gone)
    ).all()
    came_back: Sequence[tuple[int, str, str]] = ()
    if index.built and gone:
        for _, key in gone:
            index.remove(key)
        keys = json.dumps(sorted({key for _, key in gone if key <= marks.last_key}))
        came_back = run(
            "SELECT pk, text, context FROM memory_fts_source "
            "WHERE pk IN (SELECT value FROM json_each(?)) AND namespace = ?",
            (keys, of),
        ).all()
    last_key = marks.last_key
    new = run(
        "SELECT pk, text, context FROM memory_fts_source WHERE namespace = ? AND pk > ? ORDER BY pk", (of, last_key)
    )
    for key, text, context in came_back:
        index.add(key, text, context)
    for key, text, context in new:
        index.add(key, text, context)
        last_key = key
    last_vector = marks.vector
    if vector_set:
        if came_back:
            index.add_vectors(
                run(
                    "SELECT memory, vector FROM memory_vector WHERE vector_set = ? AND seq <= ? "
                    "AND memory IN (SELECT value FROM json_each(?))",
                    (vector_set, last_vector, json.dumps([row[0] for row in came_back])),
                ).all()
            )
        rows = run(
            "SELECT seq, memory, vector FROM memory_vector WHERE vector_set = ? AND seq > ? ORDER BY seq",
            (vector_set, last_vector),
        )
        while some := rows.fetchmany(1_000):
            index.add_vectors((key, vector) for _, key, vector in some)
            last_vector = some[-1][0]
    if not index.built:
        index.settle()
    index.built = True
    last_gone = gone[-1][0] if gone else marks.gone
    index.marks = Marks(vector_set, last_key, last_gone, last_vector)


def _has_news(conn: Connection, marks: Marks, of: str, vector_set: int) -> bool:
    """Whether anything was committed that the index does not have yet."""
    ((news,),) = direct_sql.fetch(conn, _NEWS, (of, marks.gone, of, marks.last_key, vector_set, marks.vector))
    return bool(news)


def _from_index(
    conn: Connection, index: NamespaceIndex, namespace: Namespace, wanted: Wanted, now: datetime
) -> Signals:
    allowed = index.mask(
        only=_selected(conn, namespace, wanted.query.selected, now), without=_expired(conn, namespace, now)
    )
    words = index.score_words(wanted.query.words if wanted.by_word else ())
    if allowed is not None:
        words[~allowed] = 0.0
    cosines: Scores | None = None
    if wanted.by_meaning:
        cosines = index.compare(wanted.vector)
        if allowed is not None:
            cosines[~allowed] = -2.0
    by_text = _best(words, wanted.size, above=0.0, ties=True)
    by_vector = np.empty(0, np.int64)
    if cosines is not None:
        by_vector = _best(cosines, wanted.size if index.is_exact else SIGN_CANDIDATES, above=-2.0, ties=False)
        if not index.is_exact:
            cosines = _exact(conn, index, wanted, np.union1d(by_text, by_vector), cosines)
            by_vector = by_vector[np.argsort(-cosines[by_vector], kind="stable")][: wanted.size]
    slots = np.array(list(dict.fromkeys([*by_text.tolist(), *by_vector.tolist()])), np.int64)
    likenesses: list[float | None] = [None] * len(slots)
    if cosines is not None:
        likenesses = [None if cosine <= -2.0 else cosine for cosine in cosines[slots].tolist()]
    return Signals(
        dict(zip(index.keys[slots].tolist(), map(Signal, words[slots].tolist(), likenesses), strict=True)),
        {key: place for place, key in enumerate(index.keys[by_text].tolist(), 1)},
        {key: place for place, key in enumerate(index.keys[by_vector].tolist(), 1)},
        index.count_without_vector(),
    )


def _best(scores: Scores, size: int, *, above: float, ties: bool) -> NDArray[np.int64]:
    """The slots with the highest scores, the best first; with `ties` all that are as good as the last."""
    least = np.partition(scores, len(scores) - size)[len(scores) - size] if len(scores) > size else above
    places = np.flatnonzero(scores >= least if least > above else scores > above)
    best: NDArray[np.int64] = places[np.argsort(-scores[places], kind="stable")]
    return best[: max(size, TIES) if ties else size]


def _exact(
    conn: Connection, index: NamespaceIndex, wanted: Wanted, slots: NDArray[np.int64], likenesses: Scores
) -> Scores:
    """The likenesses, with real cosines in these slots."""
    assert wanted.vectors is not None
    cosines = np.full_like(likenesses, -2.0)
    keys = index.keys[slots].tolist()
    rows = conn.exec_driver_sql(
        "SELECT memory, vector FROM memory_vector WHERE vector_set = ? AND memory IN (SELECT value FROM json_each(?)) "
        "AND vector IS NOT NULL",
        (wanted.vectors.key, json.dumps(keys)),
    ).all()
    if rows:
        place = index.slots_of([row[0] for row in rows])
        there = [row for row in rows if row[0] in place]
        matrix = np.frombuffer(b"".join(row[1] for row in there), np.float32).reshape(len(there), -1)
        cosines[[place[row[0]] for row in there]] = matrix @ wanted.vector
    return cosines


def _selected(conn: Connection, namespace: Namespace, selected: MemoryFilter, now: datetime) -> list[int] | None:
    """The keys that a filter selects; None when it selects all."""
    if selected == MemoryFilter():
        return None
    query = select(MEMORY.c.pk, MEMORY.c.data).where(MEMORY.c.namespace == namespace.key, *conditions_of(selected, now))
    return [key for key, data in conn.execute(query) if meets(selected.conditions, data)]


def _expired(conn: Connection, namespace: Namespace, now: datetime) -> list[int]:
    """What has expired and still waits for the sweep."""
    return [row[0] for row in direct_sql.fetch(conn, _EXPIRED, (micros(now), namespace.key))]


def _from_file(conn: Connection, namespace: Namespace, wanted: Wanted, now: datetime) -> Signals:
    """For a namespace that the cache has no room for: FTS5 gives the candidates, and their vectors are compared."""
    selected = wanted.query.selected
    limit = None if selected.conditions else wanted.size
    pool = find_candidates(conn, namespace, wanted.query.words, conditions_of(selected, now), limit)
    fitting = islice((each for each in pool if meets(selected.conditions, each.data)), wanted.size)
    scores = {each.key: each.score for each in fitting}
    cosines: dict[int, float] = {}
    notes: tuple[str, ...] = ()
    if wanted.by_meaning:
        assert wanted.vectors is not None
        notes = ("The namespace is larger than the cache, so meaning was compared only where a word was found.",)
        rows = conn.exec_driver_sql(
            "SELECT memory, vector FROM memory_vector WHERE vector_set = ? "
            "AND memory IN (SELECT value FROM json_each(?)) AND vector IS NOT NULL",
            (wanted.vectors.key, json.dumps(list(scores))),
        )
        cosines = {key: float(np.frombuffer(blob, np.float32) @ wanted.vector) for key, blob in rows}
    ranked = sorted(cosines, key=lambda key: -cosines[key])
    return Signals(
        {key: Signal(score, cosines.get(key)) for key, score in scores.items()},
        {key: place for place, key in enumerate(scores, 1)},
        {key: place for place, key in enumerate(ranked, 1)},
        notes=notes,
    )
