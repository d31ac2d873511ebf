"""Searching by word."""

from contextlib import closing
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from memory_service.domain.search import DEPTH, Candidate, Found, Hit, SearchQuery, rank
from memory_service.domain.selection import meets
from memory_service.store.fulltext import find_candidates
from memory_service.store.memories import load_memories
from memory_service.store.selecting import conditions_of
from memory_service.store.transaction import read_namespace


def search_memories(conn: Connection, bot: str, query: SearchQuery, now: datetime) -> tuple[Found, list[int]]:
    """A page of hits, and their keys."""
    namespace = read_namespace(conn, bot)
    candidates: list[Candidate] = []
    if query.words and namespace.live_count:
        wanted = query.selected.conditions
        # Conditions on metadata are decided here, so it is not known how many candidates it takes to have enough.
        limit = None if wanted else DEPTH
        pool = find_candidates(conn, namespace, query.words, conditions_of(query.selected, now), limit)
        with closing(pool):
            fitting = (candidate for candidate, metadata in pool if meets(wanted, metadata))
            candidates.extend(islice(fitting, DEPTH))
    ranked = [each for each in rank(candidates) if each.score >= query.min_score]
    page = ranked[query.skip : query.skip + query.size]
    memories = load_memories(conn, [each.candidate.key for each in page], bot)
    hits = tuple(Hit(memories[each.candidate.key], each.score, each.candidate.bm25, each.rank) for each in page)
    more = len(ranked) > query.skip + query.size
    found = Found(hits, more, len(candidates), namespace.live_count, namespace.revision)
    return found, [each.candidate.key for each in page]
