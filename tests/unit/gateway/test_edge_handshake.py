"""Every way a handshake can end."""

import json

import pytest
from edge_device import Device

from gateway import frames
from gateway.auth import TokenGate, is_loopback
from gateway.frames import Request
from gateway.handshake import Handshake, HandshakePolicy, HandshakeRefused, Peer, origin_problem

NOW = 1_800_000_000_000
CLI = {"id": "cli", "mode": "cli", "version": "1", "platform": "linux"}
CONTROL_UI = {"id": "openclaw-control-ui", "mode": "webchat", "version": "1", "platform": "web"}
LOCAL = Peer("127.0.0.1", host="127.0.0.1:18789")
PAGE = Peer("127.0.0.1", origin="http://127.0.0.1:18789", host="127.0.0.1:18789")
ALL = ["operator.read", "operator.write", "operator.admin"]


class Time:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def gate(**options):
    return TokenGate("secret", monotonic=options.pop("monotonic", Time()), **options)


def connect(client=CLI, *, low=4, high=4, auth=None, peer=LOCAL, policy=None, token_gate=None, device=None, **more):
    params = {
        "minProtocol": low,
        "maxProtocol": high,
        "client": client,
        "auth": {"token": "secret"} if auth is None else auth,
        "scopes": ALL,
        **more,
    }
    if device is not None:
        params["device"] = device
    handshake = Handshake(nonce="n", peer=peer, gate=token_gate or gate(), policy=policy or HandshakePolicy())
    return handshake.accept(Request("1", "connect", params), conn_id="c", now_ms=NOW)


def refusal(*args, **options):
    with pytest.raises(HandshakeRefused) as refused:
        connect(*args, **options)
    return refused.value


def test_a_local_client_with_the_token_gets_the_scopes_it_asked_for():
    client = connect(scopes=["operator.read", "operator.read", "made.up"])

    assert (client.protocol, client.role, client.scopes) == (4, "operator", ("operator.read",))


@pytest.mark.parametrize(("low", "high", "protocol"), [(3, 3, 3), (3, 4, 4), (4, 4, 4), (3, 9, 4), (1, 3, 3)])
def test_the_highest_common_protocol_is_chosen(low, high, protocol):
    assert connect(low=low, high=high).protocol == protocol


@pytest.mark.parametrize(("low", "high"), [(5, 5), (1, 2), (4, 3)])
def test_no_common_protocol_is_a_mismatch(low, high):
    refused = refusal(low=low, high=high)

    assert (refused.close_code, refused.shape.message) == (1002, "protocol mismatch")
    assert refused.shape.details == {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": low,
        "clientMaxProtocol": high,
        "expectedProtocol": 4,
        "minimumProbeProtocol": 3,
    }


def test_the_first_request_must_be_connect():
    handshake = Handshake(nonce="n", peer=LOCAL, gate=gate(), policy=HandshakePolicy())

    with pytest.raises(HandshakeRefused) as refused:
        handshake.accept(Request("1", "health", {}), conn_id="c", now_ms=NOW)

    assert refused.value.shape.message == "invalid handshake: first request must be connect"
    assert refused.value.close_code == 1008


@pytest.mark.parametrize(
    ("client", "problem"),
    [
        ({**CLI, "id": "mobot"}, "at /client/id: must be equal to one of the allowed values"),
        ({**CLI, "mode": "psychic"}, "at /client/mode: must be equal to one of the allowed values"),
        ({"id": "cli", "mode": "cli", "platform": "linux"}, "at /client: must have required property 'version'"),
        ("cli", "at /client: must be object"),
    ],
)
def test_a_client_that_breaks_a_rule_hears_which(client, problem):
    assert refusal(client).shape.message == f"invalid connect params: {problem}"


def test_unknown_params_are_accepted():
    assert connect(modelCatalog={"sessionKey": "x"}, brandNew=1).id == "cli"


