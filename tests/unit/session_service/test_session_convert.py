"""Messages to domain and back: payloads, own events, tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobot.session.v1 import error_reason_pb2, event_pb2, part_pb2, session_service_pb2
from session_service.convert.events import AppendReader, encode_change, to_proto_event
from session_service.convert.tokens import ANY_WATCH, WatchTokens, watch_digest
from session_service.domain import errors, lifecycle
from session_service.domain.event import EventKind, StoredEvent
from session_service.domain.session import Draft, Fields, Provenance


def read(event, *, actor="bots/main", root=False, traceparent=""):
    append = session_service_pb2.SessionAppend(session="bots/main/sessions/a", events=[event])
    return AppendReader(actor=actor, root=root, traceparent=traceparent).read(append, return_session=False).events[0]


def stored(payload: bytes) -> StoredEvent:
    return StoredEvent(9, 1, "main", "a", 4, "uid", EventKind.MESSAGE, "", 1_767_225_600_123_456, payload)


def message(text="hi", **fields) -> event_pb2.Event:
    body = event_pb2.MessageAppended(role=1, parts=[part_pb2.Part(text=text)])
    return event_pb2.Event(id="m1", message=body, **fields)


@given(actor=st.text(min_size=1, max_size=300), text=st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_an_event_comes_back_as_it_was_with_the_services_fields(actor, text):
    event = message(text, run="r1")
    back = to_proto_event(stored(read(event, actor=actor, traceparent="00-trace").payload))
    assert (back.sequence, back.session, back.session_uid) == (4, "bots/main/sessions/a", "uid")
    assert (back.create_time.seconds, back.create_time.nanos) == (1_767_225_600, 123_456_000)
    assert (back.actor, back.traceparent) == (actor, "00-trace")
    assert (back.id, back.run, back.message) == (event.id, event.run, event.message)


def test_what_a_caller_claims_about_the_services_fields_is_not_kept():
    event = message(sequence=77, session="x", session_uid="y", actor="operators/root")
    event.create_time.FromSeconds(5)
    new = read(event)
    assert len(new.payload) < event.ByteSize()
    back = to_proto_event(stored(new.payload))
    assert (back.sequence, back.session, back.session_uid, back.actor) == (
        4,
        "bots/main/sessions/a",
        "uid",
        "bots/main",
    )
    assert back.create_time.seconds == 1_767_225_600
    assert event.sequence == 77  # the request is not ours to change


def test_root_may_name_the_actor():
    assert to_proto_event(stored(read(message(actor="bots/x"), root=True).payload)).actor == "bots/x"
    assert to_proto_event(stored(read(message(), root=True).payload)).actor == "bots/main"


def test_own_events_carry_what_happened():
    draft = Draft("main", "a", Fields(label="A"), Provenance("operators/root"))
    session = lifecycle.create(draft, pk=1, transcript=1, uid="uid", now=5)
    for change, name in (
        (lifecycle.Created(session), "session_created"),
        (lifecycle.Updated(("label",)), "session_updated"),
        (lifecycle.Reset("old", "new", ""), "session_reset"),
        (lifecycle.Archived(""), "session_archived"),
        (lifecycle.Unarchived(), "session_unarchived"),
        (lifecycle.Deleted(7), "session_deleted"),
        (lifecycle.Undeleted(), "session_undeleted"),
    ):
        event = event_pb2.Event.FromString(encode_change(change, "session/1", "operators/root"))
        assert (event.WhichOneof("payload"), event.id, event.actor) == (name, "session/1", "operators/root")


def test_tokens_name_a_place_in_one_store_for_one_watch():
    tokens = WatchTokens(b"one")
    watch, other = watch_digest(["a"], []), watch_digest([], ["a"])
    assert watch != other
    token = tokens.encode(12, watch)
    assert tokens.decode(token, watch) == 12
    assert tokens.decode(tokens.encode(12), watch) == 12
    for wrong in (lambda: tokens.decode(token, other), lambda: WatchTokens(b"two").decode(token, watch)):
        with pytest.raises(errors.WatchTokenInvalid):
            wrong()
    assert watch_digest(["b", "a"], [3, 1]) == watch_digest(["a", "b"], [1, 3])


@given(st.text(max_size=60), st.integers(0, 40), st.sampled_from("AZ-_9"))
def test_damaged_tokens_are_refused(text, place, character):
    tokens = WatchTokens(b"one")
    token = tokens.encode(12)
    damaged = token[:place] + character + token[place + 1 :] if place < len(token) else token + character
    for wrong in (text, damaged):
        if wrong.rstrip("=") != token:
            with pytest.raises(errors.WatchTokenInvalid):
                tokens.decode(wrong, ANY_WATCH)


def test_every_reason_is_in_the_contract():
    known = {reason.removeprefix("ERROR_REASON_") for reason in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    used = {value.reason for value in vars(errors).values() if isinstance(value, type) and "reason" in vars(value)}
    assert used <= known
