"""The index of words on both engines: it holds what lives, word for word, and one bot's words alone."""

import random

import pytest
from memory_store import change, delete, found, put, put_all, ref, searching, ticket, undelete
from sqlalchemy import Connection, text

from chassis.database import Database
from memory_service.domain.memory import Memory
from memory_service.domain.search import Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import query_words
from memory_service.store.fulltext import post_due
from memory_service.store.search_store import Probe
from memory_service.store.store import MemoryStore

WORDS = ["tea", "milk", "sea", "bee", "key", "fee", "pea", "lee", "zoe", "東京", "n1", "n2", "not", "or", "near"]


@pytest.fixture
async def database(store: MemoryStore) -> Database:
    return store._database


async def posted_words(database: Database) -> set[str]:
    """Every word that any posting holds, whatever memory it is of."""

    def on_sqlite(conn: Connection) -> set[str]:
        post_due(conn)
        conn.execute(text("CREATE VIRTUAL TABLE IF NOT EXISTS memory_fts_words USING fts5vocab(memory_fts, row)"))
        return set(conn.execute(text("SELECT term FROM memory_fts_words")).scalars())

    def on_postgresql(conn: Connection) -> set[str]:
        return set(conn.execute(text("SELECT word FROM ts_stat('SELECT words FROM memory_fts')")).scalars())

    words = await database.writer.run(on_sqlite if database.engine_name == "sqlite" else on_postgresql)
    return {word for word in words if word.lower() not in {f"n{number}" for number in range(1, 60)}}


async def check_index(database: Database) -> None:
    """SQLite compares every posting with its source; on PostgreSQL a posting cannot be without its row."""
    if database.engine_name == "sqlite":
        await database.writer.run(
            lambda conn: conn.execute(text("INSERT INTO memory_fts(memory_fts, rank) VALUES ('integrity-check', 1)"))
        )


async def test_no_word_is_posted_once_nothing_that_lives_holds_it(store: MemoryStore, database: Database):
    first = await put(store, "alpha beta", context="gamma")
    second = await put(store, "beta delta")
    assert await posted_words(database) == {"alpha", "beta", "gamma", "delta"}
    await change(store, first, text="epsilon")
    assert await posted_words(database) == {"beta", "gamma", "delta", "epsilon"}
    await delete(store, second)
    assert await posted_words(database) == {"gamma", "epsilon"}
    await undelete(store, second)
    await delete(store, first, purge=True)
    assert await posted_words(database) == {"beta", "delta"}
    await store.restore_version(ref(second), 1, "", "x", ticket())
    await delete(store, second)
    await delete(store, second, purge=True)
    assert await posted_words(database) == set()
    await check_index(database)


async def test_few_memories_at_a_time_are_due_to_be_posted(store: MemoryStore, database: Database):
    if database.engine_name != "sqlite":
        pytest.skip("PostgreSQL posts at once")
    due = text("SELECT count(*) FROM memory_fts_source WHERE pk > (SELECT posted FROM memory_fts_state)")
    most = 0
    for number in range(10):
        await put_all(store, [f"word{number} {place}" for place in range(number * 3)])
        await put(store, f"word{number}")
        most = max(most, await database.read(lambda conn: conn.execute(due).scalar_one()))
    assert 0 < most < 64


async def test_what_is_due_to_be_posted_may_change_before_it_is(store: MemoryStore, database: Database):
    many = [await put(store, f"word{number}") for number in range(70)]
    first, last = many[0], many[-1]
    for memory in (first, last):
        await change(store, memory, text=f"{memory.content.text} again")
        await delete(store, memory)
        assert await found(store, "again") == []
        await undelete(store, memory)
        assert await found(store, "again") == [f"{memory.content.text} again"]
        await check_index(database)
        await delete(store, memory, purge=True)
    assert await posted_words(database) == {memory.content.text for memory in many[1:-1]}
    await check_index(database)


