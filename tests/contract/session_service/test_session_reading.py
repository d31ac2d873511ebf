"""Reading: lists, references, histories, and what a turn needs."""

from datetime import timedelta

import pytest
from session_world import append_to, create, finished, message, name, pb, refusal, started, watch

from mobot.session.v1 import event_pb2, session_pb2


def ids(response) -> list[str]:
    return [session.name.rpartition("/")[2] for session in response.sessions]


async def listed(stub, **fields) -> list[str]:
    return ids(await stub.ListSessions(pb.ListSessionsRequest(**fields)))


async def aged(world, stub, *session_ids, **fields):
    """Sessions created one after another, the last one the newest."""
    for session_id in session_ids:
        world.clock.advance(timedelta(seconds=1))
        await create(stub, session_id, **fields)


async def test_pinned_sessions_come_first_then_the_newest_activity(world, stub):
    await aged(world, stub, "a", "b", "c", "d")
    world.clock.advance(timedelta(seconds=1))
    await append_to(stub, name("b"), message("m1"))
    await stub.UpdateSession(pb.UpdateSessionRequest(session=session_pb2.Session(name=name("a"), pinned=True)))
    assert await listed(stub) == ["a", "b", "d", "c"]
    assert await listed(stub, order=pb.SESSION_ORDER_ACTIVITY) == ["b", "d", "c", "a"]
    assert await listed(stub, order=pb.SESSION_ORDER_CREATED) == ["d", "c", "b", "a"]
    assert await listed(stub, order=pb.SESSION_ORDER_NAME) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "order", [pb.SESSION_ORDER_UNSPECIFIED, pb.SESSION_ORDER_ACTIVITY, pb.SESSION_ORDER_CREATED, pb.SESSION_ORDER_NAME]
)
async def test_pages_together_are_the_list_also_where_times_are_equal(world, stub, order):
    for number in range(7):
        await create(stub, f"s{number}", pinned=number % 3 == 0)
    whole = await listed(stub, order=order)
    assert len(whole) == 7
    paged, token = [], ""
    while True:
        page = await stub.ListSessions(
            pb.ListSessionsRequest(page_size=2, page_token=token, order=order, count_total=True)
        )
        assert page.total_count == 7
        paged += ids(page)
        token = page.next_page_token
        if not token:
            break
    assert paged == whole
    assert await listed(stub, order=order, offset=3, page_size=2) == whole[3:5]


async def test_a_token_of_another_list_is_refused(stub):
    await create(stub, "a")
    await create(stub, "b")
    token = (await stub.ListSessions(pb.ListSessionsRequest(page_size=1))).next_page_token
    for request in (
        pb.ListSessionsRequest(page_token=token, order=pb.SESSION_ORDER_NAME),
        pb.ListSessionsRequest(page_token="nonsense"),
    ):
        error = await refusal(stub.ListSessions(request))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize(
    "other",
    [{}, {"tags": ["y"]}, {"tags": ["x"], "group": "g"}, {"tags": ["x"], "bots": ["bots/helper"]}],
    ids=["none", "other", "more", "bot"],
)
async def test_a_token_of_another_filter_is_refused(stub, other):
    for session_id in "abc":
        await create(stub, session_id, tags=["x"])
    narrowed = pb.SessionFilter(tags=["x"])
    first = await stub.ListSessions(pb.ListSessionsRequest(filter=narrowed, page_size=1))
    again = pb.ListSessionsRequest(filter=pb.SessionFilter(**other), page_token=first.next_page_token)
    assert (await refusal(stub.ListSessions(again))).reason == "PAGE_TOKEN_INVALID"
    rest = await stub.ListSessions(pb.ListSessionsRequest(filter=narrowed, page_token=first.next_page_token))
    assert len(rest.sessions) == 2


