"""Frames are read strictly where it matters and written as the clients expect them."""

import json

import pytest

from gateway import frames
from gateway.frames import FrameInvalid


def test_a_request_is_read_with_its_params():
    request = frames.parse_request('{"type":"req","id":"7","method":"health","params":{"a":1},"traceparent":"00-x"}')

    assert (request.id, request.method, request.params, request.traceparent) == ("7", "health", {"a": 1}, "00-x")


def test_missing_and_null_params_are_empty():
    assert frames.parse_request('{"type":"req","id":"7","method":"health"}').params == {}
    assert frames.parse_request('{"type":"req","id":"7","method":"health","params":null}').params == {}


def test_unknown_properties_of_a_frame_are_accepted():
    request = frames.parse_request('{"type":"req","id":"7","method":"health","expectedProfileId":"p","x":1}')

    assert request.method == "health"


def test_an_overlong_traceparent_is_dropped():
    text = json.dumps({"type": "req", "id": "7", "method": "m", "traceparent": "0" * 129})

    assert frames.parse_request(text).traceparent is None


@pytest.mark.parametrize(
    ("text", "message", "request_id", "is_json"),
    [
        ("{", "invalid request frame: not valid JSON", "invalid", False),
        ("", "invalid request frame: not valid JSON", "invalid", False),
        ('"hello"', "invalid request frame: at root: must be object", "invalid", False),
        ("[]", "invalid request frame: at root: must be object", "invalid", False),
        ('{"type":"event","id":"1"}', "at /type: must be equal to constant 'req'", "1", True),
        ('{"type":"req","method":"m"}', "at /id: must be a non-empty string", "invalid", True),
        ('{"type":"req","id":"","method":"m"}', "at /id: must be a non-empty string", "invalid", True),
        ('{"type":"req","id":7,"method":"m"}', "at /id: must be a non-empty string", "invalid", True),
        ('{"type":"req","id":"1"}', "at /method: must be a non-empty string", "1", True),
        ('{"type":"req","id":"1","method":""}', "at /method: must be a non-empty string", "1", True),
        ('{"type":"req","id":"1","method":"chat.send","params":[]}', "invalid chat.send params: at root", "1", True),
        ('{"type":"req","id":"\\ud800","method":"m"}', "not valid JSON", "invalid", False),
        ('{"type":"req","id":"1","method":"m","params":{"a":NaN}}', "not valid JSON", "invalid", False),
    ],
)
def test_what_is_not_a_request_says_what_is_wrong_with_it(text, message, request_id, is_json):
    with pytest.raises(FrameInvalid) as refused:
        frames.parse_request(text)

    assert message in refused.value.message
    assert (refused.value.request_id, refused.value.is_json) == (request_id, is_json)


def test_deep_nesting_is_refused_and_not_followed():
    with pytest.raises(FrameInvalid):
        frames.parse_request('{"type":"req","id":"1","method":"m","params":' + "[" * 5000 + "]" * 5000 + "}")


def test_responses_and_events_are_one_json_object_each():
    ok = json.loads(frames.response('a"b', b'{"x":1}'))
    failed = json.loads(frames.error_response("1", {"code": "X", "message": "no"}))
    twice = json.loads(frames.error_response("1", {"code": "X", "message": "no"}, b'{"runId":"r"}'))
    event = json.loads(frames.event("tick", b'{"ts":1}', seq=3, state_version=b'{"presence":1,"health":2}'))

    assert ok == {"type": "res", "id": 'a"b', "ok": True, "payload": {"x": 1}}
    assert failed == {"type": "res", "id": "1", "ok": False, "error": {"code": "X", "message": "no"}}
    assert twice["payload"] == {"runId": "r"}
    assert event["seq"] == 3
    assert event["stateVersion"] == {"presence": 1, "health": 2}


def test_a_close_reason_fits_into_a_close_frame_and_cuts_no_character():
    reason = frames.close_reason("é" * 100)

    assert len(reason.encode()) <= 123
    assert reason == "é" * 61
