"""Forking and merging, on both engines: what is copied, where it came from, and that it is the same every time."""

from datetime import timedelta

import pytest
from session_world import World, append_to, create, finished, message, name, pb, refusal, started

from mobot.session.v1 import event_pb2, part_pb2, session_pb2


@pytest.fixture
async def world(database_url, tmp_path):
    running = World(database_url, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


async def log(stub, session: str, **which) -> list[event_pb2.Event]:
    request = pb.ListEventsRequest(parent=name(session), filter=pb.EventFilter(**which), page_size=1_000)
    return list((await stub.ListEvents(request)).events)


async def said(stub, session: str) -> list[str]:
    return [event.message.parts[0].text for event in await log(stub, session, kinds=["message"])]


def fork(source: str, target: str, sequence: int = 0, **fields) -> pb.ForkSessionRequest:
    create_target = pb.CreateSessionRequest(session_id=target, session=session_pb2.Session(**fields))
    return pb.ForkSessionRequest(source=name(source), sequence=sequence, target=create_target)


async def merge(stub, target: str, *sources: str) -> pb.MergeSessionsResponse:
    request = pb.MergeSessionsRequest(sources=[name(source) for source in sources], target=name(target))
    return await stub.MergeSessions(request)


async def conversation(stub, session: str) -> None:
    """Sequences 2 to 7: a question, its run, an answer with a tool call."""
    call = event_pb2.ToolCalled(call_id="c1", tool="look", arguments_json="{}")
    answer = event_pb2.ToolReturned(call_id="c1", tool="look", parts=[part_pb2.Part(text="seen")])
    await create(stub, session)
    await append_to(
        stub,
        name(session),
        message("q", "question", run="r"),
        started("r"),
        event_pb2.Event(id="call", run="r", tool_called=call),
        event_pb2.Event(id="back", run="r", tool_returned=answer),
        message("a", "answer", role=event_pb2.ROLE_ASSISTANT, run="r", model="test/one"),
        finished("r"),
    )


async def test_a_fork_has_what_was_said_and_names_every_original(world):
    stub = world.stub()
    await conversation(stub, "a")
    source = (await stub.GetSession(pb.GetSessionRequest(name=name("a")))).session
    forked = (await stub.ForkSession(fork("a", "b", label="Fork"))).session
    assert (forked.fork_origin.session, forked.fork_origin.session_uid) == (name("a"), source.uid)
    assert (forked.label, forked.message_count, forked.last_sequence) == ("Fork", 2, 5)
    assert forked.created_by == "operators/root"
    events = await log(stub, "b")
    assert [event.WhichOneof("payload") for event in events] == [
        "session_created",
        "message",
        "tool_called",
        "tool_returned",
        "message",
    ]
    assert [event.origin.sequence for event in events[1:]] == [2, 4, 5, 6]
    assert all(event.run == "" and event.origin.HasField("create_time") for event in events[1:])
    assert events[4].message == (await log(stub, "a"))[5].message
    assert await said(stub, "a") == ["question", "answer"]
    assert (await stub.GetSession(pb.GetSessionRequest(name=name("a")))).session.last_sequence == source.last_sequence


async def test_a_fork_at_an_event_ends_there_and_goes_its_own_way(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), *(message(str(number), f"line {number}") for number in range(4)))
    await stub.ForkSession(fork("a", "b", 3))
    await append_to(stub, name("b"), message("new", "other"))
    assert await said(stub, "b") == ["line 0", "line 1", "other"]
    assert await said(stub, "a") == ["line 0", "line 1", "line 2", "line 3"]


