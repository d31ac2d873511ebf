"""Creating sessions: ids, fields, conflicts, labels, and the guard on the way."""

import pytest
from session_world import append_to, create, finished, message, name, pb, refusal, started

from mobot.session.v1 import part_pb2, session_pb2


def creation(session_id="", policy=pb.CONFLICT_POLICY_FAIL, bot="main", request_id="", **fields):
    return pb.CreateSessionRequest(
        parent=f"bots/{bot}",
        session_id=session_id,
        session=session_pb2.Session(**fields),
        conflict_policy=policy,
        request_id=request_id,
    )


async def test_a_created_session_has_its_key_its_origin_and_an_event_in_its_log(stub):
    response = await stub.CreateSession(
        creation("notes", label="Notes", user_created=True, tags=["a", "b"], pinned=True, overrides={"x": "1"})
    )
    session = response.session
    assert response.created
    assert session.key == "agent:main:notes"
    assert (session.label, session.user_created, session.created_by) == ("Notes", True, "operators/root")
    assert (session.created_via, list(session.tags), session.pinned) == ("operator", ["a", "b"], True)
    assert (session.state, session.status) == (session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATUS_IDLE)
    assert session.HasField("pin_time")
    log = await stub.ListEvents(pb.ListEventsRequest(parent=session.name))
    assert [event.WhichOneof("payload") for event in log.events] == ["session_created"]
    assert log.events[0].session_created.session.label == "Notes"
    assert (log.events[0].sequence, log.events[0].session_uid, session.last_sequence) == (1, session.uid, 1)


async def test_an_id_is_generated_when_none_is_given(stub):
    first = (await stub.CreateSession(creation())).session
    second = (await stub.CreateSession(creation())).session
    assert first.name.startswith("bots/main/sessions/dashboard:")
    assert first.name != second.name


async def test_an_existing_session_is_refused_used_or_replaced(stub):
    first = await create(stub, "work", label="Old")
    await append_to(stub, first.name, message("m1"))
    error = await refusal(stub.CreateSession(creation("work")))
    assert (error.code, error.reason, error.metadata["session"]) == (
        "ALREADY_EXISTS",
        "SESSION_ALREADY_EXISTS",
        first.name,
    )
    used = await stub.CreateSession(creation("work", pb.CONFLICT_POLICY_USE_EXISTING, label="New"))
    assert (used.created, used.session.uid, used.session.label) == (False, first.uid, "Old")
    replaced = await stub.CreateSession(creation("work", pb.CONFLICT_POLICY_REPLACE, label="New"))
    assert not replaced.created
    assert (replaced.session.label, replaced.session.previous_uid) == ("New", first.uid)
    assert replaced.session.message_count == 0


async def test_replacing_a_persistent_session_is_refused_and_appends_nothing(stub):
    first = await create(stub, "kept", label="Kept", persistent=True)
    error = await refusal(stub.CreateSession(creation("kept", pb.CONFLICT_POLICY_REPLACE)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_PERSISTENT")
    assert (await stub.GetSession(pb.GetSessionRequest(name=first.name))).session == first


async def test_replacing_an_archived_session_that_is_persistent_leaves_it_in_the_archive(stub):
    await create(stub, "a", label="A", persistent=True)
    archived = (await stub.ArchiveSession(pb.ArchiveSessionRequest(name=name("a")))).session
    request = pb.CreateSessionRequest(
        parent="bots/main", session_id="a", conflict_policy=pb.CONFLICT_POLICY_REPLACE, session=session_pb2.Session()
    )
    assert (await refusal(stub.CreateSession(request))).reason == "SESSION_PERSISTENT"
    assert (await stub.GetSession(pb.GetSessionRequest(name=name("a")))).session == archived
    log = await stub.ListEvents(pb.ListEventsRequest(parent=name("a")))
    assert [event.sequence for event in log.events] == list(range(1, archived.last_sequence + 1))


async def test_a_deleted_session_is_not_created_again(stub):
    session = await create(stub, "gone")
    await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name))
    for policy in (pb.CONFLICT_POLICY_FAIL, pb.CONFLICT_POLICY_USE_EXISTING, pb.CONFLICT_POLICY_REPLACE):
        error = await refusal(stub.CreateSession(creation("gone", policy)))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_DELETED")


