"""Crafted queries over fifty namespaces find no foreign row: by word and by meaning, in memory and in the file.

A tenth as many again are asked of PostgreSQL. A hundred thousand take minutes:

    MEMORY_FUZZ_QUERIES=100000 make test ARGS="-k no_query_finds_a_foreign_row"

and as many of PostgreSQL some ten more, with MEMORY_FUZZ_POSTGRESQL_QUERIES=100000.
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from chassis.telemetry import Telemetry
from memory_service.domain.grant import Reach
from memory_service.domain.memory import Content, Kind, NewMemory, Provenance
from memory_service.domain.ranking import Mode
from memory_service.domain.search import Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter, Slice
from memory_service.domain.words import query_words
from memory_service.recall.recall import Recall
from memory_service.settings import MemorySettings
from memory_service.store import vectors
from memory_service.store.ledger import Ticket
from memory_service.store.search_store import Probe, SearchStore
from memory_service.store.store import Limits, MemoryStore
from memory_service.store.transaction import read_namespace

pytestmark = pytest.mark.stateful

QUERIES = int(os.environ.get("MEMORY_FUZZ_QUERIES", "10000"))
POSTGRESQL_QUERIES = int(os.environ.get("MEMORY_FUZZ_POSTGRESQL_QUERIES", str(QUERIES // 10)))
BOTS = 50
EACH = 12
AT_ONCE = 250

WORDS = ["tea", "milk", "kettle", "morning", "東京", "Zoë", "run", "note"]
# What might break out of a query: the syntax of both engines, their tables and columns, and the namespaces' own words.
# fmt: off
ATOMS = [
    '"', "'", '""', "''", "`", "\\", ";", "--", "/*", "*/", "%", "_", "*", "^", "+", "-", "~", "|", "&", "!", "<->",
    ":", "::", "(", ")", "{", "}", "[", "]", "OR", "AND", "NOT", "NEAR(", "NEAR/2", "IN", "LIKE", "MATCH", "UNION",
    "SELECT", "memory_fts", "memory", "namespace", "namespace:", "namespace : ", "{namespace}", "{text context} :",
    "- namespace :", "rank", "rowid", "pk", "' OR '1'='1", '" OR "', "') OR 1=1 --", "'); DROP TABLE memory; --",
    "$1", ":words_to_match", "?1", "\u200b", "\u202e", "\ufeff", "\u0130", "ß", "\U0001f5fc", "é", "e\u0301", "ﬁ",
    "N", "n", "N0", "N-1", "N1:", "A", "D", "\t", "\n", "\r\n", "x" * 200, "1e309", "NaN", "null", "true",
]
# fmt: on
BOT_NAMES = ["", "-", "%", "_", "b_", "b%", "b1' OR '1'='1", 'b1"', "b1 ", " b1", "B1", "b1\t", "b01", "b1/b2", "N1"]


class Crafted:
    """Queries at random, made of what might break out, of words that all have, and of what only others have."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def text(self) -> str:
        dice = self._dice
        parts = [
            dice.choice(
                (
                    lambda: dice.choice(ATOMS),
                    lambda: dice.choice(WORDS),
                    lambda: f"secret{dice.randrange(BOTS)}",
                    lambda: f"N{dice.randrange(BOTS + 5)}",
                    lambda: f'namespace : "N{dice.randrange(BOTS + 5)}"',
                    lambda: f"bots/b{dice.randrange(BOTS)}",
                )
            )()
            for _ in range(dice.randint(1, 6))
        ]
        return dice.choice((" ", "", " OR ", '" "', "' '")).join(parts)

    def bot(self) -> str:
        return self._dice.choice(BOT_NAMES) if self._dice.random() < 0.05 else f"b{self._dice.randrange(BOTS)}"

    def selected(self) -> MemoryFilter:
        match self._dice.randrange(8):
            case 0:
                return MemoryFilter(slices=(Slice(kinds=frozenset({Kind.FACT})),))
            case 1:
                return MemoryFilter(slices=(Slice(tags=frozenset({"shared"})), Slice(sessions=frozenset({"s"}))))
            case 2:
                return MemoryFilter(any_tags=frozenset({"shared", "' OR 1=1 --"}))
            case 3:
                return MemoryFilter(authors=frozenset({"Zoë", "%"}))
            case _:
                return MemoryFilter()

    def vector(self, dimension: int) -> Any:
        found = np.array([self._dice.gauss(0, 1) for _ in range(dimension)], dtype=np.float32)
        return found / np.linalg.norm(found)

    def mode(self) -> Mode:
        return self._dice.choice((Mode.TEXT, Mode.TEXT, Mode.HYBRID, Mode.VECTOR))