async def test_creating_a_session_based_on_another_is_a_fork(world):
    stub = world.stub()
    await conversation(stub, "a")
    origin = session_pb2.ForkOrigin(session=name("a"), sequence=2)
    request = pb.CreateSessionRequest(parent="bots/helper", session_id="b", based_on=origin, request_id="once")
    first = await stub.CreateSession(request)
    assert (first.created, first.session.fork_origin.sequence) == (True, 2)
    again = await stub.CreateSession(request)
    assert again == first
    request.ClearField("request_id")
    assert (await refusal(stub.CreateSession(request))).reason == "SESSION_ALREADY_EXISTS"
    request.conflict_policy = pb.CONFLICT_POLICY_USE_EXISTING
    used = await stub.CreateSession(request)
    assert (used.created, used.session.last_sequence) == (False, first.session.last_sequence)
    request.conflict_policy = pb.CONFLICT_POLICY_REPLACE
    replaced = (await stub.CreateSession(request)).session
    assert (replaced.message_count, replaced.uid != first.session.uid) == (1, True)


async def test_a_former_transcript_can_be_forked(world):
    stub = world.stub()
    before = await create(stub, "a")
    await append_to(stub, name("a"), message("1", "before"))
    await stub.ResetSession(pb.ResetSessionRequest(name=name("a")))
    await append_to(stub, name("a"), message("2", "after"))
    await stub.ForkSession(fork("a", "old", 2))
    assert await said(stub, "old") == ["before"]
    by_uid = session_pb2.ForkOrigin(session=name("a"), session_uid=before.uid)
    await stub.CreateSession(pb.CreateSessionRequest(parent="bots/main", session_id="older", based_on=by_uid))
    assert await said(stub, "older") == ["before"]
    await stub.ForkSession(fork("a", "new"))
    assert await said(stub, "new") == ["after"]


async def test_the_context_of_a_fork_begins_with_the_summary_of_its_source(world):
    stub = world.stub()
    await create(stub, "a")
    summary = event_pb2.Event(id="s", summary=event_pb2.SummaryAppended(text="so far", through_sequence=3))
    await append_to(stub, name("a"), message("1", "one"), message("2", "two"), message("3", "three"), summary)
    await append_to(stub, name("a"), message("4", "four"))
    await stub.ForkSession(fork("a", "b"))
    turn = await stub.GetTurnContext(pb.GetTurnContextRequest(session=name("b"), run="r"))
    assert turn.summary.summary.text == "so far"
    assert turn.summary.summary.through_sequence == 3
    assert [event.message.parts[0].text for event in turn.events] == ["three", "four"]


async def test_wrong_forks(world):
    stub = world.stub()
    await conversation(stub, "a")
    await create(stub, "theirs", bot="helper")
    assert (await refusal(stub.ForkSession(fork("nosuch", "b")))).reason == "SESSION_NOT_FOUND"
    assert (await refusal(stub.ForkSession(fork("a", "b", 99)))).reason == "EVENT_NOT_FOUND"
    assert (await refusal(stub.ForkSession(fork("a", "b", -1)))).reason == "FIELD_INVALID"
    other = session_pb2.ForkOrigin(session=name("a"), session_uid="another")
    based = pb.CreateSessionRequest(parent="bots/main", session_id="b", based_on=other)
    assert (await refusal(stub.CreateSession(based))).reason == "TRANSCRIPT_NOT_FOUND"
    foreign = pb.ForkSessionRequest(source=name("theirs", "helper"), target=pb.CreateSessionRequest(session_id="b"))
    assert (await refusal(world.stub("bots/main").ForkSession(foreign))).reason == "SESSION_NOT_FOUND"
    await stub.DeleteSession(pb.DeleteSessionRequest(name=name("a")))
    assert (await refusal(stub.ForkSession(fork("a", "b")))).reason == "SESSION_DELETED"


async def two_sessions(world, stub) -> None:
    await create(stub, "a")
    await create(stub, "b")
    for number in range(3):
        for session in ("a", "b"):
            await append_to(stub, name(session), message(str(number), f"{session}{number}"))
            world.clock.advance(timedelta(seconds=1))


