"""Frames of the client protocol: parsing, serialising, limits and close codes. No I/O.

One WebSocket text frame holds one JSON object: a request from the client, a response or an event from us.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson

# Published limits of the protocol; a client reads the last two from `policy` of hello-ok.
MAX_PREAUTH_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 26_214_400
MAX_BUFFERED_BYTES = 52_428_800
MAX_TRACEPARENT_CHARS = 128

# A WebSocket close reason is at most 123 bytes of UTF-8 (RFC 6455, 5.5).
_MAX_CLOSE_REASON_BYTES = 123

# What a response to a frame without a usable id carries as its id; ids are never empty.
UNKNOWN_ID = "invalid"


class CloseCode(IntEnum):
    """WebSocket close codes with the meaning the clients give them."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    POLICY = 1008
    RESTART = 1012


@dataclass(frozen=True, slots=True)
class Request:
    """One `req` frame. `params` is {} when the frame has none."""

    id: str
    method: str
    params: Mapping[str, Any]
    traceparent: str | None = None


class FrameInvalid(Exception):
    """The text is not a request frame. `request_id` answers the frame where it carried a usable id.

    `is_json` is False when the text was not a JSON object at all.
    """

    def __init__(self, message: str, *, request_id: str = UNKNOWN_ID, is_json: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.is_json = is_json


def parse_request(text: str | bytes) -> Request:
    """Reads one request frame. Unknown properties are ignored: newer clients send some.

    Raises:
        FrameInvalid: saying which property is wrong and how.
    """
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise FrameInvalid("invalid request frame: not valid JSON", is_json=False) from None
    if not isinstance(frame, dict):
        raise FrameInvalid("invalid request frame: at root: must be object", is_json=False)
    raw_id = frame.get("id")
    request_id = raw_id if isinstance(raw_id, str) and raw_id else UNKNOWN_ID
    if frame.get("type") != "req":
        raise FrameInvalid("invalid request frame: at /type: must be equal to constant 'req'", request_id=request_id)
    if request_id is UNKNOWN_ID:
        raise FrameInvalid("invalid request frame: at /id: must be a non-empty string")
    method = frame.get("method")
    if not isinstance(method, str) or not method:
        raise FrameInvalid("invalid request frame: at /method: must be a non-empty string", request_id=request_id)
    params = frame.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise FrameInvalid(f"invalid {method[:128]} params: at root: must be object", request_id=request_id)
    traceparent = frame.get("traceparent")
    if not isinstance(traceparent, str) or len(traceparent) > MAX_TRACEPARENT_CHARS:
        traceparent = None
    return Request(id=request_id, method=method, params=params, traceparent=traceparent)


def dump(payload: object) -> bytes:
    """A payload as JSON bytes, to be put into one or many frames."""
    return orjson.dumps(payload)


def response(request_id: str, payload: bytes) -> bytes:
    return b'{"type":"res","id":%b,"ok":true,"payload":%b}' % (orjson.dumps(request_id), payload)


def error_response(request_id: str, error: Mapping[str, object], payload: bytes | None = None) -> bytes:
    """`payload` accompanies the error where a method answers twice (`agent`)."""
    if payload is None:
        return b'{"type":"res","id":%b,"ok":false,"error":%b}' % (orjson.dumps(request_id), orjson.dumps(error))
    return b'{"type":"res","id":%b,"ok":false,"error":%b,"payload":%b}' % (
        orjson.dumps(request_id),
        orjson.dumps(error),
        payload,
    )


def event(name: str, payload: bytes, *, seq: int | None = None, state_version: bytes | None = None) -> bytes:
    """`payload` is serialised once by the caller, however many sockets get it; only `seq` differs per socket."""
    parts: Sequence[bytes] = (
        b'{"type":"event","event":"%b","payload":%b' % (name.encode(), payload),
        b',"seq":%d' % seq if seq is not None else b"",
        b',"stateVersion":%b' % state_version if state_version is not None else b"",
        b"}",
    )
    return b"".join(parts)


def close_reason(text: str) -> str:
    """The text cut to what a close frame can carry, never in the middle of a character."""
    return text.encode()[:_MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