@pytest.fixture
def schema() -> str:
    return "memory_service.migrations"


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{engine}_url")
    return url


@pytest.fixture
async def store(clock: FakeClock, database_url: str) -> AsyncIterator[MemoryStore]:
    """Fifty bots with the same words, each with a word that only it has; with vectors."""
    database = await Database.open(database_url, migrations="memory_service.migrations", migrate=True, clock=clock)
    limits = Limits(max_memories=100_000, retention=timedelta(days=30))
    store = MemoryStore(database, clock=clock, new_id=Uuid7Ids(clock), limits=limits)
    dice = random.Random(1)
    for bot in range(BOTS):
        drafts = [
            NewMemory(
                Content(
                    f"{' '.join(dice.choices(WORDS, k=4))} {number} secret{bot} of owner{bot}",
                    kind=dice.choice((Kind.FACT, Kind.NOTE)),
                    tags=dice.choice(((), ("shared",))),
                    author=dice.choice(("Zoë", "Ana", "")),
                    context=f"around secret{bot}",
                ),
                Provenance(session=dice.choice(("s", ""))),
            )
            for number in range(EACH)
        ]
        await store.put_memories(Reach(f"b{bot}"), drafts, Ticket("operators/root", "Batch", "", ""), atomic=True)
    recall = Recall(MemorySettings(embedder="hash", vector_batch=1_000), store.transactions, Telemetry.off())
    await recall.vectors.begin()
    while await recall._vectorizer.run_batch():
        pass
    await recall.close()
    yield store
    await database.close()


async def count_foreign(store: MemoryStore, searching: SearchStore, crafted: Crafted, queries: int) -> tuple[int, int]:
    """How many hits there were, and how many of them another bot's."""
    now = store.transactions.now()
    pool = [crafted.vector(_dimension(await store.transactions.read(_any_set))) for _ in range(50)]
    hits = foreign = 0

    def ask(conn: Connection) -> Iterator[tuple[str, str]]:
        for _ in range(AT_ONCE):
            bot, asked, mode = crafted.bot(), crafted.text(), crafted.mode()
            wanted = tuple(query_words(asked))[:64]
            probe = Probe()
            if mode is not Mode.TEXT:
                serving = vectors.serving_set(conn, read_namespace(conn, bot).key)
                if serving is not None:
                    probe = Probe(serving, pool[len(asked) % len(pool)])
            query = SearchQuery(wanted, MemoryFilter(), 20, text=asked, mode=mode)
            scopes = [Scope(bot, crafted.selected())]
            # As `search` does: at once where that can be, and otherwise with all the time it takes.
            found = searching._search(conn, scopes, [probe], query, now, at_once=True)
            found = found or searching._search(conn, scopes, [probe], query, now)
            assert found is not None
            yield from ((bot, hit.memory.content.text) for hit in found.hits)

    for _ in range(0, queries, AT_ONCE):
        for bot, body in await store.transactions.read(lambda conn: list(ask(conn))):
            hits += 1
            foreign += not body.endswith(f" of owner{bot.removeprefix('b')}")
    return hits, foreign


def _any_set(conn: Connection) -> Any:
    return vectors.serving_set(conn, read_namespace(conn, "b0").key)


def _dimension(found: Any) -> int:
    assert found is not None
    return int(found.model.dimension)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("engine", "cache_bytes"),
    # PostgreSQL has its indexes in itself; there is no other way to search it.
    [("sqlite", 1 << 26), ("sqlite", 0), ("postgresql", 0)],
    ids=["in memory", "in the file", "on the server"],
)
async def test_no_query_finds_a_foreign_row(store: MemoryStore, engine: str, cache_bytes: int):
    assert store.transactions.database.engine_name == engine
    queries = QUERIES // 2 if engine == "sqlite" else POSTGRESQL_QUERIES
    searching = SearchStore(store.transactions, cache_bytes=cache_bytes, exact_limit=20_000)
    hits, foreign = await count_foreign(store, searching, Crafted(cache_bytes), queries)
    assert foreign == 0
    assert hits > queries
