"""Appending: sequences, duplicates, fencing, ensured sessions, and outcomes that do not hinder one another."""

import asyncio

import pytest
from session_world import SECRET, append, append_to, create, finished, message, name, pb, refusal, started

from chassis.channel import Dialer
from chassis.identity import mint_token
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2_grpc


async def batch(stub, *appends, return_sessions=False):
    request = pb.BatchAppendEventsRequest(appends=appends, return_sessions=return_sessions)
    return (await stub.BatchAppendEvents(request)).outcomes


async def test_events_get_gap_free_sequences_and_the_session_comes_back(stub):
    session = await create(stub, "a")
    response = await append_to(stub, session.name, message("m1", "one\n two"), message("m2", "three", role=2))
    assert (list(response.sequences), list(response.duplicates)) == ([2, 3], [False, False])
    assert (response.session.last_sequence, response.session.message_count) == (3, 2)
    log = await stub.ListEvents(pb.ListEventsRequest(parent=session.name, filter=pb.EventFilter(kinds=["message"])))
    event = log.events[0]
    assert (event.id, event.session, event.session_uid, event.actor) == (
        "m1",
        session.name,
        session.uid,
        "operators/root",
    )
    assert event.HasField("create_time")
    assert event.message.parts[0].text == "one\n two"


async def test_the_same_event_is_answered_and_not_appended_again(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1"), started("r1"))
    again = await append_to(stub, session.name, message("m1", "reworded"), started("r1"), message("m2"))
    assert (list(again.sequences), list(again.duplicates)) == ([2, 3, 4], [True, True, False])
    assert again.session.message_count == 2
    event = (await stub.GetEvent(pb.GetEventRequest(session=session.name, id="m1"))).event
    assert event.message.parts[0].text == "hello"


async def test_an_event_id_is_not_used_for_another_event(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1"))
    for event in (message("m1", run="r1"), event_pb2.Event(id="m1", summary=event_pb2.SummaryAppended(text="s"))):
        error = await refusal(append_to(stub, session.name, message("new"), event))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "EVENT_ID_REUSED")
        assert error.metadata == {"event_id": "m1"}
    assert (await stub.GetSession(pb.GetSessionRequest(name=session.name))).session.last_sequence == 2


async def test_a_stale_epoch_writes_nothing_and_a_newer_one_raises_the_mark(stub):
    session = await create(stub, "a")
    assert (await append_to(stub, session.name, message("m1"), epoch=5)).session.epoch == 5
    error = await refusal(append_to(stub, session.name, message("m2"), epoch=4))
    assert (error.code, error.reason) == ("ABORTED", "FENCED")
    assert error.metadata == {"session": session.name, "epoch": "4", "mark": "5"}
    error = await refusal(append_to(stub, session.name, message("m1"), epoch=4))
    assert error.reason == "FENCED"
    assert (await append_to(stub, session.name, message("m1"), epoch=6)).session.epoch == 6
    after = (await append_to(stub, session.name, message("m3"))).session
    assert (after.epoch, after.last_sequence) == (6, 3)


async def test_an_append_for_another_transcript_is_refused(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1"), uid=session.uid)
    await stub.ResetSession(pb.ResetSessionRequest(name=session.name))
    error = await refusal(append_to(stub, session.name, message("m2"), uid=session.uid))
    assert (error.code, error.reason) == ("ABORTED", "SESSION_CHANGED")


async def test_a_missing_session_is_refused_or_ensured(world, stub):
    error = await refusal(append_to(stub, name("a"), message("m1")))
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    made = (await append_to(stub, name("a"), message("m1"), ensure=True)).session
    assert (made.created_via, made.created_by, made.last_sequence) == ("mail", "operators/root", 2)
    error = await refusal(append_to(stub, name("a", "nosuch"), message("m1"), ensure=True))
    assert error.reason == "BOT_NOT_FOUND"
    asked = world.registry.asked
    await append_to(world.stub("services/router"), name("b", "nosuch"), message("m1"), ensure=True)
    assert world.registry.asked == asked


async def test_a_batch_reaches_many_sessions_with_an_outcome_for_each(stub):
    await create(stub, "a")
    await create(stub, "locked")
    await append_to(stub, name("locked"), message("x"), epoch=9)
    outcomes = await batch(
        stub,
        append(name("a"), message("m1")),
        append(name("missing"), message("m1")),
        append(name("locked"), message("m1"), epoch=1),
        append(name("new"), message("m1"), ensure=True),
        append(name("a"), message("m2"), message("m1")),
        append("bots/../x", message("m1")),
        append(name("a"), message("")),
        return_sessions=True,
    )
    assert [list(outcome.sequences) for outcome in outcomes] == [[2], [], [], [2], [3, 2], [], []]
    assert [outcome.refusal.reason for outcome in outcomes] == [
        "",
        "SESSION_NOT_FOUND",
        "FENCED",
        "",
        "",
        "RESOURCE_NAME_INVALID",
        "FIELD_INVALID",
    ]
    assert [outcome.refusal.code for outcome in outcomes] == [0, 5, 10, 0, 0, 3, 3]
    assert outcomes[2].refusal.metadata["mark"] == "9"
    assert outcomes[4].session.last_sequence == 3
    assert list(outcomes[4].duplicates) == [False, True]


async def test_an_append_is_all_or_nothing(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1"))
    refused = await batch(stub, append(session.name, message("m2"), started("m"), message("m1", run="other")))
    assert refused[0].refusal.reason == "EVENT_ID_REUSED"
    assert (await stub.GetSession(pb.GetSessionRequest(name=session.name))).session.last_sequence == 2


async def test_one_run_ends_and_the_next_begins_in_one_batch(stub):
    await create(stub, "a")
    await append_to(stub, name("a"), message("message/1", run="r1"), started("r1"), epoch=1)
    outcomes = await batch(
        stub,
        append(name("a"), finished("r1")),
        append(name("a"), message("message/2", run="r2"), started("r2"), epoch=2),
        return_sessions=True,
    )
    session = outcomes[1].session
    assert (list(session.active_runs), session.last_run.run, session.epoch) == (["r2"], "r2", 2)
    assert session.status == session_pb2.SESSION_STATUS_RUNNING


async def test_concurrent_appends_leave_no_gap(stub):
    await create(stub, "a")
    responses = await asyncio.gather(*(append_to(stub, name("a"), message(f"m{n}")) for n in range(50)))
    assert sorted(sequence for response in responses for sequence in response.sequences) == list(range(2, 52))


async def test_root_names_another_actor_and_others_cannot(world, stub):
    await create(stub, "a")
    event = message("m1")
    event.actor = "bots/other"
    event.sequence = 77
    event.session = "nonsense"
    await append_to(stub, name("a"), event)
    event.id = "m2"
    await append_to(world.stub("bots/main"), name("a"), event)
    read = [(await stub.GetEvent(pb.GetEventRequest(session=name("a"), sequence=n))).event for n in (2, 3)]
    assert [event.actor for event in read] == ["bots/other", "bots/other"]
    assert [(event.sequence, event.session) for event in read] == [(2, name("a")), (3, name("a"))]


async def test_the_caller_of_a_token_of_its_own_is_the_actor(world):
    await create(world.stub(), "a")
    token = mint_token(SECRET, "bots/main")
    dialer = Dialer({"session": "local:"}, token=token, actor=None)
    dialer.add_handlers(world.host.local_handlers)
    stub = session_service_pb2_grpc.SessionServiceStub(dialer.dial("session"))
    event = message("m1")
    event.actor = "operators/root"
    await append_to(stub, name("a"), event)
    assert (await stub.GetEvent(pb.GetEventRequest(session=name("a"), id="m1"))).event.actor == "bots/main"
    await dialer.close()


def _event(**payload):
    return event_pb2.Event(id="x", **payload)


def _message(**fields):
    return _event(message=event_pb2.MessageAppended(**({"role": 1, "parts": [part_pb2.Part(text="x")]} | fields)))


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (_event(), "append.events"),
        (_event(session_reset=event_pb2.SessionReset()), "append.events"),
        (event_pb2.Event(id="", message=_message().message), "append.events.id"),
        (event_pb2.Event(id="x" * 257, message=_message().message), "append.events.id"),
        (event_pb2.Event(id="a\nb", message=_message().message), "append.events.id"),
        (event_pb2.Event(id="session/9", message=_message().message), "append.events.id"),
        (event_pb2.Event(id="x", run="r\0", message=_message().message), "append.events.run"),
        (_message(role=0), "append.events.message.role"),
        (_message(parts=[]), "append.events.message.parts"),
        (_message(parts=[part_pb2.Part()]), "append.events.message.parts"),
        (_message(parts=[part_pb2.Part(text="a\0b")]), "append.events.message.parts.text"),
        (_message(parts=[part_pb2.Part(text="x" * (1 << 20 | 1))]), "append.events.message.parts.text"),
        (_message(parts=[part_pb2.Part(text="x")] * 65), "append.events.message.parts"),
        (_message(source="x" * 513), "append.events.message"),
        (_message(metadata={"x" * 65: ""}), "append.events.message.metadata"),
        (_event(run_started=event_pb2.RunStarted(attempt=1)), "append.events.run"),
        (_event(run_finished=event_pb2.RunFinished()), "append.events.run"),
        (_event(tool_called=event_pb2.ToolCalled(tool="x" * 129)), "append.events.tool_called.tool"),
        (_event(summary=event_pb2.SummaryAppended(text="x" * (256 * 1024 + 1))), "append.events.summary.text"),
    ],
)
async def test_events_that_break_a_rule_are_refused(stub, event, field):
    await create(stub, "a")
    error = await refusal(append_to(stub, name("a"), event))
    assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "FIELD_INVALID", field)


async def test_empty_and_doubled_appends_are_refused(stub):
    await create(stub, "a")
    assert (await refusal(append_to(stub, name("a")))).metadata["field"] == "append.events"
    doubled = append_to(stub, name("a"), message("m1"), message("m1"))
    assert (await refusal(doubled)).metadata["field"] == "append.events.id"
    error = await refusal(stub.BatchAppendEvents(pb.BatchAppendEventsRequest()))
    assert error.metadata["field"] == "appends"


async def test_a_large_message_survives(stub):
    await create(stub, "a")
    text = "long " * 180_000
    await append_to(stub, name("a"), message("m1", text))
    assert (await stub.GetEvent(pb.GetEventRequest(session=name("a"), id="m1"))).event.message.parts[0].text == text
