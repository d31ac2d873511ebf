"""A device of the tests: its own key pair, and signatures made independently of the code under test."""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Device:
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return hashlib.sha256(self.public_key).hexdigest()

    def proof(self, *, nonce, signed_at, client, role="operator", scopes=(), token="", version=3):
        fields = [
            f"v{version}", self.id, client["id"], client["mode"], role, ",".join(scopes), str(signed_at), token,
        ]  # fmt: skip
        if version >= 2:
            fields.append(nonce)
        if version >= 3:
            fields += [client["platform"].strip().lower(), client.get("deviceFamily", "").strip().lower()]
        return {
            "id": self.id,
            "publicKey": b64(self.public_key),
            "signature": b64(self.key.sign("|".join(fields).encode())),
            "signedAt": signed_at,
            "nonce": nonce,
        }