def test_roles_that_are_not_served_are_refused():
    assert refusal(role="node").shape.details["code"] == "ROLE_NOT_SERVED"


def test_a_wrong_token():
    shape = refusal(auth={"token": "guess"}).shape

    assert shape.code == "INVALID_REQUEST"
    assert shape.message == "unauthorized: gateway token mismatch (provide gateway auth token)"
    assert shape.details == {
        "code": "AUTH_TOKEN_MISMATCH",
        "authReason": "token_mismatch",
        "canRetryWithDeviceToken": True,
        "recommendedNextStep": "retry_with_device_token",
    }


@pytest.mark.parametrize("auth", [{}, {"token": ""}, {"token": None}, {"deviceToken": "x"}])
def test_no_token(auth):
    shape = refusal(auth=auth).shape

    assert shape.message == "unauthorized: gateway token missing (provide gateway auth token)"
    assert shape.details["code"] == "AUTH_TOKEN_MISSING"
    assert shape.details["recommendedNextStep"] == "update_auth_configuration"


def test_the_token_may_come_as_a_password():
    assert connect(auth={"password": "secret"}).id == "cli"


@pytest.mark.parametrize("origin", ["", "null", "file://", "http://["])
@pytest.mark.parametrize("client_id", ["openclaw-control-ui", "webchat-ui", "webchat"])
def test_a_browser_client_needs_an_origin(client_id, origin):
    refused = refusal({**CONTROL_UI, "id": client_id}, peer=Peer("127.0.0.1", origin=origin, host="127.0.0.1:1"))

    assert refused.shape.details == {"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": "origin missing or invalid"}


def test_a_foreign_page_is_refused_whatever_client_it_says_it_is():
    peer = Peer("127.0.0.1", origin="https://evil.example", host="127.0.0.1:18789")

    assert refusal(CLI, peer=peer).shape.details["reason"] == "origin not allowed"


@pytest.mark.parametrize(
    ("origin", "host", "address", "allowed", "problem"),
    [
        ("http://127.0.0.1:18789", "127.0.0.1:18789", "127.0.0.1", (), None),
        ("http://localhost:5173", "127.0.0.1:18789", "127.0.0.1", (), None),
        ("http://localhost:5173", "mobot.example", "127.0.0.1", (), "origin not allowed"),
        ("http://localhost:5173", "127.0.0.1:18789", "10.0.0.7", (), "origin not allowed"),
        ("https://mobot.example", "mobot.example", "10.0.0.7", (), None),
        ("https://ui.example", "mobot.example", "10.0.0.7", ("https://ui.example/",), None),
        ("https://UI.example", "mobot.example", "10.0.0.7", ("https://ui.example",), None),
        ("https://other.example", "mobot.example", "10.0.0.7", ("*",), None),
        ("https://ui.example.evil", "mobot.example", "10.0.0.7", ("https://ui.example",), "origin not allowed"),
        ("chrome-extension://abc", "mobot.example", "10.0.0.7", ("*",), "origin missing or invalid"),
    ],
)
def test_whose_pages_may_connect(origin, host, address, allowed, problem):
    assert origin_problem(Peer(address, origin=origin, host=host), allowed) == problem


def test_the_control_ui_needs_a_device():
    refused = refusal(CONTROL_UI, peer=PAGE)

    assert refused.shape.message.startswith("control ui requires device identity")
    assert refused.shape.details == {"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"}


def test_our_own_page_needs_none():
    assert connect({**CONTROL_UI, "id": "webchat"}, peer=PAGE).scopes == tuple(ALL)


@pytest.mark.parametrize("version", [2, 3])
def test_a_signed_device_is_known_by_its_id(version):
    device = Device()
    proof = device.proof(nonce="n", signed_at=NOW, client=CONTROL_UI, scopes=ALL, token="secret", version=version)

    client = connect(CONTROL_UI, peer=PAGE, device=proof)

    assert (client.device_id, client.scopes) == (device.id, tuple(ALL))


