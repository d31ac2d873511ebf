"""The handshake: what the first request must say, and who the client is afterwards. No I/O.

Checks run in this order, and the first that fails answers: method, params, protocol, role, origin, device, token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway import device, params, scopes
from gateway.auth import TokenGate, is_loopback
from gateway.errors import INVALID_REQUEST, ErrorShape
from gateway.frames import CloseCode, FrameInvalid, Request

LOWEST_PROTOCOL = 3
HIGHEST_PROTOCOL = 4

CLIENT_IDS = (
    "webchat-ui",
    "openclaw-control-ui",
    "openclaw-browser-copilot",
    "openclaw-tui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-linux",
    "openclaw-ios",
    "openclaw-watchos",
    "openclaw-android",
    "node-host",
    "openclaw-worker",
    "test",
    "fingerprint",
    "openclaw-probe",
)
CLIENT_MODES = ("webchat", "cli", "ui", "backend", "node", "worker", "probe", "test")
_CONTROL_UI = "openclaw-control-ui"
_BROWSER_CLIENT_IDS = frozenset({_CONTROL_UI, "webchat-ui", "webchat"})

_TEXT = params.Text(min_length=1)
_SECRET = params.Text(nullable=True)
CONNECT_RULES: params.Rules = {
    "minProtocol": params.Whole(required=True, minimum=1),
    "maxProtocol": params.Whole(required=True, minimum=1),
    "client": params.Group(
        {
            "id": params.Text(required=True, choices=CLIENT_IDS),
            "version": params.Text(required=True, min_length=1),
            "platform": params.Text(required=True, min_length=1),
            "mode": params.Text(required=True, choices=CLIENT_MODES),
            "displayName": _TEXT,
            "buildId": params.Text(min_length=1, max_length=96),
            "deviceFamily": _TEXT,
            "modelIdentifier": _TEXT,
            "timeZone": params.Text(min_length=1, max_length=64),
            "instanceId": _TEXT,
        },
        required=True,
    ),
    "role": _TEXT,
    "scopes": params.Texts(max_items=64),
    "caps": params.Texts(max_items=256),
    "auth": params.Group({"token": _SECRET, "password": _SECRET, "deviceToken": _SECRET}),
    "device": params.Group(
        {
            "id": params.Text(required=True, min_length=1, max_length=128),
            "publicKey": params.Text(required=True, min_length=1, max_length=128),
            "signature": params.Text(required=True, min_length=1, max_length=256),
            "signedAt": params.Whole(required=True, minimum=0),
            "nonce": params.Text(required=True, min_length=1, max_length=128),
        }
    ),
    "locale": params.Text(),
    "userAgent": params.Text(),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a socket comes from. `origin` and `host` are the headers as sent, "" when absent."""

    address: str
    origin: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of an accepted socket."""

    conn_id: str
    id: str
    mode: str
    version: str
    platform: str
    protocol: int
    role: str
    scopes: tuple[str, ...]
    caps: frozenset[str]
    address: str
    display_name: str = ""
    device_family: str = ""
    device_id: str = ""
    instance_id: str = ""


class HandshakeRefused(Exception):
    """`request_id` answers the frame; the socket is then closed with `close_code` and the message as reason."""

    def __init__(self, request_id: str, shape: ErrorShape, close_code: CloseCode = CloseCode.POLICY) -> None:
        super().__init__(shape.message)
        self.request_id = request_id
        self.shape = shape
        self.close_code = close_code


@dataclass(frozen=True, slots=True)
class HandshakePolicy:
    """`allowed_origins` are "https://host[:port]", or "*"; `require_device` is when a device identity is a must."""

    allowed_origins: Sequence[str] = ()
    require_device: str = "remote"


class Handshake:
    """One socket's handshake: make the challenge, then judge the first request."""

    def __init__(self, *, nonce: str, peer: Peer, gate: TokenGate, policy: HandshakePolicy) -> None:
        self._nonce = nonce
        self._peer = peer
        self._gate = gate
        self._policy = policy

    def challenge(self, now_ms: int) -> Mapping[str, object]:
        return {"nonce": self._nonce, "ts": now_ms, "capabilities": []}

    def refuse_frame(self, problem: FrameInvalid) -> HandshakeRefused:
        return self._refused(problem.request_id, problem.message)

    def accept(self, request: Request, *, conn_id: str, now_ms: int) -> Client:
        """Judges the first request.

        Raises:
            HandshakeRefused: with the answer and the close code.
        """
        if request.method != "connect":
            raise self._refused(request.id, "invalid handshake: first request must be connect")
        problems = params.problems_of(request.params, CONNECT_RULES)
        if problems:
            raise self._refused(request.id, f"invalid connect params: {'; '.join(problems)}")
        client: Mapping[str, Any] = request.params["client"]
        protocol = self._negotiate(request)
        role = request.params.get("role") or "operator"
        if role != "operator":
            # Nodes and workers of other gateways have nothing to attach to here; bots attach over gRPC.
            raise self._refused(request.id, f"role not served: {role[:64]}", code="ROLE_NOT_SERVED")
        self._check_origin(request.id, client)
        requested: Sequence[str] = request.params.get("scopes") or ()
        device_id = self._check_device(request, client, role, requested, now_ms)
        self._check_token(request)
        return Client(
            conn_id=conn_id,
            id=client["id"],
            mode=client["mode"],
            version=client["version"],
            platform=client["platform"],
            protocol=protocol,
            role=role,
            scopes=scopes.granted(requested) if device_id or self._deviceless_may_act() else (),
            caps=frozenset(request.params.get("caps") or ()),
            address=self._peer.address,
            display_name=client.get("displayName", ""),
            device_family=client.get("deviceFamily", ""),
            device_id=device_id,
            instance_id=client.get("instanceId", ""),
        )

    def _negotiate(self, request: Request) -> int:
        lowest, highest = request.params["minProtocol"], request.params["maxProtocol"]
        protocol = min(highest, HIGHEST_PROTOCOL)
        if protocol < max(lowest, LOWEST_PROTOCOL):
            details: dict[str, object] = {
                "clientMinProtocol": lowest,
                "clientMaxProtocol": highest,
                "expectedProtocol": HIGHEST_PROTOCOL,
                "minimumProbeProtocol": LOWEST_PROTOCOL,
            }
            raise self._refused(
                request.id,
                "protocol mismatch",
                code="PROTOCOL_MISMATCH",
                close_code=CloseCode.PROTOCOL_ERROR,
                **details,
            )
        return int(protocol)

    def _check_origin(self, request_id: str, client: Mapping[str, Any]) -> None:
        # A page in a browser cannot leave the Origin header out, so a header that is there is judged whatever the
        # client calls itself; a client that says it is a browser must have one.
        is_browser = client["id"] in _BROWSER_CLIENT_IDS or client["mode"] == "webchat"
        if not is_browser and not self._peer.origin:
            return
        reason = origin_problem(self._peer, self._policy.allowed_origins)
        if reason:
            raise self._refused(
                request_id,
                "origin not allowed (open the Control UI from the gateway host or allow it in "
                "gateway.controlUi.allowedOrigins)",
                code="CONTROL_UI_ORIGIN_NOT_ALLOWED",
                reason=reason,
            )

    def _check_device(
        self, request: Request, client: Mapping[str, Any], role: str, requested: Sequence[str], now_ms: int
    ) -> str:
        raw: Mapping[str, Any] | None = request.params.get("device")
        if raw is None:
            if client["id"] == _CONTROL_UI:
                raise self._refused(
                    request.id,
                    "control ui requires device identity (use HTTPS or localhost secure context)",
                    code="CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
                )
            if self._policy.require_device == "always":
                raise self._refused(request.id, "device identity required", code="DEVICE_IDENTITY_REQUIRED")
            return ""
        auth: Mapping[str, Any] = request.params.get("auth") or {}
        proof = device.DeviceProof(
            id=raw["id"],
            public_key=raw["publicKey"],
            signature=raw["signature"],
            signed_at_ms=raw["signedAt"],
            nonce=raw["nonce"],
        )
        context = device.SignedContext(
            client_id=client["id"],
            client_mode=client["mode"],
            role=role,
            scopes=requested,
            tokens=tuple(dict.fromkeys((auth.get("token") or "", auth.get("deviceToken") or ""))),
            platform=client["platform"],
            device_family=client.get("deviceFamily", ""),
        )
        try:
            device.verify(proof, context, nonce=self._nonce, now_ms=now_ms)
        except device.DeviceRefused as refusal:
            raise self._refused(request.id, refusal.message, code=refusal.code, reason=refusal.reason) from None
        return proof.id

    def _check_token(self, request: Request) -> None:
        wait_s = self._gate.retry_after_s(self._peer.address)
        if wait_s > 0:
            raise HandshakeRefused(
                request.id,
                ErrorShape(
                    INVALID_REQUEST,
                    "unauthorized: too many failed authentication attempts (retry later)",
                    {"code": "AUTH_RATE_LIMITED", "authReason": "rate_limited"},
                    retryable=True,
                    retry_after_ms=round(wait_s * 1000),
                ),
            )
        auth: Mapping[str, Any] = request.params.get("auth") or {}
        # The Control UI sends its one secret as token and as password; either is good.
        offered = [value for name in ("token", "password") if (value := auth.get(name))]
        if not offered:
            raise self._refused(
                request.id,
                "unauthorized: gateway token missing (provide gateway auth token)",
                code="AUTH_TOKEN_MISSING",
                authReason="token_missing",
                canRetryWithDeviceToken=False,
                recommendedNextStep="update_auth_configuration",
            )
        if not any(self._gate.matches(value) for value in offered):
            self._gate.wrong(self._peer.address)
            raise self._refused(
                request.id,
                "unauthorized: gateway token mismatch (provide gateway auth token)",
                code="AUTH_TOKEN_MISMATCH",
                authReason="token_mismatch",
                canRetryWithDeviceToken=True,
                recommendedNextStep="retry_with_device_token",
            )
        self._gate.right(self._peer.address)

    def _deviceless_may_act(self) -> bool:
        """Away from this machine the token alone grants no scopes, unless the operator said that it does."""
        return self._policy.require_device == "never" or is_loopback(self._peer.address)

    def _refused(
        self,
        request_id: str,
        message: str,
        *,
        close_code: CloseCode = CloseCode.POLICY,
        **details: object,
    ) -> HandshakeRefused:
        return HandshakeRefused(request_id, ErrorShape(INVALID_REQUEST, message, details), close_code)


def origin_problem(peer: Peer, allowed: Sequence[str]) -> str | None:
    """Why the peer's Origin header is not good enough, or None.

    Good are: one on the list, our own host, and any loopback page talking to us on loopback.
    """
    try:
        parts = urlsplit(peer.origin)
        hostname = parts.hostname
    except ValueError:
        return "origin missing or invalid"
    if parts.scheme not in ("http", "https") or not hostname:
        return "origin missing or invalid"
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if "*" in allowed or origin in (entry.lower().rstrip("/") for entry in allowed):
        return None
    if parts.netloc.lower() == peer.host.lower():
        return None
    if is_loopback(peer.address) and is_loopback(hostname) and is_loopback(urlsplit(f"//{peer.host}").hostname or "-"):
        return None
    return "origin not allowed"
