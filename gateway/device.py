"""Device identity: an Ed25519 key pair whose holder signed our challenge."""

import binascii
import hashlib
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Reference clients sign when they receive the challenge; two minutes cover clocks that are a little off.
MAX_SKEW_MS = 120_000

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class DeviceProof:
    """`connect.params.device`: `id` is the hex SHA-256 of the raw public key; key and signature are base64url."""

    id: str
    public_key: str
    signature: str
    signed_at_ms: int
    nonce: str


@dataclass(frozen=True, slots=True)
class SignedContext:
    """Everything else under the signature. `tokens` are the secrets the client may have signed with, "" for none."""

    client_id: str
    client_mode: str
    role: str
    scopes: Sequence[str]
    tokens: Sequence[str]
    platform: str
    device_family: str


class DeviceRefused(Exception):
    """`code` and `reason` are the wire strings of the refusal."""

    def __init__(self, message: str, *, code: str, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason


def verify(proof: DeviceProof, context: SignedContext, *, nonce: str, now_ms: int) -> None:
    """Checks nonce, age, id and signature, in this order.

    Signed strings of layout v3 and v2 are accepted, and v1 (which lacks the nonce) never: this server always
    sends a challenge, so a v1 signature could only be a replay.

    Raises:
        DeviceRefused: for the first check that fails.
    """
    if not hmac.compare_digest(proof.nonce.encode(), nonce.encode()):
        raise DeviceRefused("device nonce mismatch", code="DEVICE_AUTH_NONCE_MISMATCH", reason="device-nonce-mismatch")
    if abs(now_ms - proof.signed_at_ms) > MAX_SKEW_MS:
        raise DeviceRefused(
            "device signature expired", code="DEVICE_AUTH_SIGNATURE_EXPIRED", reason="device-signature-stale"
        )
    raw_key = _decode(proof.public_key)
    if raw_key is None or len(raw_key) != _KEY_BYTES:
        raise DeviceRefused(
            "device public key invalid", code="DEVICE_AUTH_PUBLIC_KEY_INVALID", reason="device-public-key"
        )
    if not hmac.compare_digest(hashlib.sha256(raw_key).hexdigest().encode(), proof.id.lower().encode()):
        raise DeviceRefused(
            "device identity mismatch", code="DEVICE_AUTH_DEVICE_ID_MISMATCH", reason="device-id-mismatch"
        )
    signature = _decode(proof.signature)
    if signature is None or len(signature) != _SIGNATURE_BYTES or not _signed(raw_key, signature, proof, context):
        raise DeviceRefused("device signature invalid", code="DEVICE_AUTH_SIGNATURE_INVALID", reason="device-signature")


def signed_payload(proof: DeviceProof, context: SignedContext, *, token: str, version: int) -> str:
    """The string a client signs, layout 2 or 3."""
    fields = [
        f"v{version}",
        proof.id,
        context.client_id,
        context.client_mode,
        context.role,
        ",".join(context.scopes),
        str(proof.signed_at_ms),
        token,
        proof.nonce,
    ]
    if version >= 3:
        fields += [_normalise(context.platform), _normalise(context.device_family)]
    return "|".join(fields)


def _signed(raw_key: bytes, signature: bytes, proof: DeviceProof, context: SignedContext) -> bool:
    key = Ed25519PublicKey.from_public_bytes(raw_key)
    for version in (3, 2):
        for token in context.tokens:
            try:
                key.verify(signature, signed_payload(proof, context, token=token, version=version).encode())
            except InvalidSignature:
                continue
            return True
    return False


def _decode(text: str) -> bytes | None:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None


def _normalise(text: str) -> str:
    # ASCII lower case only: the clients do not fold other letters.
    return "".join(char.lower() if char.isascii() else char for char in text.strip())