async def test_a_history_token_is_bound_to_its_session_and_filter(stub):
    for session_id in ("a", "b"):
        await create(stub, session_id)
        await append_to(stub, name(session_id), *(message(f"m{number}") for number in range(3)))
    first = await stub.ListEvents(pb.ListEventsRequest(parent=name("a"), page_size=1))
    token = first.next_page_token
    for other in (
        pb.ListEventsRequest(parent=name("b"), page_token=token),
        pb.ListEventsRequest(parent=name("a"), page_token=token, descending=True),
        pb.ListEventsRequest(parent=name("a"), page_token=token, filter=pb.EventFilter(kinds=["message"])),
    ):
        assert (await refusal(stub.ListEvents(other))).reason == "PAGE_TOKEN_INVALID"
    assert len((await stub.ListEvents(pb.ListEventsRequest(parent=name("a"), page_token=token))).events) == 3


async def test_filters_narrow_the_list(world, stub):
    await create(stub, "a", label="Budget 2026", group="Work", tags=["x", "y"], persistent=True)
    await create(stub, "b", description="the BUDGET of last year", tags=["x"])
    await create(stub, "c", bot="helper", parent=name("a"))
    await create(stub, "gone")
    await stub.ArchiveSession(pb.ArchiveSessionRequest(name=name("gone")))
    await append_to(stub, name("b"), started("r1"))

    async def fits(**fields):
        return sorted(await listed(stub, filter=pb.SessionFilter(**fields)))

    assert await fits() == ["a", "b", "c"]
    assert await fits(bots=["bots/helper"]) == ["c"]
    assert await fits(bots=["bots/helper", "bots/main"]) == ["a", "b", "c"]
    assert await fits(group="Work") == ["a"]
    assert await fits(tags=["x"]) == ["a", "b"]
    assert await fits(tags=["x", "y"]) == ["a"]
    assert await fits(persistent=True) == ["a"]
    assert await fits(persistent=False) == ["b", "c"]
    assert await fits(running=True) == ["b"]
    assert await fits(running=False) == ["a", "c"]
    assert await fits(parent=name("a")) == ["c"]
    assert await fits(text="budget") == ["a", "b"]
    assert await fits(text="100%") == []
    assert await fits(label="budget 2026") == ["a"]
    assert await fits(states=[session_pb2.SESSION_STATE_ARCHIVED]) == ["gone"]
    assert len(await fits(states=[1, 2, 3])) == 4
    assert await fits(exclude_ids=["a", "c"]) == ["b"]
    world.clock.advance(timedelta(seconds=10))
    await append_to(stub, name("c", "helper"), message("m1"))
    since = (await stub.GetSession(pb.GetSessionRequest(name=name("c", "helper")))).session.last_activity_time
    assert await fits(active_since=since) == ["c"]


async def test_derived_texts_are_filled_when_asked_for(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("m1", "Plan   the\nbirthday party"), message("m2", "Sure!", role=2))
    view = pb.SessionView(derived_title=True, last_message_preview=True)
    session = (await stub.ListSessions(pb.ListSessionsRequest(view=view))).sessions[0]
    assert (session.derived_title, session.last_message_preview) == ("Plan the birthday party", "Sure!")
    plain = (await stub.GetSession(pb.GetSessionRequest(name=name("a")))).session
    assert (plain.derived_title, plain.last_message_preview) == ("", "")


async def test_references_find_the_one_session_they_mean(stub):
    session = await create(stub, "notes", label="My Notes")
    old_uid = session.uid
    session = (await stub.ResetSession(pb.ResetSessionRequest(name=session.name))).session

    async def resolve(**reference):
        return (await stub.ResolveSession(pb.ResolveSessionRequest(**reference))).session

    for reference in (
        {"key": "agent:main:notes"},
        {"key": "notes"},
        {"uid": session.uid},
        {"uid": old_uid},
        {"label": "my notes"},
        {"short_id": session.uid[:6]},
        {"any": "agent:main:notes"},
        {"any": "notes"},
        {"any": session.uid},
        {"any": session.uid[:8]},
        {"any": "My Notes"},
        {"any": session.name},
    ):
        assert await resolve(**reference) == session, reference


