"""The two engines rank alike: the same memories, the same vectors, the same questions."""

import random
from collections.abc import AsyncIterator

import numpy as np
import pytest
from memory_store import ME, new

from chassis.clock import FakeClock, Uuid7Ids
from chassis.database import Database
from memory_service.domain.embedder import Model
from memory_service.domain.grant import Reach
from memory_service.domain.ranking import Mode, Weights
from memory_service.domain.search import Found, Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import query_words
from memory_service.store.ledger import Ticket
from memory_service.store.memories import MemoryRef
from memory_service.store.search_store import Probe, SearchStore
from memory_service.store.store import Limits, MemoryStore
from memory_service.store.vector_store import VectorStore
from memory_service.store.vectors import Unembedded

MODEL = Model("test", 32, "test-32-1")
WORDS = ("tea milk sea bee key fee pea lee oak elm ash fir yew bay fig nut oat rye hop vat").split()  # noqa: SIM905
SCORE_TOLERANCE = 1e-5
"""The engines reckon in floats of different widths."""


class Searched:
    """A store with vectors that hang on the text alone."""

    def __init__(self, store: MemoryStore, *, exact_limit: int = 20_000, cache_bytes: int = 1 << 26) -> None:
        self.store = store
        self.vectors = VectorStore(store.transactions)
        self.search = SearchStore(store.transactions, cache_bytes=cache_bytes, exact_limit=exact_limit)

    async def put(self, bot: str, texts: list[str], **content) -> None:
        drafts = [new(text, id=f"m{place:04}", author=text.split()[0], **content) for place, text in enumerate(texts)]
        await self.store.put_memories(Reach(bot), drafts, Ticket(ME, "Put", "", "f"), atomic=True)
        made = await self.vectors.ensure_serving(bot, MODEL)
        while waiting := await self.vectors.find_backlog([MODEL.fingerprint], 500):
            await self.vectors.save(bot, made, waiting, [vector(each.text) for each in waiting])

    async def find(
        self, query: str, *, bot: str = "main", mode: Mode = Mode.HYBRID, size: int = 20, selected=None, **fields
    ) -> Found:
        made = await self.vectors.ensure_serving(bot, MODEL)
        scope = Scope(bot, selected or MemoryFilter())
        words = tuple(query_words(query))
        asked = SearchQuery(words, scope.selected, size, text=query, mode=mode, **fields)
        probe = Probe(made, vector(query), named=("tea",))
        return await self.search.search([scope], [probe], asked)


def vector(text: str) -> np.ndarray:
    made = sum((np.random.default_rng(WORDS.index(word)).normal(size=32) for word in text.split()), np.zeros(32))
    return (made / np.linalg.norm(made)).astype(np.float32)


def corpus(count: int) -> list[str]:
    dice = random.Random(5)
    return [" ".join(dice.choices(WORDS, k=dice.randrange(3, 9))) for _ in range(count)]


@pytest.fixture
async def on_sqlite(tmp_path, clock: FakeClock) -> AsyncIterator[Searched]:
    database = await Database.open(
        f"sqlite:///{tmp_path / 'twin.sqlite3'}", migrations="memory_service.migrations", migrate=True, clock=clock
    )
    yield Searched(_store(database, clock))
    await database.close()


@pytest.fixture
def here(store: MemoryStore) -> Searched:
    """On each engine in turn."""
    return Searched(store)


def _store(database: Database, clock: FakeClock) -> MemoryStore:
    from datetime import timedelta

    limits = Limits(max_memories=100_000, retention=timedelta(days=30))
    return MemoryStore(database, clock=clock, new_id=Uuid7Ids(clock), limits=limits)


async def test_both_engines_rank_alike(here: Searched, on_sqlite: Searched):
    """All scores agree to 1e-5; so the order does, but where two scores are nearer than that."""
    texts = corpus(300)
    for each in (here, on_sqlite):
        await each.put("other", corpus(50))
        await each.put("main", texts)
    dice = random.Random(9)
    for mode in (Mode.HYBRID, Mode.TEXT, Mode.VECTOR):
        for _ in range(15):
            query = " ".join(dice.choices(WORDS, k=3))
            one, two = await here.find(query, mode=mode), await on_sqlite.find(query, mode=mode)
            assert one.vector_backlog == two.vector_backlog == 0
            scores = {hit.memory.id: hit.score for hit in two.hits}
            for mine, theirs in zip(one.hits, two.hits, strict=True):
                assert mine.score == pytest.approx(theirs.score, abs=SCORE_TOLERANCE), (mode, query)
                if mine.memory.id in scores:
                    assert mine.score == pytest.approx(scores[mine.memory.id], abs=SCORE_TOLERANCE), (mode, query)
            shared = {hit.memory.id for hit in one.hits} & set(scores)
            assert len(shared) >= len(one.hits) - 1, (mode, query)


