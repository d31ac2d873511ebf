"""Drafts as they are checked and completed, and events as they are built."""

import pytest

from chassis.clock import FakeClock, Uuid7Ids
from chassis.errors import AppError
from chassis.identity import Caller
from mobot.router.v1 import message_pb2
from mobot.session.v1 import session_service_pb2
from router_service.convert import events
from router_service.convert.drafts import DraftReader
from router_service.domain.mail import EndedRun
from router_service.domain.state import MessageState

ROOT = Caller("operators/root", root=True, actor="operators/root")
OTHER = Caller("operators/eve", root=False, actor="operators/eve")


@pytest.fixture
def reader():
    clock = FakeClock()
    return DraftReader(clock, Uuid7Ids(clock), max_attempts=5)


def draft(**fields):
    made = message_pb2.MessageDraft(session="bots/a/sessions/x", **fields)
    made.parts.add(text="hi")
    return made


def test_defaults_are_filled_in(reader):
    checked = reader.read(draft(), ROOT, traceparent="00-1-2-01")
    stored = message_pb2.MessageDraft.FromString(checked.message.draft)
    assert (stored.source, stored.type, stored.traceparent, stored.max_attempts) == (
        "operators/root",
        "mobot.message",
        "00-1-2-01",
        5,
    )
    assert checked.message.run == checked.message.id
    assert checked.message.content_hash == ""


def test_the_given_draft_is_not_changed(reader):
    given = draft(idempotency_key="k", traceparent="00-1-2-01")
    before = given.SerializeToString()
    reader.read(given, ROOT)
    assert given.SerializeToString() == before


def test_a_retry_with_another_trace_has_the_same_content_and_another_senders_has_not(reader):
    first = reader.read(draft(idempotency_key="k", traceparent="00-1-2-01"), ROOT).message
    again = reader.read(draft(idempotency_key="k", traceparent="00-3-4-01"), ROOT).message
    other = reader.read(draft(idempotency_key="k", source="operators/eve"), OTHER).message
    assert first.content_hash == again.content_hash
    assert first.content_hash != other.content_hash


def test_somebody_may_not_send_as_somebody_else(reader):
    with pytest.raises(AppError) as caught:
        reader.read(draft(source="operators/root"), OTHER)
    assert caught.value.reason == "CALLER_NOT_ALLOWED"


@pytest.mark.parametrize("hops", [0, 14, 15])
def test_replies_stop_when_they_went_through_too_many_hands(reader, hops):
    original = draft(reply_to="bots/b", hop_count=hops)
    reply = reader.reply(original, "m", "r", original.parts)
    assert (reply is None) == (hops == 15)
    if reply is not None:
        assert reply.message.session == "bots/b/sessions/main"
        assert reply.draft.hop_count == hops + 1


def test_an_end_is_the_same_event_whenever_it_is_written():
    ended = EndedRun(
        "m", "r", "s", "b", MessageState.SUCCEEDED, 2, 0, 1_700_000_000_123_456, 0, "", "", b"", "stop", "x", "", ""
    )
    first, second = session_service_pb2.SessionAppend(), session_service_pb2.SessionAppend()
    events.add_finished(first, ended)
    events.add_finished(second, ended)
    assert first == second
    assert first.events[0].run_finished.start_time.ToMicroseconds() == 1_700_000_000_123_456
