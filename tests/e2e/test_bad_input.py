"""Bad input at every entrance of a running mobot: a clear refusal with the right code, nothing lost, no stack trace.

What a start refuses (a directory that is not writable, data of a newer version, a port in use) is in
`test_start_refusals.py`.
"""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import pytest
from edge_device import Device
from harness import Mobot, run_mobot
from session_log import authorization
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from chassis.identity import mint_token
from chassis.status import from_rpc_error
from mobot.registry.v1 import registry_service_pb2
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import part_pb2, session_pb2, session_service_pb2

pytestmark = pytest.mark.e2e

Entrance: TypeAlias = Callable[[Mobot], str]
"""Tries something and gives what it was told, in one line."""

TIMEOUT_S = 40
CLIENT = {"id": "cli", "mode": "cli", "version": "1", "platform": "linux"}
ALL = ["operator.admin", "operator.read", "operator.write"]
SESSION = "bots/main/sessions/bad-input"
KEY = "agent:main:bad-input"


def _connect(mobot: Mobot, socket: ClientConnection, **changes: Any) -> dict[str, Any]:
    challenge = json.loads(socket.recv(TIMEOUT_S))["payload"]
    params = {
        "minProtocol": 4, "maxProtocol": 4, "client": CLIENT, "role": "operator", "scopes": ALL,
        "auth": {"token": mobot.token},
    }  # fmt: skip
    prove = changes.pop("prove", None)
    if prove is not None:
        changes["device"] = prove(challenge, mobot.token)
    socket.send(json.dumps({"type": "req", "id": "c", "method": "connect", "params": {**params, **changes}}))
    answer: dict[str, Any] = json.loads(socket.recv(TIMEOUT_S))
    return answer


def socket_frame(frame: str, **changes: Any) -> Entrance:
    """A frame as it stands, after the handshake."""

    def tried(mobot: Mobot) -> str:
        with connect(mobot.url, compression=None, max_size=None, open_timeout=TIMEOUT_S) as socket:
            greeted = _connect(mobot, socket, **changes)
            if not greeted["ok"]:
                return json.dumps(greeted["error"])
            try:
                socket.send(frame)
                while True:
                    answer = json.loads(socket.recv(TIMEOUT_S))
                    if answer["type"] == "res":
                        return json.dumps(answer.get("error") or answer, ensure_ascii=False)
            except ConnectionClosed as closed:
                return f"closed {closed.rcvd.code if closed.rcvd else None}"

    return tried


def socket_call(method: str, params: dict[str, Any], **changes: Any) -> Entrance:
    return socket_frame(json.dumps({"type": "req", "id": "x", "method": method, "params": params}), **changes)


def http_call(verb: str, path: str, body: bytes | None = None, *, token: str | None = "", **headers: str) -> Entrance:
    """`token`: empty for the right one, None for none."""

    def tried(mobot: Mobot) -> str:
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            shown["Authorization"] = f"Bearer {token or mobot.token}"
        connection = http.client.HTTPConnection("127.0.0.1", mobot.ports["gateway"], timeout=TIMEOUT_S)
        try:
            connection.request(verb, path, body, shown)
            answer = connection.getresponse()
            return f"{answer.status} {answer.read().decode()}"
        finally:
            connection.close()

    return tried


def grpc_call(
    service: str,
    method: str,
    request: Any,
    metadata: Callable[[Mobot], list[tuple[str, str]]] = authorization,
    *,
    streaming: bool = False,
) -> Entrance:
    """`request` is a message, or the bytes of something else."""

    def tried(mobot: Mobot) -> str:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        with grpc.insecure_channel(mobot.address(service)) as channel:
            path, options = f"/mobot.{service}.v1.{service.capitalize()}Service/{method}", {"timeout": TIMEOUT_S}
            try:
                if streaming:
                    stream = channel.stream_stream(path)(iter([data]), metadata=metadata(mobot), **options)
                    return f"answered {list(stream)!r}"
                return f"answered {channel.unary_unary(path)(data, metadata=metadata(mobot), **options)!r}"
            except grpc.RpcError as error:
                refusal = from_rpc_error(error)
                return f"{error.code().name} {refusal.reason} {refusal.message}"

    return tried


def command(*arguments: str, **settings: str) -> Entrance:
    def tried(mobot: Mobot) -> str:
        done = run_mobot(mobot, *arguments, **settings)
        return f"exit {done.code} {done.said}"

    return tried