async def test_a_repeated_request_id_gets_the_first_answer(stub):
    request = creation("once", label="Once", request_id="r-1")
    first = await stub.CreateSession(request)
    await stub.UpdateSession(pb.UpdateSessionRequest(session=session_pb2.Session(name=first.session.name, icon="x")))
    assert await stub.CreateSession(request) == first
    error = await refusal(stub.CreateSession(creation("twice", request_id="r-1")))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_labels_are_unique_within_a_bot_whatever_their_case(stub):
    first = await create(stub, "a", label="Budget")
    error = await refusal(stub.CreateSession(creation("b", label="  bUDGET ")))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "LABEL_IN_USE")
    assert error.metadata == {"label": "bUDGET", "session": first.name}
    await create(stub, "b", bot="helper", label="Budget")


@pytest.mark.parametrize("label", ["Bud\u200bget", "\u202eBudget", "Bud\nget", "Bud\u00adget"])
async def test_labels_with_characters_that_cannot_be_seen_are_refused(stub, label):
    error = await refusal(stub.CreateSession(creation("a", label=label)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "LABEL_CONFUSABLE")
    assert error.metadata["code_point"].startswith("U+")


async def test_a_persistent_session_needs_a_label(stub):
    error = await refusal(stub.CreateSession(creation("a", persistent=True)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "LABEL_REQUIRED")


async def test_an_unknown_bot_is_refused_and_a_new_one_is_known_at_once(world, stub):
    error = await refusal(stub.CreateSession(creation("a", bot="nosuch")))
    assert (error.code, error.reason, error.metadata) == ("NOT_FOUND", "BOT_NOT_FOUND", {"bot": "bots/nosuch"})
    world.registry.bots.add("nosuch")
    await create(stub, "a", bot="nosuch")


async def test_unknown_templates_are_refused(stub):
    request = creation("a")
    request.template = "templates/x"
    error = await refusal(stub.CreateSession(request))
    assert (error.code, error.reason) == ("NOT_FOUND", "TEMPLATE_NOT_FOUND")


async def test_a_child_knows_its_ancestors(stub):
    root = await create(stub, "root")
    child = await create(stub, "child", parent=root.name, created_via="spawn")
    grandchild = await create(stub, "grandchild", parent=child.name, created_via="spawn")
    assert (list(grandchild.lineage), grandchild.spawn_depth) == ([root.name, child.name], 2)
    assert grandchild.created_via == "spawn"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": "x" * 501}, "session.display_name"),
        ({"description": "x" * 4097}, "session.description"),
        ({"tags": ["x"] * 2 + [str(n) for n in range(33)]}, "session.tags"),
        ({"tags": ["x" * 65]}, "session.tags"),
        ({"group": "x" * 129}, "session.group"),
        ({"color": "red\0"}, "session.color"),
        ({"created_via": "magic"}, "session.created_via"),
        ({"label": "x" * 513}, "session.label"),
        ({"overrides": {"x" * 65: ""}}, "session.overrides"),
        ({"overrides": {str(n): "" for n in range(65)}}, "session.overrides"),
    ],
)
async def test_fields_that_break_a_rule_are_named(stub, fields, field):
    error = await refusal(stub.CreateSession(creation("a", **fields)))
    assert (error.code, error.reason, error.metadata["field"]) == ("INVALID_ARGUMENT", "FIELD_INVALID", field)
    assert error.violations[0].field == field


@pytest.mark.parametrize("session_id", ["../x", "a/b", "a..b", "аb", "x" * 257, "-x", "a b", "a\0b"])  # noqa: RUF001
async def test_malformed_ids_are_refused(stub, session_id):
    error = await refusal(stub.CreateSession(creation(session_id)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "RESOURCE_NAME_INVALID")


async def test_the_row_follows_the_runs(stub):
    session = await create(stub, "runs")
    running = (await append_to(stub, session.name, message("message/1", run="r1"), started("r1"))).session
    assert (running.status, list(running.active_runs)) == (session_pb2.SESSION_STATUS_RUNNING, ["r1"])
    assert running.last_run.run == "r1"
    assert not running.last_run.HasField("end_time")
    usage = part_pb2.Usage(input_tokens=10, output_tokens=5, request_count=1)
    failed = finished("r1", session_pb2.RUN_OUTCOME_FAILED, error_message="no model", usage=usage)
    after = (await append_to(stub, session.name, failed)).session
    assert (after.status, list(after.active_runs)) == (session_pb2.SESSION_STATUS_FAILED, [])
    assert (after.last_run.outcome, after.last_run.error_message) == (session_pb2.RUN_OUTCOME_FAILED, "no model")
    assert after.last_run.HasField("end_time")
    assert after.usage == usage