async def test_meaning_is_compared_exactly(here: Searched):
    texts = corpus(400)
    await here.put("main", texts)
    for query in ("tea milk", "oak elm ash", "vat"):
        found = await here.find(query, mode=Mode.VECTOR, size=10, weights=Weights(author=0))
        expected = sorted((float(vector(text) @ vector(query)) for text in {*texts}), reverse=True)[:10]
        assert [hit.cosine for hit in found.hits] == pytest.approx(expected, abs=1e-5)


async def test_a_search_at_once_says_what_one_in_a_thread_says(here: Searched):
    """The first search of a store builds its index in a thread; what follows is answered on the loop until there is
    news."""
    await here.put("main", corpus(200))
    for mode in (Mode.HYBRID, Mode.TEXT, Mode.VECTOR):
        built = await Searched(here.store).find("tea milk oak", mode=mode)
        await here.find("tea milk oak", mode=mode)
        assert await here.find("tea milk oak", mode=mode) == built
    await here.store.put_memory(Reach("main"), new("hop hop hop", id="late"), Ticket(ME, "Put", "", "f"))
    for _ in range(2):
        assert "late" in {hit.memory.id for hit in (await here.find("hop", mode=Mode.TEXT, size=200)).hits}
    gone = MemoryRef("main", "late")
    await here.store.delete_memory(gone, "", ME, Ticket(ME, "Delete", "", "f"), Reach("main"), purge=False)
    for _ in range(2):
        assert "late" not in {hit.memory.id for hit in (await here.find("hop", mode=Mode.TEXT, size=200)).hits}


async def test_a_search_by_word_leaves_the_index_its_vectors(here: Searched):
    await here.put("main", corpus(200))
    await here.find("tea milk")
    with_vectors = here.search.held_bytes
    made = await here.vectors.ensure_serving("main", MODEL)
    scope, words = Scope("main", MemoryFilter()), SearchQuery(("tea",), MemoryFilter(), 5, text="tea", mode=Mode.TEXT)
    for _ in range(2):
        assert len((await here.search.search([scope], [Probe()], words)).hits) == 5
        assert here.search.held_bytes >= with_vectors
    await here.store.put_memory(Reach("main"), new("tea tea", id="late"), Ticket(ME, "Put", "", "f"))
    assert (await here.search.search([scope], [Probe()], words)).hits[0].memory.id == "late"
    waiting = await here.vectors.find_backlog([MODEL.fingerprint], 5)
    await here.vectors.save("main", made, waiting, [vector(each.text) for each in waiting])
    found = await here.find("tea tea", mode=Mode.VECTOR, weights=Weights(author=0))
    assert found.hits[0].memory.id == "late"


async def test_signs_alone_find_nearly_the_same(here: Searched):
    if here.store.transactions.database.engine_name != "sqlite":
        pytest.skip("PostgreSQL compares exactly")
    await here.put("main", corpus(3_000))
    by_signs = Searched(here.store, exact_limit=100)
    agreed = 0
    for query in ("tea milk", "oak elm ash", "vat rye", "bee key fee pea"):
        exact = await here.find(query, size=10)
        signs = await by_signs.find(query, size=10)
        agreed += len({hit.memory.id for hit in exact.hits} & {hit.memory.id for hit in signs.hits})
    assert agreed >= 36


async def test_a_namespace_beyond_the_cache_is_searched_in_the_file(here: Searched):
    if here.store.transactions.database.engine_name != "sqlite":
        pytest.skip("PostgreSQL has no cache")
    await here.put("main", corpus(300))
    small = Searched(here.store, cache_bytes=1_000)
    found = await small.find("tea milk", size=5)
    assert len(found.hits) == 5
    assert "larger than the cache" in found.notes[0]
    assert (await small.find("tea milk", mode=Mode.VECTOR, size=5)).hits  # read whole, and not kept
    await here.store.put_memory(Reach("main"), new("tea tea", id="late"), Ticket(ME, "Put", "", "f"))
    assert "late" in {hit.memory.id for hit in (await small.find("tea", size=300)).hits}  # its postings were due
    assert small.search.held_bytes < 100_000


async def test_indexes_in_memory_make_room_for_one_another(here: Searched):
    if here.store.transactions.database.engine_name != "sqlite":
        pytest.skip("PostgreSQL has no cache")
    for number in range(6):
        await here.put(f"b{number}", corpus(100))
    small = Searched(here.store, cache_bytes=150_000)
    for _ in range(2):
        for number in range(6):
            assert (await small.find("tea", bot=f"b{number}")).hits
            assert small.search.held_bytes <= 150_000


async def test_a_vector_of_a_text_that_changed_meanwhile_is_dropped(here: Searched):
    await here.put("main", ["tea milk"])
    made = await here.vectors.ensure_serving("main", MODEL)
    stale = Unembedded(1, "main", 1, "tea milk", "of another text")
    assert await here.vectors.save("main", made, [stale], [vector("oak")]) == 0
    assert (await here.find("tea milk", mode=Mode.VECTOR)).hits[0].cosine == pytest.approx(1.0, abs=1e-5)
