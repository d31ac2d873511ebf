"""Updating, resetting, archiving, deleting: masks, etags, expected uids, and the one guard."""

from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from session_world import append_to, create, finished, message, name, pb, refusal, started, watch

from mobot.session.v1 import session_pb2


def update(session_name, mask=None, *, uid="", missing=False, request_id="", **fields):
    return pb.UpdateSessionRequest(
        session=session_pb2.Session(name=session_name, **fields),
        update_mask=None if mask is None else FieldMask(paths=mask),
        expected_uid=uid,
        allow_missing=missing,
        request_id=request_id,
    )


async def changed(stub, *args, **kwargs) -> session_pb2.Session:
    return (await stub.UpdateSession(update(*args, **kwargs))).session


async def get(stub, session_name) -> session_pb2.Session:
    return (await stub.GetSession(pb.GetSessionRequest(name=session_name))).session


async def test_an_update_changes_what_its_mask_names(stub):
    before = await create(stub, "a", label="A", description="first", icon="x")
    after = await changed(stub, before.name, ["description", "icon"], description="second", label="ignored")
    assert (after.label, after.description, after.icon) == ("A", "second", "")
    assert after.etag != before.etag
    log = await stub.ListEvents(pb.ListEventsRequest(parent=before.name))
    assert list(log.events[-1].session_updated.paths) == ["description", "icon"]


async def test_without_a_mask_everything_that_is_set_changes(stub):
    before = await create(stub, "a", label="A", description="first")
    after = await changed(stub, before.name, label="B", pinned=True)
    assert (after.label, after.description, after.pinned) == ("B", "first", True)


async def test_an_update_that_changes_nothing_leaves_etag_and_log_alone(stub):
    before = await create(stub, "a", label="A")
    after = await changed(stub, before.name, ["label"], label="A")
    assert after == before


async def test_overrides_change_key_by_key(stub):
    before = await create(stub, "a", overrides={"x": "1", "y": "2"})
    after = await changed(stub, before.name, ["overrides.x", "overrides.y"], overrides={"x": "9", "z": "3"})
    assert dict(after.overrides) == {"x": "9"}


async def test_an_update_leaves_the_order_by_activity_alone(world, stub):
    before = await create(stub, "a")
    world.clock.advance(timedelta(hours=1))
    after = await changed(stub, before.name, label="A")
    assert after.last_activity_time == before.last_activity_time
    assert after.update_time != before.update_time


@pytest.mark.parametrize("path", ["nonsense", "user_created", "parent", "label.x"])
async def test_paths_that_cannot_change_are_refused(stub, path):
    session = await create(stub, "a")
    error = await refusal(stub.UpdateSession(update(session.name, [path])))
    assert (error.code, error.reason, error.metadata["path"]) == ("INVALID_ARGUMENT", "FIELD_INVALID", path)


async def test_stale_etags_and_uids_are_refused(stub):
    session = await create(stub, "a")
    await changed(stub, session.name, label="A")
    error = await refusal(stub.UpdateSession(update(session.name, label="B", etag=session.etag)))
    assert (error.code, error.reason, error.metadata["etag"]) == ("ABORTED", "ETAG_MISMATCH", "W2")
    error = await refusal(stub.UpdateSession(update(session.name, label="B", uid="someone-else")))
    assert (error.code, error.reason, error.metadata["uid"]) == ("ABORTED", "SESSION_CHANGED", session.uid)
    assert (await changed(stub, session.name, label="B", etag="W2", uid=session.uid)).label == "B"


async def test_a_missing_session_is_refused_or_created(stub):
    error = await refusal(stub.UpdateSession(update(name("a"), label="A")))
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert (await changed(stub, name("a"), label="A", missing=True)).label == "A"


async def test_labels_stay_unique_and_persistent_sessions_keep_theirs(stub):
    one = await create(stub, "one", label="One")
    two = await create(stub, "two", label="Two", persistent=True)
    error = await refusal(stub.UpdateSession(update(two.name, label="one")))
    assert (error.code, error.reason, error.metadata["session"]) == ("ALREADY_EXISTS", "LABEL_IN_USE", one.name)
    error = await refusal(stub.UpdateSession(update(two.name, ["label"])))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "LABEL_REQUIRED")


