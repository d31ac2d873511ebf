"""Searching over the wire: what is found, in which order, and that queries are text and nothing else."""

import pytest
from memory_world import World, pb, refusal, refused, struct

from mobot.memory.v1 import memory_pb2

Memory = memory_pb2.Memory


async def test_words_are_found_whatever_their_case_and_accents(world: World):
    await world.put("Zoë\u2019s café is on Straße 12")
    for query in ("zoe", "CAFÉ", "Cafe", "STRASSE", "12", "where is the café?"):
        assert await world.found(query) == ["Zoë\u2019s café is on Straße 12"], query
    for query in ("stra", "1", "str", "zoës"):
        assert await world.found(query) == [], query


LANGUAGES = [
    ("我喜欢喝绿茶", "绿茶"),
    ("猫が好きです", "猫"),
    ("나는 고양이를 좋아한다", "고양이"),
    ("ฉันชอบชา", "ชา"),
    ("Я люблю чай", "ЧАЙ"),
    ("أحب الشاي", "الشاي"),
    ("मुझे चाय पसंद है", "चाय"),
    ("Tôi thích trà", "trà"),
    ("iPhone手机很贵", "手机"),
    ("\ufb01ne \uff26\uff35\uff2c\uff2c width", "fine full"),
    ("emoji 🦊 fox", "fox"),
]


async def test_words_are_found_in_every_language(world: World):
    for text, _ in LANGUAGES:
        await world.put(text)
    assert [(await world.found(query))[:1] for _, query in LANGUAGES] == [[text] for text, _ in LANGUAGES]


async def test_any_word_finds_and_more_words_find_better(world: World):
    await world.put("the red car")
    await world.put("the red boat of Ana")
    await world.put("green trees")
    assert await world.found("red boat") == ["the red boat of Ana", "the red car"]


async def test_words_that_say_nothing_find_nothing_unless_they_are_all_there_is(world: World):
    await world.put("to be or not to be")
    await world.put("the tea of Ana")
    assert await world.found("what is the tea") == ["the tea of Ana"]
    assert await world.found("to be or not to be") == ["to be or not to be"]


async def test_the_context_is_read_with_less_weight(world: World):
    await world.put("she said yes", context="will Ana marry")
    await world.put("Ana will marry")
    await world.put("nothing at all of that")
    assert await world.found("marry") == ["Ana will marry", "she said yes"]


async def test_scores_run_from_one_down_and_tell_their_parts(world: World):
    await world.put("tea tea tea")
    await world.put("tea with milk and a lot of other things")
    response = await world.search("tea milk Zanzibar", explain=True)
    first, second = response.hits
    assert first.score == 1.0
    assert 0 < second.score < 1
    assert first.parts.bm25 > second.parts.bm25 > 0
    assert (first.parts.text, first.parts.text_rank, second.parts.text_rank) == (pytest.approx(1.0), 1, 2)
    assert not first.parts.HasField("cosine")
    assert sorted([*first.parts.matched_terms, *second.parts.matched_terms]) == ["milk", "tea", "tea"]
    assert response.report.text_candidate_count == 2
    plain = await world.search("tea")
    assert not plain.hits[0].HasField("parts")
    assert plain.report.text_candidate_count == 0
    assert len((await world.search("tea milk", min_score=0.999)).hits) == 1


async def test_of_equal_scores_the_later_update_comes_first_and_then_the_name(world: World):
    await world.put("tea one", memory_id="c")
    await world.put("tea two", memory_id="b")
    await world.put("tea six", memory_id="B")
    world.pass_time(1)
    await world.put("tea ten", memory_id="z")
    assert await world.found("tea") == ["tea ten", "tea six", "tea two", "tea one"]


async def test_pages_follow_the_ranking(world: World):
    for number in range(25):
        await world.put("tea " + "and so on " * number)
    everything = await world.found("tea", page_size=100)
    assert len(everything) == 25
    found: list[str] = []
    token = ""
    while True:
        response = await world.search("tea", page_size=7, page_token=token)
        found += [hit.memory.text for hit in response.hits]
        token = response.next_page_token
        if not token:
            break
    assert found == everything
    assert len(await world.found("tea")) == 10
    assert len(await world.found("tea", page_size=100_000)) == 25


async def test_a_page_token_is_good_for_its_own_search_only(world: World):
    for number in range(3):
        await world.put(f"tea {number}")
    token = (await world.search("tea", page_size=1)).next_page_token
    assert await refusal(world.search("milk", page_token=token)) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert await refusal(world.search("tea", page_token="AAAA")) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert (await refusal(world.search("tea", page_size=-1)))[1] == "FIELD_INVALID"


async def test_filters_come_before_ranking(world: World):
    for number in range(30):
        await world.put(f"tea tea tea {number}")
    await world.put("one tea among many other words", tags=["x"], metadata=struct(size=3))
    selected = memory_pb2.MemoryFilter(any_tags=["x"])
    assert await world.found("tea", filter=selected, page_size=1) == ["one tea among many other words"]
    selected = memory_pb2.MemoryFilter(
        conditions=[memory_pb2.MetadataCondition(path="size", operator=memory_pb2.CONDITION_OPERATOR_EXISTS)]
    )
    assert await world.found("tea", filter=selected, page_size=1) == ["one tea among many other words"]


async def test_a_change_of_text_is_found_at_once_and_the_old_words_never_again(world: World):
    memory = await world.put("tea is good", context="kettle", memory_id="m1")
    await world.update(Memory(name=memory.name, text="coffee is good", context="mug"))
    for word, expected in (("tea", []), ("kettle", []), ("coffee", ["coffee is good"]), ("mug", ["coffee is good"])):
        assert await world.found(word) == expected, word
    await world.restart()
    assert await world.found("tea kettle") == []
    await world.delete(memory.name)
    assert await world.found("coffee") == []
    await world.undelete(memory.name)
    await world.delete(memory.name, purge=True)
    assert await world.found("coffee mug") == []