async def test_a_reference_that_fits_more_than_one_is_refused(stub):
    await create(stub, "notes")
    await create(stub, "notes", bot="helper")
    error = await refusal(stub.ResolveSession(pb.ResolveSessionRequest(key="notes")))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "SESSION_AMBIGUOUS")
    assert error.metadata == {"reference": "notes", "matches": "2"}
    found = await stub.ResolveSession(pb.ResolveSessionRequest(bot="bots/helper", key="notes"))
    assert found.session.name == name("notes", "helper")
    error = await refusal(stub.ResolveSession(pb.ResolveSessionRequest(label="nothing")))
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")


async def test_many_are_read_at_once_and_the_missing_ones_named(stub):
    await create(stub, "a")
    await create(stub, "b")
    response = await stub.BatchGetSessions(pb.BatchGetSessionsRequest(names=[name("b"), name("x"), name("a")]))
    assert ids(response) == ["b", "a"]
    assert list(response.missing) == [name("x")]


async def test_a_history_is_paged_in_both_directions(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(f"m{n}") for n in range(1, 8)))
    for descending in (False, True):
        seen, token = [], ""
        while True:
            page = await stub.ListEvents(
                pb.ListEventsRequest(
                    parent=name("a"), page_size=3, page_token=token, descending=descending, count_total=True
                )
            )
            assert page.total_count == 8
            seen += [event.sequence for event in page.events]
            token = page.next_page_token
            if not token:
                break
        assert seen == sorted(range(1, 9), reverse=descending)


async def test_a_page_ends_when_its_events_are_too_large_together(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(f"m{n}", "x" * 1000) for n in range(5)))
    page = await stub.ListEvents(
        pb.ListEventsRequest(parent=name("a"), max_bytes=2500, filter=pb.EventFilter(kinds=["message"]))
    )
    assert len(page.events) == 2
    page = await stub.ListEvents(
        pb.ListEventsRequest(parent=name("a"), max_bytes=1, filter=pb.EventFilter(kinds=["message"]))
    )
    assert len(page.events) == 1
    assert page.next_page_token


DEFAULT_LIMIT = 4 * 1024 * 1024
"""Of a message, in a gRPC client that is left as it is."""


async def test_every_answer_fits_a_client_with_the_limits_of_grpc(world, stub):
    await create(stub, "a")
    live = await watch(stub, name("a"), after_sequence=-1).caught_up()
    all_live = await watch(stub).caught_up()
    long = "zebra " + "x" * 699_000
    wanted = [f"m{number}" for number in range(14)]
    await append_to(stub, name("a"), *(message(each, long, role=event_pb2.ROLE_ASSISTANT) for each in wanted))

    one, every = watch(stub, name("a"), resume_token=live.token), watch(stub, resume_token=all_live.token)
    for watcher in (live, all_live, one, every):
        await watcher.has(14)
        assert watcher.ids() == wanted
        assert max(frame.ByteSize() for frame in watcher.frames) < DEFAULT_LIMIT
        watcher.stop()

    listed, found, token = [], [], ""
    while token or not listed:
        page = await stub.ListEvents(
            pb.ListEventsRequest(parent=name("a"), filter=pb.EventFilter(kinds=["message"]), page_token=token)
        )
        assert page.ByteSize() < DEFAULT_LIMIT
        listed += [event.id for event in page.events]
        token = page.next_page_token
    assert listed == wanted

    while (await stub.SearchEvents(pb.SearchEventsRequest(query="zebra"))).backlog_count:
        pass
    while token or not found:
        hits = await stub.SearchEvents(pb.SearchEventsRequest(query="zebra", page_token=token))
        assert hits.ByteSize() < DEFAULT_LIMIT
        found += [hit.event.id for hit in hits.hits]
        token = hits.next_page_token
    assert sorted(found) == sorted(wanted)