async def test_reading_and_marking_unread_leave_their_times(stub):
    session = await create(stub, "a")
    unread = await changed(stub, session.name, ["unread"], unread=True)
    assert unread.HasField("mark_unread_time")
    read = await changed(stub, session.name, ["unread"])
    assert read.HasField("last_read_time")
    assert not read.HasField("mark_unread_time")


async def test_a_batch_answers_for_each_of_its_updates(stub):
    one = await create(stub, "one")
    response = await stub.BatchUpdateSessions(
        pb.BatchUpdateSessionsRequest(
            requests=[update(one.name, label="One"), update(name("none"), label="x"), update(one.name, ["nonsense"])]
        )
    )
    assert [outcome.reason for outcome in response.outcomes] == ["", "SESSION_NOT_FOUND", "FIELD_INVALID"]
    assert [outcome.code for outcome in response.outcomes] == [0, 5, 3]
    assert [session.label for session in response.sessions] == ["One"]


async def test_a_reset_begins_a_new_transcript_and_keeps_the_old_one(stub):
    before = await create(stub, "a", label="A")
    await append_to(stub, before.name, message("m1", "old words"))
    after = (await stub.ResetSession(pb.ResetSessionRequest(name=before.name, reason="fresh"))).session
    assert after.uid != before.uid
    assert (after.previous_uid, after.label, after.message_count) == (before.uid, "A", 0)
    assert (after.start_sequence, after.last_sequence) == (2, 3)
    present = await stub.ListEvents(pb.ListEventsRequest(parent=before.name))
    assert [event.WhichOneof("payload") for event in present.events] == ["session_reset"]
    assert (present.events[0].session_reset.previous_uid, present.events[0].session_reset.reason) == (
        before.uid,
        "fresh",
    )
    old = await stub.ListEvents(pb.ListEventsRequest(parent=before.name, filter=pb.EventFilter(session_uid=before.uid)))
    assert [event.id for event in old.events][-1] == "m1"
    whole = await stub.ListEvents(pb.ListEventsRequest(parent=before.name, filter=pb.EventFilter(session_uid="*")))
    assert [event.sequence for event in whole.events] == [1, 2, 3]


async def test_a_persistent_session_is_not_reset_until_it_is_switched_off(stub):
    session = await create(stub, "a", label="A", persistent=True)
    error = await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name)))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_PERSISTENT")
    assert error.metadata == {"session": session.name, "label": "A"}
    assert await get(stub, session.name) == session
    await changed(stub, session.name, ["persistent"])
    assert (await stub.ResetSession(pb.ResetSessionRequest(name=session.name))).session.uid != session.uid


async def test_a_reset_for_another_transcript_or_version_is_refused(stub):
    session = await create(stub, "a")
    error = await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name, expected_uid="x")))
    assert (error.code, error.reason) == ("ABORTED", "SESSION_CHANGED")
    error = await refusal(stub.ResetSession(pb.ResetSessionRequest(name=session.name, etag="W9")))
    assert (error.code, error.reason) == ("ABORTED", "ETAG_MISMATCH")


async def test_a_repeated_reset_happens_once(stub):
    session = await create(stub, "a")
    request = pb.ResetSessionRequest(name=session.name, request_id="r1")
    first = await stub.ResetSession(request)
    assert await stub.ResetSession(request) == first
    assert (await get(stub, session.name)).uid == first.session.uid


async def test_a_deleted_session_can_be_brought_back(world, stub):
    session = await create(stub, "a", label="A")
    deleted = await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name))
    assert (deleted.deleted, deleted.session.state) == (True, session_pb2.SESSION_STATE_DELETED)
    assert deleted.session.purge_time.seconds - deleted.session.delete_time.seconds == 30 * 86_400
    again = await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name))
    assert not again.deleted
    for call in (
        stub.UpdateSession(update(session.name, label="B")),
        stub.ResetSession(pb.ResetSessionRequest(name=session.name)),
        stub.ArchiveSession(pb.ArchiveSessionRequest(name=session.name)),
        stub.UnarchiveSession(pb.UnarchiveSessionRequest(name=session.name)),
        append_to(stub, session.name, message("m1")),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_DELETED")
    back = (await stub.UndeleteSession(pb.UndeleteSessionRequest(name=session.name))).session
    assert (back.state, back.label) == (session_pb2.SESSION_STATE_ACTIVE, "A")
    assert not back.HasField("purge_time")


async def test_a_deleted_sessions_label_is_free_until_it_comes_back(stub):
    first = await create(stub, "a", label="A")
    await stub.DeleteSession(pb.DeleteSessionRequest(name=first.name))
    await create(stub, "b", label="A")
    error = await refusal(stub.UndeleteSession(pb.UndeleteSessionRequest(name=first.name)))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "LABEL_IN_USE")


