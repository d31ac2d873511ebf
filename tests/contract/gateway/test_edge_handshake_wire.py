"""Handshakes over a real socket: what a client is told, and with which code the socket is closed."""

import asyncio
import json

import pytest
import websockets
from edge_client import CLI, Refused, connected
from edge_device import Device

CONTROL_UI = {"id": "openclaw-control-ui", "mode": "webchat", "version": "1", "platform": "web"}
WEBCHAT = {**CONTROL_UI, "id": "webchat"}
SCOPES = ["operator.read", "operator.write"]


def origin(edge):
    return f"http://127.0.0.1:{edge.port}"


async def first_exchange(edge, text, **options):
    """Sends one raw first frame; returns the answer (None when there is none) and the close code and reason."""
    async with websockets.connect(edge.url, compression=None, **options) as socket:
        await socket.recv()
        await socket.send(text)
        answer = None
        try:
            answer = json.loads(await socket.recv())
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            return answer, closed.rcvd.code, closed.rcvd.reason
    raise AssertionError("the socket was not closed")


def connect_frame(**changes):
    params = {"minProtocol": 4, "maxProtocol": 4, "client": CLI, "scopes": SCOPES, "auth": {"token": "secret"}}
    return json.dumps({"type": "req", "id": "c", "method": "connect", "params": {**params, **changes}})


@pytest.mark.parametrize(
    ("frame", "code", "detail", "message"),
    [
        (connect_frame(auth={"token": "no"}), 1008, "AUTH_TOKEN_MISMATCH", "unauthorized: gateway token mismatch"),
        (connect_frame(auth={}), 1008, "AUTH_TOKEN_MISSING", "unauthorized: gateway token missing"),
        (connect_frame(minProtocol=5, maxProtocol=5), 1002, "PROTOCOL_MISMATCH", "protocol mismatch"),
        (connect_frame(minProtocol=1, maxProtocol=2), 1002, "PROTOCOL_MISMATCH", "protocol mismatch"),
        (connect_frame(client={**CLI, "id": "x"}), 1008, None, "invalid connect params: at /client/id: must be"),
        (connect_frame(client=WEBCHAT), 1008, "CONTROL_UI_ORIGIN_NOT_ALLOWED", "origin not allowed"),
        (
            json.dumps({"type": "req", "id": "c", "method": "health"}),
            1008,
            None,
            "invalid handshake: first request must be connect",
        ),
        (json.dumps({"type": "event", "id": "c"}), 1008, None, "invalid request frame: at /type"),
    ],
)
async def test_a_refused_client_is_told_why_and_closed(edge, frame, code, detail, message):
    answer, close_code, reason = await first_exchange(edge, frame)

    assert (answer["ok"], answer["id"], answer["error"]["code"]) == (False, "c", "INVALID_REQUEST")
    assert answer["error"]["message"].startswith(message)
    assert answer["error"].get("details", {}).get("code") == detail
    assert close_code == code
    assert reason.startswith(message[:60])


async def test_a_first_frame_that_is_not_json_is_closed_without_an_answer(edge):
    assert await first_exchange(edge, "hello?") == (None, 1000, "")


async def test_a_first_frame_beyond_the_limit_is_cut_off(edge):
    _, code, _ = await first_exchange(edge, connect_frame(userAgent="x" * 65_536))

    assert code == 1009


async def test_after_connect_large_frames_are_welcome(edge):
    async with edge.client() as client:
        await client.call("health", {"padding": "x" * 200_000})


async def test_a_silent_client_is_closed_after_the_timeout(start_edge):
    edge = await start_edge(gateway_preauth_timeout_s=0.1)
    async with websockets.connect(edge.url) as socket:
        await socket.recv()
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 60)

    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "")


@pytest.mark.parametrize("protocol", [3, 4])
async def test_both_protocols_are_spoken_on_one_port(edge, protocol):
    async with edge.client(low=protocol, high=protocol) as client:
        assert client.hello["protocol"] == protocol
        assert (await client.call("health"))["ok"] is True


async def test_hello_lists_exactly_what_is_served(edge):
    async with edge.client(scopes=SCOPES) as client:
        methods = client.hello["features"]["methods"]
        for method in methods:
            await client.post(method, {}, request_id=method)
        for method in methods:
            await client.until(lambda heard, method=method: [f for f in heard if f.get("id") == method])
        refusals = [frame["error"]["message"] for frame in client.frames if frame.get("ok") is False]
        unknown = await client.refusal("no.such.method")

    assert not [message for message in refusals if message.startswith("unknown method")]
    assert client.hello["auth"] == {"role": "operator", "scopes": SCOPES}
    assert client.hello["policy"] == {
        "maxPayload": 26_214_400,
        "maxBufferedBytes": 52_428_800,
        "tickIntervalMs": 15_000,
    }
    assert unknown == {"code": "INVALID_REQUEST", "message": "unknown method: no.such.method"}


async def test_a_signed_control_ui_from_our_own_host_connects(edge):
    device = Device()
    async with websockets.connect(edge.url, origin=origin(edge), compression=None) as socket:
        challenge = json.loads(await socket.recv())["payload"]
        proof = device.proof(
            nonce=challenge["nonce"], signed_at=challenge["ts"], client=CONTROL_UI, scopes=SCOPES, token="secret"
        )
        auth = {"token": "secret", "password": "secret"}
        await socket.send(connect_frame(client=CONTROL_UI, device=proof, auth=auth))
        answer = json.loads(await socket.recv())

    assert answer["ok"], answer
    assert answer["payload"]["auth"]["scopes"] == SCOPES


async def test_a_replayed_device_proof_is_refused(edge):
    device = Device()
    proof = device.proof(nonce="old", signed_at=1, client=CLI, scopes=SCOPES, token="secret")

    answer, code, _ = await first_exchange(edge, connect_frame(device=proof))

    assert (answer["error"]["details"]["code"], code) == ("DEVICE_AUTH_NONCE_MISMATCH", 1008)


async def test_our_own_page_connects_without_a_device(edge):
    async with connected(edge.url, origin=origin(edge), client=WEBCHAT) as client:
        assert (await client.call("sessions.list"))["count"] == 0


async def test_a_foreign_page_does_not(edge):
    with pytest.raises(Refused) as refused:
        async with connected(edge.url, origin="https://evil.example", client=WEBCHAT):
            pass

    assert refused.value.error["details"]["reason"] == "origin not allowed"


async def test_guessing_is_slowed_down_when_asked_for(start_edge):
    edge = await start_edge(gateway_limit_loopback=True, gateway_max_wrong_tokens=2)
    for _ in range(2):
        await first_exchange(edge, connect_frame(auth={"token": "no"}))

    answer, code, _ = await first_exchange(edge, connect_frame())

    assert (answer["error"]["details"]["code"], code) == ("AUTH_RATE_LIMITED", 1008)
    assert answer["error"]["retryAfterMs"] > 0


async def test_more_sockets_than_allowed_are_refused(start_edge):
    edge = await start_edge(gateway_max_sockets=1)
    async with edge.client():
        with pytest.raises(websockets.InvalidStatus):
            async with websockets.connect(edge.url):
                pass


async def test_a_client_behind_a_proxy_is_not_taken_for_a_local_one(edge):
    headers = {"X-Forwarded-For": "203.0.113.9"}
    async with websockets.connect(edge.url, additional_headers=headers, compression=None) as socket:
        await socket.recv()
        await socket.send(connect_frame())
        answer = json.loads(await socket.recv())

    assert answer["payload"]["auth"]["scopes"] == []