async def test_a_history_is_narrowed_by_kind_run_sequence_and_time(world, stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("m1", run="r1"), started("r1"))
    world.clock.advance(timedelta(hours=1))
    await append_to(stub, name("a"), finished("r1"), message("m2"))

    async def sequences(**fields):
        page = await stub.ListEvents(pb.ListEventsRequest(parent=name("a"), filter=pb.EventFilter(**fields)))
        return [event.sequence for event in page.events]

    assert await sequences(kinds=["message"]) == [2, 5]
    assert await sequences(kinds=["run_started", "run_finished"]) == [3, 4]
    assert await sequences(run="r1") == [2, 3, 4]
    assert await sequences(after_sequence=3) == [4, 5]
    assert await sequences(after_sequence=1, before_sequence=4) == [2, 3]
    later = (await stub.GetEvent(pb.GetEventRequest(session=name("a"), sequence=4))).event.create_time
    assert await sequences(start_time=later) == [4, 5]
    assert await sequences(end_time=later) == [1, 2, 3]
    request = pb.ListEventsRequest(parent=name("a"), filter=pb.EventFilter(kinds=["nonsense"]))
    assert (await refusal(stub.ListEvents(request))).reason == "FIELD_INVALID"


async def test_events_are_found_by_sequence_and_by_id(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("m1"))
    by_id = (await stub.GetEvent(pb.GetEventRequest(session=name("a"), id="m1"))).event
    assert (await stub.GetEvent(pb.GetEventRequest(session=name("a"), sequence=2))).event == by_id
    error = await refusal(stub.GetEvent(pb.GetEventRequest(session=name("a"), sequence=90)))
    assert (error.code, error.reason, error.metadata["sequence"]) == ("NOT_FOUND", "EVENT_NOT_FOUND", "90")
    error = await refusal(stub.GetEvent(pb.GetEventRequest(session=name("x"), sequence=1)))
    assert error.reason == "SESSION_NOT_FOUND"


async def turn(stub, run="r2", **fields):
    return await stub.GetTurnContext(pb.GetTurnContextRequest(session=name("a"), run=run, **fields))


async def test_a_turn_gets_the_history_and_what_its_run_has_committed(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("message/1", run="r1"), started("r1"))
    await append_to(stub, name("a"), message("run/r1/reply", "hi", role=2, run="r1"), finished("r1"))
    await append_to(stub, name("a"), message("message/2", "and?", run="r2"), started("r2"))
    tool = event_pb2.Event(id="run/r2/step/0/call", run="r2", tool_called=event_pb2.ToolCalled(call_id="1", tool="x"))
    await append_to(stub, name("a"), tool)
    context = await turn(stub)
    assert [event.id for event in context.events] == ["message/1", "run/r1/reply"]
    assert [event.id for event in context.run_events] == ["message/2", "run/r2/started/1", "run/r2/step/0/call"]
    assert not context.truncated
    assert context.session.name == name("a")


async def test_a_turn_starts_from_the_newest_summary(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("m1"), message("m2"), message("m3"))
    await append_to(
        stub,
        name("a"),
        event_pb2.Event(id="s1", summary=event_pb2.SummaryAppended(text="so far", through_sequence=3)),
    )
    await append_to(stub, name("a"), message("m4"))
    context = await turn(stub)
    assert context.summary.summary.text == "so far"
    assert [event.id for event in context.events] == ["m3", "m4"]
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a")))
    context = await turn(stub)
    assert not context.HasField("summary")
    assert list(context.events) == []


async def test_a_turns_budget_keeps_the_newest(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(f"m{n}", "x" * 1000) for n in range(6)))
    few = await turn(stub, max_events=2)
    assert [event.id for event in few.events] == ["m4", "m5"]
    assert few.truncated
    small = await turn(stub, max_bytes=3500)
    assert [event.id for event in small.events] == ["m3", "m4", "m5"]
    assert small.truncated


