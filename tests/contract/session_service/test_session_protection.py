"""One guard before every way to lose a context, what the operator may decide, and the ways back."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from session_world import World, append_to, create, finished, message, name, pb, refusal

from mobot.session.v1 import event_pb2, part_pb2, session_pb2


@pytest.fixture
async def ruled(sqlite_url, tmp_path):
    """Makes services with settings of their own."""
    worlds = []

    async def make(**settings):
        world = World(sqlite_url, data_dir=tmp_path, **settings)
        await world.start()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.stop()


def named(session_id, label, *, actor_made=True, **fields):
    return pb.CreateSessionRequest(
        parent="bots/main",
        session_id=session_id,
        session=session_pb2.Session(label=label, user_created=actor_made, **fields),
    )


def successor(parent, **fields):
    session = session_pb2.Session(parent=parent)
    return pb.CreateSessionRequest(parent="bots/main", session=session, succeeds_parent=True, **fields)


async def relabel(stub, session, label):
    request = pb.UpdateSessionRequest(
        session=session_pb2.Session(name=session, label=label), update_mask=FieldMask(paths=["label"])
    )
    return await stub.UpdateSession(request)


async def texts(stub, session, **which):
    request = pb.ListEventsRequest(parent=session, filter=pb.EventFilter(kinds=["message"], **which))
    return [event.message.parts[0].text for event in (await stub.ListEvents(request)).events]


async def test_nobody_is_asked_to_confirm_the_deletion_of_a_main_session(stub):
    session = await create(stub, "main", label="Main", persistent=True)
    error = await refusal(stub.DeleteSession(pb.DeleteSessionRequest(name=session.name)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_IS_MAIN")


async def test_a_persistent_session_is_deleted_only_with_its_uid(stub):
    session = await create(stub, "a", label="Budget", persistent=True)
    error = await refusal(stub.DeleteSession(pb.DeleteSessionRequest(name=session.name)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "CONFIRMATION_REQUIRED")
    assert error.metadata["field"] == "expected_uid"
    error = await refusal(stub.DeleteSession(pb.DeleteSessionRequest(name=session.name, expected_uid="other")))
    assert error.reason == "SESSION_CHANGED"
    await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name, expected_uid=session.uid))
    events = (await stub.ListEvents(pb.ListEventsRequest(parent=session.name))).events
    assert [event.WhichOneof("payload") for event in events][-2:] == ["session_archived", "session_deleted"]
    assert events[-2].session_archived.reason == "deleted"


async def test_every_way_to_lose_a_protected_context_meets_the_guard(stub):
    session = await create(stub, "a", label="Budget", persistent=True)
    await append_to(stub, session.name, message("m1"))
    replace = pb.CreateSessionRequest(parent="bots/main", session_id="a", conflict_policy=pb.CONFLICT_POLICY_REPLACE)
    for call in (
        stub.ResetSession(pb.ResetSessionRequest(name=session.name)),
        stub.ResetSession(pb.ResetSessionRequest(name=session.name, reason="daily")),
        stub.ResetSession(pb.ResetSessionRequest(name=session.name, validate_only=True)),
        stub.CreateSession(replace),
        stub.CreateSession(successor(session.name)),
        stub.CreateSession(successor(session.name, based_on=session_pb2.ForkOrigin(session=session.name))),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_PERSISTENT")
        assert error.metadata["label"] == "Budget"
    assert await texts(stub, session.name) == ["hello"]


async def test_an_unprotected_parent_is_succeeded_and_a_missing_or_deleted_one_is_no_hindrance(stub):
    parent = await create(stub, "a")
    made = (await stub.CreateSession(successor(parent.name))).session
    assert made.parent == parent.name
    kept = await create(stub, "b", label="Kept", persistent=True)
    await stub.DeleteSession(pb.DeleteSessionRequest(name=kept.name, expected_uid=kept.uid))
    for absent in (kept.name, name("never")):
        assert (await stub.CreateSession(successor(absent))).created
    # Another session may have a protected parent, as long as it does not take its place.
    protected = await create(stub, "c", label="Protected", persistent=True)
    child = pb.CreateSessionRequest(parent="bots/main", session=session_pb2.Session(parent=protected.name))
    assert (await stub.CreateSession(child)).session.lineage == [protected.name]


async def test_a_reset_that_is_only_checked_changes_nothing(stub):
    session = await create(stub, "a")
    checked = await stub.ResetSession(pb.ResetSessionRequest(name=session.name, validate_only=True))
    assert checked.session == session
    error = await refusal(
        stub.ResetSession(pb.ResetSessionRequest(name=session.name, validate_only=True, restore_uid="none"))
    )
    assert error.reason == "TRANSCRIPT_NOT_FOUND"


async def test_an_old_transcript_is_read_gone_back_to_and_left_again(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1", "first"))
    usage = part_pb2.Usage(input_tokens=7)
    await append_to(stub, session.name, finished("r1", usage=usage))
    summary = event_pb2.Event(id="s1", summary=event_pb2.SummaryAppended(text="all", through_sequence=2))
    await append_to(stub, session.name, summary)
    fresh = (await stub.ResetSession(pb.ResetSessionRequest(name=session.name))).session
    await append_to(stub, session.name, message("m2", "second"))
    assert await texts(stub, session.name) == ["second"]
    assert await texts(stub, session.name, session_uid=session.uid) == ["first"]

    back = pb.ResetSessionRequest(name=session.name, restore_uid=session.uid, expected_uid=fresh.uid)
    restored = (await stub.ResetSession(back)).session
    assert (restored.uid, restored.previous_uid, restored.message_count) == (session.uid, fresh.uid, 1)
    assert restored.usage.input_tokens == 7
    await append_to(stub, session.name, message("m3", "third"))
    assert await texts(stub, session.name) == ["first", "third"]
    turn = await stub.GetTurnContext(pb.GetTurnContextRequest(session=session.name, run="r2"))
    assert turn.summary.summary.text == "all"
    assert [event.id for event in turn.events] == ["m3"]
    log = await stub.ListEvents(pb.ListEventsRequest(parent=session.name, filter=pb.EventFilter(session_uid="*")))
    assert [event.sequence for event in log.events] == list(range(1, len(log.events) + 1))
    assert [event.session_reset.restored for event in log.events if event.HasField("session_reset")] == [False, True]

    again = await stub.ResetSession(pb.ResetSessionRequest(name=session.name, restore_uid=fresh.uid))
    assert again.session.uid == fresh.uid
    assert await texts(stub, session.name) == ["second"]


async def test_only_a_former_transcript_of_the_session_can_be_gone_back_to(stub):
    session = await create(stub, "a")
    other = await create(stub, "b")
    for uid in ("none", other.uid, session.uid):
        error = await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name, restore_uid=uid)))
        assert (error.code, error.reason) == ("NOT_FOUND", "TRANSCRIPT_NOT_FOUND")
    await stub.ResetSession(pb.ResetSessionRequest(name=session.name))
    await stub.UpdateSession(
        pb.UpdateSessionRequest(session=session_pb2.Session(name=session.name, label="A", persistent=True))
    )
    error = await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name, restore_uid=session.uid)))
    assert error.reason == "SESSION_PERSISTENT"


async def test_main_sessions_can_be_protected(ruled):
    stub = (await ruled(protect_main_session=True)).stub()
    main = await create(stub, "main")
    replace = pb.CreateSessionRequest(parent="bots/main", session_id="main", conflict_policy=pb.CONFLICT_POLICY_REPLACE)
    for call in (
        stub.ResetSession(pb.ResetSessionRequest(name=main.name)),
        stub.CreateSession(replace),
        stub.CreateSession(successor(main.name)),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_IS_MAIN")
    other = await create(stub, "other")
    assert (await stub.ResetSession(pb.ResetSessionRequest(name=other.name))).session.uid != other.uid


async def test_sessions_that_people_name_can_be_persistent_from_the_start(ruled):
    stub = (await ruled(default_persistent=True)).stub()
    assert (await stub.CreateSession(named("a", "A"))).session.persistent
    assert not (await stub.CreateSession(named("b", ""))).session.persistent
    assert not (await stub.CreateSession(named("c", "C", actor_made=False))).session.persistent


async def test_with_named_sessions_off_what_has_a_name_goes_on_and_nothing_new_gets_one(ruled):
    world = await ruled()
    session = (await world.stub().CreateSession(named("a", "A", persistent=True))).session
    plain = await create(world.stub(), "b")
    await world.stop()
    stub = (await ruled(named_sessions_enabled=False)).stub()
    for call in (stub.CreateSession(named("c", "C")), relabel(stub, plain.name, "B")):
        error = await refusal(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "NAMED_SESSIONS_DISABLED")
    assert (await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name)))).reason == "SESSION_PERSISTENT"
    assert (await relabel(stub, session.name, "A2")).session.label == "A2"
    assert (await stub.CreateSession(named("d", ""))).created


async def test_the_cap_refuses_and_evicts_nothing(ruled):
    world = await ruled(max_named_sessions=2)
    stub = world.stub()
    first = (await stub.CreateSession(named("a", "A"))).session
    await stub.CreateSession(named("b", "B"))
    plain = (await stub.CreateSession(named("c", ""))).session
    for call in (stub.CreateSession(named("d", "D")), relabel(stub, plain.name, "C")):
        error = await refusal(call)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "SESSION_CAP_REACHED")
        assert error.metadata["limit"] == "2"
        assert error.quota[0].field == "named sessions of operators/root"
    # Others have caps of their own, and what no person made does not count.
    await world.stub("operators/ann").CreateSession(named("e", "E"))
    await stub.CreateSession(named("f", "F", actor_made=False))
    # Archiving one makes room; it cannot come back while there is none.
    await stub.ArchiveSession(pb.ArchiveSessionRequest(name=first.name))
    await relabel(stub, plain.name, "C")
    error = await refusal(stub.UnarchiveSession(pb.UnarchiveSessionRequest(name=first.name)))
    assert error.reason == "SESSION_CAP_REACHED"
    await stub.DeleteSession(pb.DeleteSessionRequest(name=plain.name))
    assert (await stub.UnarchiveSession(pb.UnarchiveSessionRequest(name=first.name))).session.label == "A"
    error = await refusal(stub.UndeleteSession(pb.UndeleteSessionRequest(name=plain.name)))
    assert error.reason == "SESSION_CAP_REACHED"
    assert (await stub.ListSessions(pb.ListSessionsRequest(count_total=True))).total_count == 4


async def test_what_is_written_once_never_changes(stub):
    await create(stub, "root")
    session = (await stub.CreateSession(named("a", "A", created_via="channel", parent=name("root")))).session
    assert (session.created_by, session.created_via, session.parent) == ("operators/root", "channel", name("root"))
    assert list(session.lineage) == [name("root")]
    for path in ("user_created", "created_via", "parent", "template", "fork_origin"):
        request = pb.UpdateSessionRequest(
            session=session_pb2.Session(name=session.name), update_mask=FieldMask(paths=[path])
        )
        error = await refusal(stub.UpdateSession(request))
        assert (error.reason, error.metadata["path"]) == ("FIELD_INVALID", path)
    for path in ("created_by", "lineage", "create_time"):
        request = pb.UpdateSessionRequest(
            session=session_pb2.Session(name=session.name, created_by="x"), update_mask=FieldMask(paths=[path])
        )
        await stub.UpdateSession(request)
    assert (await stub.GetSession(pb.GetSessionRequest(name=session.name))).session == session


async def test_a_summary_that_claims_to_cover_the_future_hides_nothing(stub):
    session = await create(stub, "a")
    summary = event_pb2.Event(id="s1", summary=event_pb2.SummaryAppended(text="all", through_sequence=1_000))
    await append_to(stub, session.name, message("m1"), summary, message("m2"))
    turn = await stub.GetTurnContext(pb.GetTurnContextRequest(session=session.name, run="r"))
    assert [event.id for event in turn.events] == ["m2"]
    assert await texts(stub, session.name) == ["hello", "hello"]


async def test_a_successor_names_whom_it_succeeds(ruled):
    stub = (await ruled()).stub()
    error = await refusal(stub.CreateSession(successor("")))
    assert (error.reason, error.metadata["field"]) == ("FIELD_INVALID", "session.parent")
    assert not (await stub.ListSessions(pb.ListSessionsRequest())).sessions