async def test_after_any_history_a_search_agrees_with_the_texts(store: MemoryStore, database: Database):
    dice = random.Random(7)
    living: dict[str, Memory] = {}
    deleted: dict[str, Memory] = {}
    for _ in range(250):
        some = f"{' '.join(dice.choices(WORDS, k=3))} {dice.randrange(10_000)}"
        match dice.randrange(6):
            case 0 | 1:
                memory = await put(store, some)
                living[memory.id] = memory
            case 2 if living:
                memory = living[dice.choice(list(living))]
                living[memory.id] = await change(store, memory, text=some)
            case 3 if living:
                memory = living.pop(dice.choice(list(living)))
                await delete(store, memory)
                deleted[memory.id] = memory
            case 4 if deleted:
                memory = deleted.pop(dice.choice(list(deleted)))
                await undelete(store, memory)
                living[memory.id] = memory
            case 5 if deleted:
                await delete(store, deleted.pop(dice.choice(list(deleted))), purge=True)
    for word in WORDS:
        expected = {memory.content.text for memory in living.values() if word in memory.content.text.split()}
        assert set(await found(store, word)) == expected, word
    await check_index(database)


async def test_fifty_bots_with_the_same_words_find_their_own_alone(store: MemoryStore):
    dice = random.Random(11)
    for number in range(50):
        await put_all(store, [f"{word} of b{number}" for word in WORDS], bot=f"b{number}")
    for _ in range(150):
        number = dice.randrange(50)
        query = " ".join(dice.choices([*WORDS, '"', "OR", "*", ")", "N1", "namespace:", f"N{number}", "b3"], k=4))
        for hit in await found(store, query, bot=f"b{number}"):
            assert hit.endswith(f" of b{number}")


async def scores(store: MemoryStore, bot: str) -> list[tuple[str, float]]:
    """What is found of tea and cats, the best first, with its BM25."""
    query = SearchQuery(tuple(query_words("tea cat")), MemoryFilter(), 10, text="tea cat")
    hits = (await searching(store).search([Scope(bot, MemoryFilter())], [Probe()], query)).hits
    return [(hit.memory.content.text, hit.bm25) for hit in hits]


TEXTS = ["tea with a cat", "tea", "a dog and nothing else", "the cat sat"]


async def test_what_others_remember_changes_no_score(store: MemoryStore):
    await put_all(store, TEXTS, bot="first")
    before = await scores(store, "first")
    assert len(before) == 3
    await put_all(store, [f"cat number {number}" for number in range(20)], bot="other")
    await put_all(store, TEXTS, bot="second")
    assert await scores(store, "second") == before


async def test_what_was_deleted_changes_no_score_and_takes_no_place(store: MemoryStore):
    await put_all(store, TEXTS, bot="first")
    before = await scores(store, "first")
    await put_all(store, TEXTS, bot="second")
    gone = await put_all(store, [f"tea cat {number}" for number in range(80)], bot="second")
    assert len(await scores(store, "second")) == 10  # the index holds them now, if it is held at all
    for memory in gone:
        await delete(store, memory)
    assert await scores(store, "second") == before


async def test_rare_words_count_more_than_common_ones(store: MemoryStore):
    await put_all(store, [f"the cat number {number} sat" for number in range(30)])
    await put(store, "a zebra sat")
    assert (await found(store, "cat zebra"))[0] == "a zebra sat"


async def test_a_word_that_comes_often_in_a_short_text_counts_most(store: MemoryStore):
    await put_all(
        store,
        [
            "tea tea tea",
            "tea",
            "tea with milk and many other things that nobody asked for",
            *(f"filler number {number} without it" for number in range(30)),
        ],
    )
    assert await found(store, "tea") == [
        "tea tea tea",
        "tea",
        "tea with milk and many other things that nobody asked for",
    ]


async def test_the_longest_texts_are_indexed_whole(store: MemoryStore):
    await put(store, " ".join(f"w{number}" for number in range(5_000)))
    await put(store, "again " * 5_000 + "end")
    await put(store, "x" * 32_768, context="y" * 8_192)
    await put(store, "茶" * 10_922)
    await put(store, " ".join("abcdefghijklmnopqrstuvwxyz"[number % 26] for number in range(16_384)))
    for word in ("w4999", "again", "end", "x" * 4_000, "y" * 4_000, "茶茶", "q"):
        assert len(await found(store, word)) == 1, word