@pytest.mark.parametrize(
    ("change", "code", "reason", "message"),
    [
        ({"signature": "AAAA"}, "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature", "device signature invalid"),
        ({"nonce": "x"}, "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch", "device nonce mismatch"),
        ({"signedAt": 1}, "DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale", "device signature expired"),
    ],
)
def test_a_bad_proof_is_refused_as_what_it_is(change, code, reason, message):
    proof = Device().proof(nonce="n", signed_at=NOW, client=CLI, scopes=ALL, token="secret")

    shape = refusal(device={**proof, **change}).shape

    assert (shape.message, shape.details) == (message, {"code": code, "reason": reason})


def test_from_elsewhere_the_token_alone_connects_but_grants_nothing():
    assert connect(peer=Peer("10.0.0.7", host="mobot.example")).scopes == ()


def test_from_elsewhere_a_device_is_granted_its_scopes():
    proof = Device().proof(nonce="n", signed_at=NOW, client=CLI, scopes=ALL, token="secret")

    assert connect(peer=Peer("10.0.0.7"), device=proof).scopes == tuple(ALL)


def test_the_operator_may_loosen_or_tighten_that():
    assert connect(peer=Peer("10.0.0.7"), policy=HandshakePolicy(require_device="never")).scopes == tuple(ALL)
    refused = refusal(policy=HandshakePolicy(require_device="always"))
    assert refused.shape.details["code"] == "DEVICE_IDENTITY_REQUIRED"


def test_an_address_that_guesses_is_locked_out_even_with_the_right_token():
    time = Time()
    guarded = gate(monotonic=time, max_wrong=3)
    peer = Peer("10.0.0.7")
    for _ in range(3):
        refusal(auth={"token": "guess"}, peer=peer, token_gate=guarded)

    shape = refusal(peer=peer, token_gate=guarded).shape

    assert (shape.details["code"], shape.retryable, shape.retry_after_ms) == ("AUTH_RATE_LIMITED", True, 300_000)
    assert connect(peer=Peer("10.0.0.8"), token_gate=guarded).id == "cli"
    time.now_s = 301
    assert connect(peer=peer, token_gate=guarded).id == "cli"


def test_guesses_are_forgotten_after_a_minute_and_after_the_right_token():
    time = Time()
    guarded = gate(monotonic=time, max_wrong=2)
    peer = Peer("10.0.0.7")
    refusal(auth={"token": "guess"}, peer=peer, token_gate=guarded)
    time.now_s = 61
    refusal(auth={"token": "guess"}, peer=peer, token_gate=guarded)
    connect(peer=peer, token_gate=guarded)
    refusal(auth={"token": "guess"}, peer=peer, token_gate=guarded)

    assert connect(peer=peer, token_gate=guarded).id == "cli"


def test_a_stale_local_client_cannot_lock_out_the_machine_unless_told_so():
    lenient, strict = gate(max_wrong=1), gate(max_wrong=1, limit_loopback=True)
    refusal(auth={"token": "guess"}, token_gate=lenient)
    refusal(auth={"token": "guess"}, token_gate=strict)

    assert connect(token_gate=lenient).id == "cli"
    assert refusal(token_gate=strict).shape.details["code"] == "AUTH_RATE_LIMITED"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True),
        ("localhost", True), ("a.localhost", True), ("", True), ("10.0.0.1", False), ("::", False),
        ("0.0.0.0", False), ("localhost.evil", False), ("-", False), ("127.0.0.1.evil", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host, loopback):
    assert is_loopback(host) is loopback


def test_the_challenge_is_an_event_a_client_can_sign():
    handshake = Handshake(nonce="n", peer=LOCAL, gate=gate(), policy=HandshakePolicy())

    event = json.loads(frames.event("connect.challenge", frames.dump(handshake.challenge(NOW))))

    assert event["payload"]["nonce"] == "n"
    assert event["payload"]["ts"] == NOW
