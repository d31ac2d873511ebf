"""Near-duplicates of memories that were put, among those the caller reaches."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from memory_service.domain.grant import Reach
from memory_service.domain.likeness import NearDuplicate, nearest
from memory_service.domain.memory import Memory
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import query_words
from memory_service.store.fulltext import find_candidates
from memory_service.store.memories import load_memories
from memory_service.store.selecting import conditions_of
from memory_service.store.transaction import read_namespace

_CANDIDATES = 50
_WORDS = 48
"""How many of a text's words are looked for: what says nearly the same has most of any of them."""


def find_near(
    conn: Connection, reach: Reach, put: Sequence[tuple[Memory, int]], now: datetime
) -> list[list[NearDuplicate]]:
    """For each memory, with how many are wanted, the ones that say nearly the same; the nearest first."""
    namespace = read_namespace(conn, reach.bot)
    conditions = conditions_of(MemoryFilter(slices=reach.slices), now)
    found: list[list[NearDuplicate]] = []
    for memory, limit in put:
        wanted = sorted(query_words(memory.content.text), key=lambda word: (-len(word), word))[:_WORDS]
        if not limit or not wanted or not namespace.live_count:
            found.append([])
            continue
        pool = find_candidates(conn, namespace, wanted, conditions, _CANDIDATES)
        candidates = load_memories(conn, [match.key for match in islice(pool, _CANDIDATES)], reach.bot)
        others = (other for other in candidates.values() if other.uid != memory.uid)
        found.append(nearest(memory.content.text, others, limit))
    return found