def in_order(*entrances: Entrance) -> Entrance:
    """The last of several, each tried in its turn."""

    def tried(mobot: Mobot) -> str:
        return [entrance(mobot) for entrance in entrances][-1]

    return tried


def _as(token: Callable[[Mobot], str]) -> Callable[[Mobot], list[tuple[str, str]]]:
    return lambda mobot: [("authorization", f"Bearer {token(mobot)}")]


def _expired(challenge: dict[str, Any], token: str) -> dict[str, Any]:
    signed_at = int(time.time() * 1000) - 3_600_000
    return Device().proof(nonce=challenge["nonce"], signed_at=signed_at, client=CLIENT, scopes=ALL, token=token)


def _draft(text: str, **fields: Any) -> router_service_pb2.SendMessageRequest:
    parts = [part_pb2.Part(text=text)]
    return router_service_pb2.SendMessageRequest(message=message_pb2.MessageDraft(parts=parts, **fields))


def _named(key: str) -> tuple[Entrance, Entrance, Entrance, Entrance]:
    """A session of that key, made at each entrance."""
    request = session_service_pb2.CreateSessionRequest(
        parent="bots/main", session_id=key, session=session_pb2.Session(label="x")
    )
    return (
        socket_call("sessions.create", {"key": key}),
        http_call("POST", "/v1/bots/main/sessions", json.dumps({"sessionId": key}).encode()),
        grpc_call("session", "CreateSession", request),
        command("sessions", "create", f"main/{key}"),
    )


NAME_INVALID = ("resource-name-invalid", "RESOURCE_NAME_INVALID", "INVALID_ARGUMENT RESOURCE_NAME_INVALID", "exit 1")