async def test_deleting_checks_what_the_caller_read_and_what_is_missing(stub):
    session = await create(stub, "a")
    for request, reason in (
        (pb.DeleteSessionRequest(name=session.name, expected_uid="x"), "SESSION_CHANGED"),
        (pb.DeleteSessionRequest(name=session.name, etag="W9"), "ETAG_MISMATCH"),
        (pb.DeleteSessionRequest(name=name("none")), "SESSION_NOT_FOUND"),
    ):
        assert (await refusal(stub.DeleteSession(request))).reason == reason
    missing = await stub.DeleteSession(pb.DeleteSessionRequest(name=name("none"), allow_missing=True))
    assert not missing.deleted
    assert not missing.HasField("session")


async def test_the_main_session_is_neither_deleted_nor_archived(stub):
    session = await create(stub, "main")
    for call in (
        stub.DeleteSession(pb.DeleteSessionRequest(name=session.name)),
        stub.ArchiveSession(pb.ArchiveSessionRequest(name=session.name)),
    ):
        error = await refusal(call)
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_IS_MAIN")


async def test_an_archived_session_is_readable_and_takes_no_events(stub):
    session = await create(stub, "a")
    archived = (await stub.ArchiveSession(pb.ArchiveSessionRequest(name=session.name, reason="old"))).session
    assert archived.state == session_pb2.SESSION_STATE_ARCHIVED
    assert archived.HasField("archive_time")
    error = await refusal(append_to(stub, session.name, message("m1")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_ARCHIVED")
    again = (await stub.ArchiveSession(pb.ArchiveSessionRequest(name=session.name))).session
    assert again == archived
    back = (await stub.UnarchiveSession(pb.UnarchiveSessionRequest(name=session.name))).session
    assert back.state == session_pb2.SESSION_STATE_ACTIVE
    await append_to(stub, session.name, message("m1"))


async def test_a_run_that_was_at_work_may_still_end_in_an_archived_or_deleted_session(stub):
    for put_away in (
        lambda session: stub.ArchiveSession(pb.ArchiveSessionRequest(name=session)),
        lambda session: stub.DeleteSession(pb.DeleteSessionRequest(name=session)),
    ):
        session = await create(stub, f"s{id(put_away)}")
        await append_to(stub, session.name, started("r1"))
        await put_away(session.name)
        assert (await refusal(append_to(stub, session.name, finished("r2")))).code == "FAILED_PRECONDITION"
        ended = await append_to(stub, session.name, finished("r1"))
        assert list(ended.session.active_runs) == []
        assert list((await append_to(stub, session.name, finished("r1"))).duplicates) == [True]


async def test_a_purge_needs_a_deleted_session_and_leaves_nothing(stub):
    session = await create(stub, "a")
    await append_to(stub, session.name, message("m1"))
    request = pb.PurgeSessionRequest(name=session.name, expected_uid=session.uid)
    error = await refusal(stub.PurgeSession(request))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "SESSION_NOT_DELETED")
    await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name))
    assert (await refusal(stub.PurgeSession(pb.PurgeSessionRequest(name=session.name)))).reason == "FIELD_INVALID"
    # Created, said something, archived, deleted.
    assert (await stub.PurgeSession(request)).event_count == 4
    assert (await refusal(stub.GetSession(pb.GetSessionRequest(name=session.name)))).reason == "SESSION_NOT_FOUND"
    fresh = await create(stub, "a")
    assert fresh.last_sequence == 1


async def test_a_token_from_before_a_purge_gets_a_reset_and_the_stream_goes_on(stub):
    session = await create(stub, "a")
    watcher = await watch(stub).caught_up()
    watcher.stop()
    await append_to(stub, session.name, message("m1"))
    await stub.DeleteSession(pb.DeleteSessionRequest(name=session.name))
    await stub.PurgeSession(pb.PurgeSessionRequest(name=session.name, expected_uid=session.uid))
    again = watch(stub, resume_token=watcher.token)
    await again.caught_up()
    assert again.frames[0].reset.message
    await create(stub, "b")
    await again.has(1)
    assert again.events[0].session == name("b")
    again.stop()