async def test_a_bot_sees_its_own_sessions_only(world, stub):
    await create(stub, "mine")
    await create(stub, "theirs", bot="helper")
    bot = world.stub("bots/main")
    theirs = name("theirs", "helper")
    assert ids(await bot.ListSessions(pb.ListSessionsRequest())) == ["mine"]
    assert ids(await bot.ListSessions(pb.ListSessionsRequest(filter=pb.SessionFilter(bots=["bots/helper"])))) == []
    of_all = (await stub.ListSessions(pb.ListSessionsRequest(page_size=1))).next_page_token
    borrowed = await refusal(bot.ListSessions(pb.ListSessionsRequest(page_size=1, page_token=of_all)))
    assert borrowed.reason == "PAGE_TOKEN_INVALID"
    found = await bot.BatchGetSessions(pb.BatchGetSessionsRequest(names=[theirs, name("mine")]))
    assert (ids(found), list(found.missing)) == (["mine"], [theirs])
    for call in (
        bot.GetSession(pb.GetSessionRequest(name=theirs)),
        bot.ResolveSession(pb.ResolveSessionRequest(key="theirs")),
        bot.UpdateSession(pb.UpdateSessionRequest(session=session_pb2.Session(name=theirs, label="x"))),
        bot.ResetSession(pb.ResetSessionRequest(name=theirs)),
        bot.DeleteSession(pb.DeleteSessionRequest(name=theirs, allow_missing=True)),
        bot.ListEvents(pb.ListEventsRequest(parent=theirs)),
        bot.GetTurnContext(pb.GetTurnContextRequest(session=theirs, run="r")),
        append_to(bot, theirs, message("m1"), ensure=True),
        append_to(bot, name("new", "helper"), message("m1"), ensure=True),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    call = bot.WatchEvents(pb.WatchEventsRequest(sessions=[theirs]))
    assert (await refusal(call.read())).reason == "SESSION_NOT_FOUND"
    create_theirs = bot.CreateSession(pb.CreateSessionRequest(parent="bots/helper"))
    assert (await refusal(create_theirs)).reason == "BOT_NOT_FOUND"


@pytest.mark.parametrize("bad", ["bots/main", "bots/main/sessions/../x", "agent:main:x", "", "bots/MAIN/sessions/x"])
async def test_malformed_names_are_refused_everywhere(stub, bad):
    for call in (
        stub.GetSession(pb.GetSessionRequest(name=bad)),
        stub.ResetSession(pb.ResetSessionRequest(name=bad)),
        stub.ListEvents(pb.ListEventsRequest(parent=bad)),
        append_to(stub, bad, message("m1")),
        stub.WatchEvents(pb.WatchEventsRequest(sessions=[bad])).read(),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "RESOURCE_NAME_INVALID")


async def test_negative_sizes_are_refused(stub):
    await create(stub, "a")
    for call in (
        stub.ListSessions(pb.ListSessionsRequest(page_size=-1)),
        stub.ListSessions(pb.ListSessionsRequest(offset=-1)),
        stub.ListEvents(pb.ListEventsRequest(parent=name("a"), page_size=-1)),
        stub.ListEvents(pb.ListEventsRequest(parent=name("a"), max_bytes=-1)),
        turn(stub, max_events=-1),
    ):
        assert (await refusal(call)).reason == "FIELD_INVALID"


async def test_the_history_of_a_transcript_that_never_was_is_refused(stub):
    session = await create(stub, "a")
    reset = (await stub.ResetSession(pb.ResetSessionRequest(name=session.name))).session

    def history(uid: str, **narrowed):
        narrow = pb.EventFilter(session_uid=uid, **narrowed)
        return stub.ListEvents(pb.ListEventsRequest(parent=session.name, filter=narrow))

    assert (await refusal(history("nobody"))).reason == "TRANSCRIPT_NOT_FOUND"
    assert len((await history(session.uid)).events) == 1
    for uid in (session.uid, reset.uid, "*", ""):
        assert not (await history(uid, after_sequence=99)).events