TABLE: dict[str, tuple[Entrance, str]] = {
    "a malformed frame": (socket_frame("{"), "INVALID_REQUEST"),
    "a frame that is no request": (socket_frame('{"type":"req","id":"x"}'), "INVALID_REQUEST"),
    "malformed JSON over HTTP": (http_call("POST", "/v1/bots/main/memories", b"{"), '"reason":"FIELD_INVALID"'),
    "bytes that are no message": (
        grpc_call("router", "SendMessage", b"\xff\xff\xff"),
        "INVALID_ARGUMENT FIELD_INVALID",
    ),
    "bytes that are no message, on a stream": (
        grpc_call("router", "Attach", b"\xff\xff\xff", streaming=True),
        "INVALID_ARGUMENT FIELD_INVALID",
    ),
    "an oversized frame": (socket_frame('{"x":"' + "x" * 26_300_000 + '"}'), "closed"),
    "an oversized body": (http_call("POST", "/v1/bots/main/memories", b'"' + b"x" * 26_300_000), "413"),
    "an oversized message": (
        grpc_call("router", "SendMessage", _draft("x" * 34_000_000, session=SESSION, idempotency_key="big")),
        "INVALID_ARGUMENT FIELD_INVALID",
    ),
    "an unknown method": (socket_call("no.such.method", {}), "unknown method: no.such.method"),
    "an unknown path": (http_call("GET", "/v1/nothing"), "404"),
    "an unknown RPC": (grpc_call("router", "NoSuchCall", b""), "UNIMPLEMENTED"),
    "an unknown command": (command("sing"), "exit 2"),
    "an unknown parameter": (http_call("GET", "/v1/sessions?colour=x"), '"reason":"FIELD_INVALID"'),
    "a missing scope": (socket_call("sessions.create", {"key": "a"}, scopes=["operator.read"]), "operator.write"),
    "a missing scope over HTTP": (
        http_call("POST", "/v1/bots/main/sessions", b"{}", Mobot_Scopes="operator.read"),
        "403",
    ),
    "a bot that acts as the operator": (
        grpc_call(
            "registry",
            "DeleteBot",
            registry_service_pb2.DeleteBotRequest(name="bots/scout"),
            _as(lambda mobot: mint_token(mobot.token, "bots/main")),
        ),
        "PERMISSION_DENIED",
    ),
    "a wrong token": (socket_call("health", {}, auth={"token": "wrong"}), "AUTH_TOKEN_MISMATCH"),
    "a wrong token over HTTP": (http_call("GET", "/v1/sessions", token="wrong"), "401"),
    "a wrong token over gRPC": (grpc_call("session", "ListSessions", b"", _as(lambda _: "wrong")), "UNAUTHENTICATED"),
    "a wrong token of a command": (command("sessions", MOBOT_TOKEN="wrong"), "UNAUTHENTICATED"),
    "no token": (socket_call("health", {}, auth={}), "AUTH_TOKEN_MISSING"),
    "no token over HTTP": (http_call("GET", "/v1/sessions", token=None), "401"),
    "no token over gRPC": (grpc_call("session", "ListSessions", b"", lambda _: []), "UNAUTHENTICATED"),
    "an expired signature": (socket_call("health", {}, prove=_expired), "DEVICE_AUTH_SIGNATURE_EXPIRED"),
    "an unknown bot": (
        socket_call("chat.send", {"sessionKey": "agent:nobody:main", "message": "hi", "idempotencyKey": "u"}),
        'Unknown agent id \\"nobody\\"',
    ),
    "an unknown bot over HTTP": (http_call("POST", "/v1/bots/nobody/sessions", b"{}"), "BOT_NOT_FOUND"),
    "an unknown bot over gRPC": (
        grpc_call("router", "SendMessage", _draft("hi", bot="bots/nobody", idempotency_key="u")),
        "NOT_FOUND BOT_NOT_FOUND",
    ),
    "an unknown bot of a command": (command("send", "nobody", "hi"), "BOT_NOT_FOUND"),
    "a stale expected id": (
        in_order(
            socket_call("sessions.create", {"key": KEY}),
            socket_call("sessions.patch", {"key": KEY, "expectedSessionId": "old", "label": "never"}),
        ),
        "session-changed",
    ),
    "a stale expected id over HTTP": (http_call("DELETE", f"/v1/{SESSION}?expectedUid=old"), "SESSION_CHANGED"),
    "a stale expected id over gRPC": (
        grpc_call("session", "ResetSession", session_service_pb2.ResetSessionRequest(name=SESSION, expected_uid="old")),
        "ABORTED SESSION_CHANGED",
    ),
    "a conflicting idempotency key": (
        in_order(
            grpc_call("router", "SendMessage", _draft("one", session=SESSION, idempotency_key="conflict")),
            grpc_call("router", "SendMessage", _draft("two", session=SESSION, idempotency_key="conflict")),
        ),
        "IDEMPOTENCY",
    ),
    "a conflicting idempotency key over HTTP": (
        in_order(
            *(
                http_call(
                    "POST",
                    "/v1/bots/main/memories",
                    json.dumps({"draft": {"memory": {"text": text}}}).encode(),
                    Idempotency_Key="0198c0de-0000-4000-8000-000000000001",
                )
                for text in ("one", "two")
            )
        ),
        "REQUEST_ID_REUSED",
    ),
    "a conflicting idempotency key of a command": (
        in_order(
            command("send", KEY, "three", "--key", "conflict-3"), command("send", KEY, "4", "--key", "conflict-3")
        ),
        "IDEMPOTENCY",
    ),
}
for what, bad_key in {
    "that climbs": "../x",
    "with a control character": "a\u0001b",
    "over-long": "x" * 300,
    "of look-alike letters": "s\u0435ssion",
}.items():
    entrances = zip(("", " over HTTP", " over gRPC", " of a command"), _named(bad_key), NAME_INVALID, strict=True)
    TABLE |= {f"a key {what}{where}": (entrance, words) for where, entrance, words in entrances}


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_is_refused_with_its_code(mobot: Mobot, case: str) -> None:
    entrance, words = TABLE[case]
    told = entrance(mobot)
    assert words in told
    assert "Traceback" not in told
    assert "/site-packages/" not in told


def test_nothing_is_lost_or_left_by_it(mobot: Mobot) -> None:
    """After all of the above: what was accepted is there once, what was refused is nowhere, and all goes on."""
    for case in ("a stale expected id", "a conflicting idempotency key"):
        TABLE[case][0](mobot)
    assert run_mobot(mobot, "send", KEY, "still there?").code == 0
    sessions = {row["key"] for row in run_mobot(mobot, "sessions", "--json").json()}
    said = [line for line in run_mobot(mobot, "history", KEY).out.splitlines() if " you: " in line]
    assert KEY in sessions
    assert not [key for key in sessions if "nobody" in key or "x" * 300 in key or ".." in key]
    assert [line.partition(" you: ")[2] for line in said].count("one") == 1
    assert not [line for line in said if line.endswith(("two", " 4"))]
    assert "Traceback" not in mobot.logs()