async def test_a_purge_does_not_disturb_the_watch_of_another_session(stub):
    for session_id in ("a", "b"):
        await create(stub, session_id)
    watcher = await watch(stub, name("b"), after_sequence=-1).caught_up()
    watcher.stop()
    session = (await stub.DeleteSession(pb.DeleteSessionRequest(name=name("a")))).session
    await stub.PurgeSession(pb.PurgeSessionRequest(name=name("a"), expected_uid=session.uid))
    await append_to(stub, name("b"), message("m1"))
    resumed = await watch(stub, name("b"), resume_token=watcher.token).caught_up()
    whole = await watch(stub, name("b")).caught_up()
    assert (resumed.ids(), whole.ids()) == (["m1"], ["session/1", "m1"])
    for again in (resumed, whole):
        assert not any(frame.HasField("reset") for frame in again.frames)
        again.stop()


async def test_groups_are_known_ordered_renamed_and_removed(stub):
    await create(stub, "a", group="Work")
    await create(stub, "b", group="Home")
    listed = await stub.ListGroups(pb.ListGroupsRequest())
    assert [(group.group, group.session_count) for group in listed.groups] == [("Work", 1), ("Home", 1)]
    updated = await stub.UpdateGroups(
        pb.UpdateGroupsRequest(groups=["Home", "New"], renames={"Work": "Office"}, removals=["Home"])
    )
    assert [group.group for group in updated.groups] == ["Home", "New", "Office"]
    assert (await get(stub, name("a"))).group == "Office"
    assert (await get(stub, name("b"))).group == ""
    page = await stub.ListGroups(pb.ListGroupsRequest(page_size=2))
    rest = await stub.ListGroups(pb.ListGroupsRequest(page_size=2, page_token=page.next_page_token))
    assert [group.group for group in rest.groups] == ["Office"]


async def test_groups_change_their_names_with_each_other(stub):
    for session_id, group in (("a", "One"), ("b", "Two"), ("c", "Three")):
        await create(stub, session_id, group=group)
    renames = {"One": "Two", "Two": "One", "Three": "Four", "Four": "Five"}
    updated = await stub.UpdateGroups(pb.UpdateGroupsRequest(renames=renames))
    assert [(group.group, group.session_count) for group in updated.groups] == [("Two", 1), ("One", 1), ("Four", 1)]
    assert [(await get(stub, name(session_id))).group for session_id in "abc"] == ["Two", "One", "Four"]


@pytest.mark.parametrize("expected", [{"uid": "gone"}, {"etag": "W3"}])
async def test_what_is_expected_to_be_there_is_not_created(stub, expected):
    error = await refusal(stub.UpdateSession(update(name("a"), ["icon"], icon="x", missing=True, **expected)))
    assert error.reason == "SESSION_NOT_FOUND"
    assert (await refusal(stub.GetSession(pb.GetSessionRequest(name=name("a"))))).reason == "SESSION_NOT_FOUND"


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param("\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", id="joined emoji"),
        pytest.param("Prix\u00a0: 3\u202f\u20ac", id="spaces that do not break"),
        pytest.param("\u65e5\u672c\u3000\u8a9e", id="wide space"),
        pytest.param("\U0001fae8", id="younger than the tables of Python"),
        pytest.param("\u05d0\u200f b", id="mark of direction"),
    ],
)
async def test_names_groups_and_tags_are_written_as_people_write(stub, shown):
    before = await create(stub, "a")
    after = await changed(
        stub, before.name, ["display_name", "group", "tags"], display_name=shown, group=shown, tags=[shown]
    )
    assert (after.display_name, after.group, list(after.tags)) == (shown, shown, [shown])
    assert [session.name for session in (await stub.ListSessions(lists(group=shown, tags=[shown]))).sessions] == [
        before.name
    ]


def lists(**narrowed) -> pb.ListSessionsRequest:
    return pb.ListSessionsRequest(filter=pb.SessionFilter(**narrowed))