async def test_an_unrelated_change_leaves_the_index_alone(world: World):
    memory = await world.put("tea")
    await world.update(Memory(name=memory.name, author="Ana"))
    assert await world.found("tea") == ["tea"]


QUERIES = [
    '"',
    '"tea',
    "tea*",
    "mi*",
    "tea OR milk",
    "tea AND",
    "NOT tea",
    "NEAR(tea milk, 1)",
    "text:tea",
    "namespace:N1",
    "namespace : N1 OR tea",
    "{text context} : tea",
    "^tea",
    "-tea",
    "tea + milk",
    "(((((tea",
    "tea)",
    "'; DROP TABLE memory; --",
    "tea' OR '1'='1",
    "tea & milk | !x <-> y",
    "tea:*",
    "tea:A",
    "\\",
    "%_",
    "$1 :words_to_match ?",
    "\u202etea\u202c",
    "\ud7ff\ue000\uffff",
    "🦊",
    "tea\u0301\u0301\u0301",
    "N1 N2 n1",
    " ".join(f"w{number}" for number in range(500)),
    "x" * 4_096,
    "茶" * 4_096,
    "( " * 2_048,
]


async def test_a_query_is_text_and_finds_nothing_foreign(world: World):
    await world.put("tea", bot="other")
    await world.put("N1 N2 N3 namespace", bot="other")
    await world.put("tea with milk")
    for query in QUERIES:
        for hit in (await world.search(query)).hits:
            assert hit.memory.name.startswith("bots/main/"), query
    assert await world.found("tea") == ["tea with milk"]


async def test_operators_in_a_query_are_words(world: World):
    await world.put("near the sea")
    await world.put("tea")
    assert set(await world.found("NEAR(tea, 5)")) == {"near the sea", "tea"}
    assert await world.found("mi*") == []


async def test_words_of_a_namespace_are_not_its_token(world: World):
    for bot in ("a", "b", "c"):
        await world.put("N1 n1 N2 n2 N3 n3", bot=bot)
    for bot in ("a", "b", "c"):
        hits = (await world.search("n1 N2 n3", bot=bot)).hits
        assert [hit.memory.name.split("/")[1] for hit in hits] == [bot]


async def test_hybrid_goes_by_word_and_says_so(world: World):
    await world.put("tea")
    for mode in (pb.SEARCH_MODE_UNSPECIFIED, pb.SEARCH_MODE_HYBRID):
        report = (await world.search("tea", mode=mode)).report
        assert report.mode == pb.SEARCH_MODE_TEXT
        assert report.vector_backlog_count == 1
        assert len(report.notes) == 1
    report = (await world.search("tea", mode=pb.SEARCH_MODE_TEXT)).report
    assert (report.mode, list(report.notes)) == (pb.SEARCH_MODE_TEXT, [])
    report = (await world.search("tea", mode=pb.SEARCH_MODE_TEXT, rerank=True)).report
    assert len(report.notes) == 1
    assert not report.reranked


async def test_a_search_that_needs_vectors_is_refused_clearly(world: World):
    memory = await world.put("tea")
    error = await refused(world.search("tea", mode=pb.SEARCH_MODE_VECTOR))
    assert (error.code, error.reason) == ("UNAVAILABLE", "EMBEDDER_UNAVAILABLE")
    similar = {"mode": pb.SEARCH_MODE_SIMILAR}
    assert (await refusal(world.search("", similar_to=memory.name, **similar)))[1] == "EMBEDDER_UNAVAILABLE"
    missing = "bots/main/memories/none"
    assert await refusal(world.search("", similar_to=missing, **similar)) == ("NOT_FOUND", "MEMORY_NOT_FOUND")
    assert (await refusal(world.search("tea", similar_to=memory.name, **similar)))[1] == "FIELD_INVALID"
    assert (await refusal(world.search("", **similar)))[1] == "RESOURCE_NAME_INVALID"
    assert (await refusal(world.search("tea", similar_to=memory.name)))[1] == "FIELD_INVALID"


async def test_use_is_recorded_on_demand(world: World):
    memory = await world.put("tea")
    await world.put("milk")
    await world.search("tea")
    assert (await world.get(memory.name)).use_count == 0
    world.pass_time(5)
    await world.search("tea", record_use=True)
    used = await world.get(memory.name)
    assert (used.use_count, used.version, used.etag) == (1, memory.version, memory.etag)
    assert used.use_time.ToDatetime() == world.clock.now().replace(tzinfo=None)
    assert await world.found("milk", filter=memory_pb2.MemoryFilter(time_ranges=[_used()])) == []


def _used() -> memory_pb2.TimeRange:
    return memory_pb2.TimeRange(field=memory_pb2.TIME_FIELD_USE_TIME)


async def test_an_excerpt_shows_the_words_that_were_found(world: World):
    await world.put("start " + "blah " * 400 + "needle " + "blub " * 400)
    await world.put("a short needle")
    short, long = sorted((await world.search("needle")).hits, key=lambda hit: len(hit.memory.text))
    assert short.excerpt == "a short needle"
    assert "needle" in long.excerpt
    assert len(long.excerpt) <= 400


async def test_a_long_text_is_found_by_its_last_word(world: World):
    await world.put("word " * 6_000 + "zebra")
    await world.put("x" * 32_768)
    assert len(await world.found("zebra")) == 1
    assert len(await world.found("x" * 4_096)) == 1