async def test_merged_turns_stand_in_order_of_time_and_name_their_originals(world):
    stub = world.stub()
    await two_sessions(world, stub)
    merged = await merge(stub, "both", "b", "a")
    assert (merged.event_count, merged.session.message_count) == (6, 6)
    assert await said(stub, "both") == ["a0", "b0", "a1", "b1", "a2", "b2"]
    events = await log(stub, "both")
    assert [event.origin.session for event in events[1:7]] == [name("a"), name("b")] * 3
    assert list(events[-1].session_merged.sources) == [name("a"), name("b")]
    assert await said(stub, "a") == ["a0", "a1", "a2"]


async def test_a_merge_does_not_depend_on_the_order_of_its_sources_and_happens_once(world):
    stub = world.stub()
    await two_sessions(world, stub)
    await merge(stub, "one", "a", "b")
    await merge(stub, "two", "b", "a")
    one, two = await log(stub, "one", kinds=["message"]), await log(stub, "two", kinds=["message"])
    assert [(event.id, event.message, event.origin) for event in one] == [
        (event.id, event.message, event.origin) for event in two
    ]
    assert (await merge(stub, "one", "a", "b")).event_count == 0
    await append_to(stub, name("a"), message("late", "a3"))
    assert (await merge(stub, "one", "a", "b")).event_count == 1
    assert await said(stub, "one") == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]


async def test_merging_forks_of_one_session_takes_what_they_share_once(world):
    stub = world.stub()
    await create(stub, "a")
    await append_to(stub, name("a"), message("1", "shared"))
    await stub.ForkSession(fork("a", "left"))
    await stub.ForkSession(fork("a", "right"))
    await append_to(stub, name("left"), message("2", "left"))
    await append_to(stub, name("right"), message("2", "right"))
    await merge(stub, "both", "left", "right")
    assert await said(stub, "both") == ["shared", "left", "right"]
    assert (await merge(stub, "a", "left", "right")).event_count == 2
    assert await said(stub, "a") == ["shared", "left", "right"]


async def test_wrong_merges(world):
    stub = world.stub()
    await two_sessions(world, stub)
    await create(stub, "busy")
    await append_to(stub, name("busy"), started("r"))
    assert (await refusal(merge(stub, "t", "a"))).reason == "FIELD_INVALID"
    assert (await refusal(merge(stub, "a", "a", "b"))).reason == "FIELD_INVALID"
    assert (await refusal(merge(stub, "t", "a", "nosuch"))).reason == "SESSION_NOT_FOUND"
    assert (await refusal(merge(stub, "busy", "a", "b"))).reason == "SESSION_BUSY"
    assert (await refusal(merge(world.stub("bots/helper"), "t", "a", "b"))).reason == "SESSION_NOT_FOUND"
    await stub.ArchiveSession(pb.ArchiveSessionRequest(name=name("busy")))
    assert (await refusal(merge(stub, "busy", "a", "b"))).reason == "SESSION_ARCHIVED"


async def test_copies_are_found_but_not_paid_for_twice(world):
    stub = world.stub()
    await create(stub, "a")
    usage = part_pb2.Usage(input_tokens=10)
    await append_to(stub, name("a"), message("1", "zebra", usage=usage))
    await stub.ForkSession(fork("a", "b"))
    summary = await stub.GetUsageSummary(pb.GetUsageSummaryRequest())
    assert (summary.total.input_tokens, summary.sum.message_count) == (10, 1)


async def test_a_session_that_took_turns_in_goes_on_behind_them(world):
    """Its writer had it in mind as it was before the merge."""
    stub = world.stub()
    await conversation(stub, "a")
    await create(stub, "b")
    await create(stub, "c")
    await append_to(stub, name("b"), message("first", "first"))
    merged = (await merge(stub, "b", "a", "c")).session
    answer = await append_to(stub, name("b"), message("second", "second"))
    assert list(answer.sequences) == [merged.last_sequence + 1]
    sequences = [event.sequence for event in await log(stub, "b")]
    assert sequences == list(range(1, len(sequences) + 1))
