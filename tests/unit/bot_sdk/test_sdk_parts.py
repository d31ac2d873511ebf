"""The small parts of the SDK: drafts, ids, delays, conversions."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot_sdk import convert, memory_convert
from bot_sdk.backoff import Backoff
from bot_sdk.deltas import MAX_DRAFT_CHARS, Draft
from bot_sdk.events import event_id, reply_id
from bot_sdk.model import Lease
from chassis import errors
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2


def lease(attempt: int = 1) -> Lease:
    return Lease(run="r", session="bots/a/sessions/s", bot="bots/a", epoch=attempt, attempt=attempt)


def shown(deltas) -> str:
    text = ""
    for delta in deltas:
        assert delta.replace or delta.offset == len(text)
        text = delta.text if delta.replace else text + delta.text
    return text


@given(st.lists(st.one_of(st.text(max_size=50), st.just(None), st.just("again")), max_size=30))
def test_a_watcher_of_a_draft_always_ends_with_its_whole_text(steps):
    draft = Draft(lease())
    sent = []
    for step in steps:
        if step is None:
            sent += draft.take()
        elif step == "again":
            draft.start_again()
        else:
            draft.write(step)
    sent += draft.take()
    assert shown(sent) == draft.text


def test_offsets_count_code_points_and_long_pieces_are_cut():
    draft = Draft(lease())
    draft.write("😀" * 20_000)
    deltas = draft.take()
    assert [delta.offset for delta in deltas] == [0, 16_000]
    assert all(len(delta.text.encode()) <= 64 * 1024 for delta in deltas)
    assert shown(deltas) == "😀" * 20_000


def test_a_draft_takes_no_more_than_a_message_may_hold():
    draft = Draft(lease())
    assert draft.write("x" * MAX_DRAFT_CHARS)
    assert not draft.write("y")
    assert draft.text == "x" * MAX_DRAFT_CHARS


def test_a_later_attempt_begins_by_replacing_what_is_shown():
    draft = Draft(lease(attempt=2))
    draft.write("a")
    first = draft.take()
    draft.write("b")
    assert [delta.replace for delta in first + draft.take()] == [True, False]


@pytest.mark.parametrize("run", ["r", "x" * 200])
def test_event_ids_are_stable_and_short_enough(run):
    long = event_id(run, "step", "n" * 128, "called")
    assert long == event_id(run, "step", "n" * 128, "called")
    assert long != event_id(run, "step", "n" * 127 + "m", "called")
    assert len(long) <= 256
    assert reply_id(run) == f"run/{run}/reply"


def test_delays_grow_to_a_cap_and_begin_again():
    backoff = Backoff(first_s=0.1, cap_s=1.0, generator=random.Random(1))
    delays = [backoff.next_s() for _ in range(8)]
    assert all(
        0.5 * bound <= delay <= bound for bound, delay in zip([0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1], delays, strict=True)
    )
    assert backoff.next_s(at_least_s=30) == 30
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_long_text_is_divided_into_parts_that_are_legal():
    parts = convert.text_parts("é" * 600_000)
    assert "".join(part.text for part in parts) == "é" * 600_000
    assert all(len(part.text.encode()) <= 1024 * 1024 for part in parts)
    with pytest.raises(errors.InvalidArgument):
        convert.text_parts("x" * 5_000_000)


def test_a_refused_item_raises_as_a_call_of_its_own_would():
    outcome = session_service_pb2.Outcome(code=5, reason="SESSION_NOT_FOUND", message="no such session")
    error = convert.to_error(outcome, {"session": "x"})
    assert isinstance(error, errors.NotFound)
    assert (error.reason, error.metadata) == ("SESSION_NOT_FOUND", {"session": "x"})


def test_only_what_was_said_and_done_becomes_an_entry():
    events = [
        event_pb2.Event(id="1", run_started=event_pb2.RunStarted(attempt=1)),
        event_pb2.Event(id="2", message=event_pb2.MessageAppended(role=event_pb2.ROLE_ASSISTANT)),
        event_pb2.Event(id="3", tool_called=event_pb2.ToolCalled(call_id="c", tool="t")),
        event_pb2.Event(id="4", tool_returned=event_pb2.ToolReturned(call_id="c", tool="t", is_error=True)),
        event_pb2.Event(id="5", summary=event_pb2.SummaryAppended(text="x")),
    ]
    assert [entry.event_id for entry in convert.to_entries(events)] == ["2", "3", "4"]


def test_parts_that_are_not_text_are_shown_as_such():
    parts = [
        part_pb2.Part(text="see"),
        part_pb2.Part(data=part_pb2.DataPart(value=b'{"a":1}')),
        part_pb2.Part(file=part_pb2.FilePart(file_name="plan.pdf")),
    ]
    assert convert.text_of(parts) == 'see\n{"a":1}\n[file plan.pdf]'


def test_an_unknown_kind_of_memory_names_the_known_ones():
    with pytest.raises(errors.InvalidArgument, match="fact, preference"):
        memory_convert.from_memory_kind("rumour")
