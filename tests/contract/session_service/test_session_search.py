"""Search over all sessions, on both engines: what is found, how it is ordered, and what is not found any more."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from session_world import World, append_to, create, message, name, pb, refusal

from mobot.session.v1 import event_pb2, session_pb2


@pytest.fixture
async def world(database_url, tmp_path):
    running = World(database_url, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


async def search(stub, query: str, **fields) -> pb.SearchEventsResponse:
    """The answer once everything that is committed is indexed."""
    async with asyncio.timeout(60):
        while True:
            found = await stub.SearchEvents(pb.SearchEventsRequest(query=query, **fields))
            if not found.backlog_count:
                return found
            await asyncio.sleep(0.01)


async def texts(stub, query: str, **fields) -> list[str]:
    return [hit.event.message.parts[0].text for hit in (await search(stub, query, **fields)).hits]


async def test_a_message_is_found_by_its_words_in_whatever_session_it_is(world):
    stub = world.stub()
    for session, text in (("a", "The Zebra crosses the road"), ("b", "a zebra, again"), ("c", "nothing of the kind")):
        await create(stub, session)
        await append_to(stub, name(session), message("1", text))
    found = await search(stub, "zebra")
    assert {hit.event.session for hit in found.hits} == {name("a"), name("b")}
    assert all(hit.score > 0 for hit in found.hits)
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert {hit.excerpt for hit in found.hits} == {"The \x02Zebra\x03 crosses the road", "a \x02zebra\x03, again"}
    assert await texts(stub, "zebra road") == ["The Zebra crosses the road"]


@pytest.mark.parametrize(
    "query",
    ['"zebra"', "zebra*", "(zebra", "zebra)", "zebra & !", "'zebra'", "words:zebra", "NOT zebra", 'ze"bra', "\\zebra:"],
)
async def test_operators_and_quotes_are_taken_literally(world, query):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "words not zebra ze bra"), message("2", "another thing"))
    assert await texts(stub, query) == ["words not zebra ze bra"]


async def test_a_query_without_a_word_finds_nothing_and_an_empty_one_is_refused(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "zebra"))
    assert await texts(stub, '"* ( -') == []
    for query in ("", "x" * 4_097):
        error = await refusal(stub.SearchEvents(pb.SearchEventsRequest(query=query)))
        assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "query")


async def test_case_accents_and_scripts_without_spaces(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(
        stub, name("a"), message("1", "Größe und Café"), message("2", "我住在北京市"), message("3", "ПРИВЕТ мир")
    )
    assert await texts(stub, "GRÖSSE cafe") == ["Größe und Café"]
    assert await texts(stub, "北京") == ["我住在北京市"]
    assert await texts(stub, "привет") == ["ПРИВЕТ мир"]
    (hit,) = (await search(stub, "北京")).hits
    assert hit.excerpt == "我住在\x02北\x03\x02京\x03市"


async def test_filters_narrow_the_search(world):
    stub = world.stub()
    await create(stub, "a", group="work", tags=["x"])
    await create(stub, "b")
    await create(stub, "c", bot="helper")
    for bot, session in (("main", "a"), ("main", "b"), ("helper", "c")):
        await append_to(stub, name(session, bot), message("1", f"zebra {session}"))
    world.clock.advance(timedelta(days=1))
    later = Timestamp()
    later.FromDatetime(world.clock.now())
    answer = message("2", "zebra b answer", role=event_pb2.ROLE_ASSISTANT)
    await append_to(stub, name("b"), answer)
    assert await texts(stub, "zebra", filter=pb.SessionFilter(group="work")) == ["zebra a"]
    assert await texts(stub, "zebra", filter=pb.SessionFilter(tags=["x"])) == ["zebra a"]
    assert await texts(stub, "zebra", filter=pb.SessionFilter(bots=["bots/helper"])) == ["zebra c"]
    assert await texts(stub, "zebra", sessions=[name("a")]) == ["zebra a"]
    assert await texts(stub, "zebra", sessions=[name("nosuch")]) == []
    assert await texts(stub, "zebra", start_time=later) == ["zebra b answer"]
    assert sorted(await texts(stub, "zebra", end_time=later)) == ["zebra a", "zebra b", "zebra c"]
    assert await texts(stub, "zebra", roles=[event_pb2.ROLE_ASSISTANT]) == ["zebra b answer"]
    assert await texts(world.stub("bots/helper"), "zebra") == ["zebra c"]
    others = pb.SessionFilter(bots=["bots/main"])
    assert await texts(world.stub("bots/helper"), "zebra", filter=others) == []


async def test_pages_hold_every_hit_once_and_a_token_belongs_to_its_query(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(str(n), f"zebra number {n}") for n in range(25)))
    seen: list[str] = []
    token = ""
    while True:
        page = await search(stub, "zebra", page_size=10, page_token=token)
        seen += [hit.event.id for hit in page.hits]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen, key=int) == [str(n) for n in range(25)]
    first = await search(stub, "zebra", page_size=10)
    request = pb.SearchEventsRequest(query="number", page_token=first.next_page_token)
    assert (await refusal(stub.SearchEvents(request))).reason == "PAGE_TOKEN_INVALID"


async def test_what_is_deleted_archived_or_purged_is_not_found(world):
    stub = world.stub()
    for session in ("deleted", "archived", "purged"):
        await create(stub, session)
        await append_to(stub, name(session), message("1", f"zebra {session}"))
    await search(stub, "zebra")
    await stub.ArchiveSession(pb.ArchiveSessionRequest(name=name("archived")))
    for session in ("deleted", "purged"):
        await stub.DeleteSession(pb.DeleteSessionRequest(name=name(session)))
    found = (await stub.GetSession(pb.GetSessionRequest(name=name("purged")))).session
    await stub.PurgeSession(pb.PurgeSessionRequest(name=name("purged"), expected_uid=found.uid))
    assert await texts(stub, "zebra") == []
    everything = pb.SessionFilter(
        states=[session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATE_ARCHIVED, session_pb2.SESSION_STATE_DELETED]
    )
    assert sorted(await texts(stub, "zebra", filter=everything)) == ["zebra archived", "zebra deleted"]
    await stub.UndeleteSession(pb.UndeleteSessionRequest(name=name("deleted")))
    assert await texts(stub, "zebra") == ["zebra deleted"]


async def test_the_words_of_what_was_purged_leave_the_file(sqlite_url, tmp_path):
    world = World(sqlite_url, data_dir=tmp_path)
    await world.start()
    stub = world.stub()
    for session in ("kept", "purged"):
        await create(stub, session)
        await append_to(stub, name(session), *(message(str(n), f"word{session}{n}") for n in range(200)))
    await search(stub, "wordkept1")
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:

        def has(word: bytes) -> bool:
            return any(word in bytes(row[0]) for row in file.execute("SELECT block FROM event_fts_data"))

        assert has(b"wordpurged")
        uid = (await stub.GetSession(pb.GetSessionRequest(name=name("purged")))).session.uid
        await stub.DeleteSession(pb.DeleteSessionRequest(name=name("purged"), expected_uid=uid))
        await stub.PurgeSession(pb.PurgeSessionRequest(name=name("purged"), expected_uid=uid))
        async with asyncio.timeout(60):
            while True:
                if not has(b"wordpurged"):
                    break
                await asyncio.sleep(0.01)
        assert file.execute("SELECT count(*) FROM event_fts_source").fetchone() == (200,)
    assert len((await search(stub, "wordkept1")).hits) == 1
    await world.stop()


async def test_the_index_goes_on_after_a_restart(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "zebra one"))
    await world.restart()
    stub = world.stub()
    await append_to(stub, name("a"), message("2", "zebra two"))
    assert sorted(await texts(stub, "zebra")) == ["zebra one", "zebra two"]


async def test_a_former_transcript_is_searched_too(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "zebra before"))
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a")))
    await append_to(stub, name("a"), message("2", "zebra after"))
    assert sorted(await texts(stub, "zebra")) == ["zebra after", "zebra before"]


async def test_a_long_text_has_a_short_excerpt(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "word " * 5_000 + "zebra " * 100 + "word " * 5_000))
    (hit,) = (await search(stub, "zebra")).hits
    assert "\x02zebra\x03" in hit.excerpt
    assert len(hit.excerpt) <= 400
