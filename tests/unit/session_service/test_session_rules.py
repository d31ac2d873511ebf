"""The rules: what an append does to a session, labels, and the one guard."""

from dataclasses import replace
from itertools import permutations

import pytest

from session_service.domain import errors, expiry, lifecycle
from session_service.domain.append import admit, advance, same_event, shorten
from session_service.domain.copy import Copy, Origin, copy_id, in_order
from session_service.domain.event import Append, EventKind, Known, Message, NewEvent, Role, RunEnd, Summary
from session_service.domain.label import label_key, normalise_label
from session_service.domain.rules import Rules
from session_service.domain.session import (
    Draft,
    Fields,
    Head,
    Provenance,
    RunOutcome,
    Session,
    SessionState,
    SessionStatus,
    Usage,
)


def head(**fields) -> Head:
    return replace(Head(1, "main", "a", "uid", 1, SessionState.ACTIVE), **fields)


def event(kind=EventKind.MESSAGE, run="", detail=None, event_id="x") -> NewEvent:
    return NewEvent(event_id, kind, run, b"", detail)


def started(run: str) -> NewEvent:
    return event(EventKind.RUN_STARTED, run)


def ended(run: str, outcome: RunOutcome, **detail) -> NewEvent:
    facts = {"error_message": "", "start_time": None, "usage": None} | detail
    return event(EventKind.RUN_FINISHED, run, RunEnd(outcome, **facts))


def session(**fields) -> Session:
    draft = Draft("main", "a", Fields(**fields), Provenance("operators/root"))
    return lifecycle.create(draft, pk=1, transcript=1, uid="uid", now=5)


def appending(*events: NewEvent, epoch: int = 0, uid: str = "") -> Append:
    return Append("main", "a", events, epoch, uid)


def test_an_epoch_behind_the_mark_is_fenced_and_none_is_not():
    at_five = head(mark=5)
    with pytest.raises(errors.Fenced) as refused:
        admit(at_five, appending(event(), epoch=4), fresh=True)
    assert refused.value.metadata["mark"] == "5"
    for epoch in (0, 5, 6):
        admit(at_five, appending(event(), epoch=epoch), fresh=True)


@pytest.mark.parametrize(
    ("state", "error"),
    [(SessionState.DELETED, errors.SessionDeleted), (SessionState.ARCHIVED, errors.SessionArchived)],
)
def test_a_session_that_is_not_in_use_takes_only_the_ends_of_active_runs_and_duplicates(state, error):
    put_away = head(state=state, active_runs=("r1",))
    admit(put_away, appending(event()), fresh=False)
    admit(put_away, appending(ended("r1", RunOutcome.CANCELLED)), fresh=True)
    for refused in (event(), ended("r2", RunOutcome.CANCELLED), started("r1")):
        with pytest.raises(error):
            admit(put_away, appending(refused), fresh=True)
    with pytest.raises(error):
        admit(put_away, appending(ended("r1", RunOutcome.CANCELLED), event()), fresh=True)


def test_kind_and_run_make_an_event_the_same():
    known = Known(3, int(EventKind.MESSAGE), "r1")
    assert same_event(known, event(run="r1"))
    assert not same_event(known, event(run="r2"))
    assert not same_event(known, event(EventKind.SUMMARY, "r1"))


def test_title_and_preview_come_from_the_messages():
    row = head()
    advance(row, event(detail=Message(Role.ASSISTANT, "Welcome")), 1)
    advance(row, event(detail=Message(Role.USER, "Plan a party")), 2)
    advance(row, event(detail=Message(Role.USER, "No, two")), 3)
    assert (row.title, row.preview, row.message_count) == ("Plan a party", "No, two", 3)
    assert (row.last_sequence, row.last_activity_time) == (3, 3)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (RunOutcome.SUCCEEDED, SessionStatus.SUCCEEDED),
        (RunOutcome.CANCELLED, SessionStatus.CANCELLED),
        (RunOutcome.FAILED, SessionStatus.FAILED),
        (RunOutcome.EXPIRED, SessionStatus.FAILED),
        (RunOutcome.DEAD_LETTERED, SessionStatus.FAILED),
        (RunOutcome.REJECTED, SessionStatus.FAILED),
    ],
)
def test_the_status_follows_the_newest_run(outcome, status):
    row = head()
    advance(row, started("r1"), 10)
    assert (row.status, row.active_runs) == (SessionStatus.RUNNING, ("r1",))
    advance(row, ended("r1", outcome, error_message="why"), 20)
    assert (row.status, row.active_runs) == (status, ())
    assert (row.last_run.outcome, row.last_run.start_time, row.last_run.end_time) == (outcome, 10, 20)


def test_an_older_run_that_ends_does_not_hide_the_one_at_work():
    row = head()
    advance(row, started("r1"), 1)
    advance(row, started("r2"), 2)
    advance(row, ended("r1", RunOutcome.FAILED), 3)
    assert (row.status, row.active_runs, row.last_run.run) == (SessionStatus.RUNNING, ("r2",), "r2")


def test_a_run_that_never_started_still_counts_as_the_newest():
    row = head()
    advance(row, ended("r1", RunOutcome.CANCELLED), 3)
    assert (row.last_run.run, row.last_run.start_time, row.status) == ("r1", None, SessionStatus.CANCELLED)


def test_a_second_attempt_keeps_the_start_of_the_first():
    row = head()
    advance(row, started("r1"), 1)
    advance(row, event(EventKind.RUN_RETRYING, "r1"), 2)
    advance(row, started("r1"), 3)
    assert (row.last_run.start_time, row.active_runs) == (1, ("r1",))


def test_usage_adds_up():
    row = head()
    usage = Usage(1, 2, 3, 4, 5, 6, 7)
    for run in ("r1", "r2"):
        advance(row, ended(run, RunOutcome.SUCCEEDED, usage=usage), 1)
    assert row.usage == Usage(2, 4, 6, 8, 10, 12, 14)


def test_a_summary_and_an_open_decision_are_remembered():
    row = head(last_sequence=8)
    advance(row, event(EventKind.SUMMARY, detail=Summary(5)), 1)
    advance(row, event(EventKind.DECISION_REQUESTED, "r1"), 1)
    assert (row.summary_sequence, row.summary_through, row.status) == (9, 5, SessionStatus.NEEDS_DECISION)


def test_long_texts_are_cut_at_a_word():
    assert shorten("short", 10) == "short"
    assert shorten("one two three four", 12) == "one two…"
    assert shorten("x" * 30, 10) == "x" * 9 + "…"


def test_labels_are_normalised_and_compared_without_case_or_form():
    assert normalise_label("  Caf\u0065\u0301   plan ") == "Café plan"
    assert label_key("CAFÉ") == label_key("cafe\u0301") == label_key("café")
    assert label_key("ﬁve") == label_key("FIVE")
    assert label_key("☺\ufe0f") == label_key("☺")


def test_the_guard_stands_before_a_reset():
    kept = session(label="A", persistent=True)
    with pytest.raises(errors.SessionPersistent):
        lifecycle.guard_context(kept)
    with pytest.raises(errors.SessionPersistent):
        lifecycle.reset(kept, uid="new", transcript=2, now=9)


def test_a_reset_keeps_the_fields_and_clears_what_belonged_to_the_transcript():
    before = session(label="A")
    advance(before.head, event(detail=Message(Role.USER, "hello")), 6)
    after = lifecycle.reset(before, uid="new", transcript=2, now=9)
    assert (after.head.uid, after.previous_uid, after.fields) == ("new", "uid", before.fields)
    assert (after.head.title, after.head.message_count, after.head.start_sequence) == ("", 0, 1)
    assert (after.head.last_sequence, after.version) == (1, 2)


def test_an_undeleted_session_is_where_it_was():
    active = session(label="A")
    archived = lifecycle.archive(active, 6)
    for before in (active, archived):
        deleted = lifecycle.delete(before, now=7, purge_time=8)
        assert (deleted.head.state, deleted.purge_time) == (SessionState.DELETED, 8)
        assert lifecycle.undelete(deleted).head.state is before.head.state


def test_an_update_says_which_fields_changed():
    before = session(label="A", icon="x")
    after, paths = lifecycle.update(before, replace(before.fields, label="B", pinned=True), 9)
    assert paths == ("label", "pinned")
    assert (after.pin_time, after.version) == (9, 2)
    assert lifecycle.update(before, before.fields, 9) == (before, ())
    with pytest.raises(errors.LabelRequired):
        lifecycle.update(before, replace(before.fields, label="", persistent=True), 9)


def test_a_run_that_waits_for_a_person_is_not_at_work():
    row = head()
    advance(row, started("r1"), 1)
    advance(row, event(EventKind.DECISION_REQUESTED, "r1"), 2)
    assert (row.status, row.active_runs) == (SessionStatus.NEEDS_DECISION, ())
    advance(row, started("r2"), 3)
    advance(row, ended("r2", RunOutcome.SUCCEEDED), 4)
    assert row.status is SessionStatus.SUCCEEDED
    advance(row, started("r1"), 5)
    assert (row.status, row.active_runs) == (SessionStatus.RUNNING, ("r1",))


def copied(session: str, sequence: int, time: int) -> Copy:
    origin = Origin(session, f"uid of {session}", sequence, time)
    return Copy(origin, sequence, event(event_id=copy_id(origin)))


def test_a_merge_does_not_depend_on_the_order_of_its_sources():
    # Equal times, one original in two sources, and a clock that was set back in the midst of a session.
    shared = copied("bots/main/sessions/a", 1, 10)
    a = [shared, copied("bots/main/sessions/a", 2, 20), copied("bots/main/sessions/a", 3, 30)]
    b = [shared, copied("bots/main/sessions/b", 2, 30), copied("bots/main/sessions/b", 3, 20)]
    c = [copied("bots/main/sessions/c", 1, 20), copied("bots/main/sessions/c", 2, 30)]
    merged = [in_order(sources) for sources in permutations([a, b, c])]
    assert all(each == merged[0] for each in merged)
    places = {(copy.origin.session[-1], copy.at): place for place, copy in enumerate(merged[0])}
    assert places == {
        ("a", 1): 0,
        ("a", 2): 1,
        ("c", 1): 2,
        ("a", 3): 3,
        ("b", 2): 4,
        ("b", 3): 5,
        ("c", 2): 6,
    }


@pytest.mark.parametrize(
    ("session_id", "fields", "expires_at"),
    [
        ("a", Fields(), 150),
        ("a", Fields(expire_time=120), 120),
        ("a", Fields(expire_time=200), 150),
        ("a", Fields(pinned=True), None),
        ("a", Fields(pinned=True, expire_time=200), 200),
        ("a", Fields(label="A", persistent=True, expire_time=120), None),
        ("main", Fields(expire_time=120), None),
    ],
)
def test_a_session_is_over_by_its_own_time_or_its_idleness(session_id, fields, expires_at):
    draft = Draft("main", session_id, fields, Provenance("operators/root"))
    session = lifecycle.create(draft, pk=1, transcript=1, uid="uid", now=100)
    assert expiry.expires_at(session, Rules(idle_ttl=50)) == expires_at
    put_away = replace(session, head=replace(session.head, state=SessionState.ARCHIVED))
    assert expiry.expires_at(put_away, Rules(idle_ttl=50)) is None
