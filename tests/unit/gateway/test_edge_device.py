"""A device proves that it holds its key, now, for this connection."""

import pytest
from edge_device import Device, b64

from gateway.device import DeviceProof, DeviceRefused, SignedContext, verify

NOW = 1_800_000_000_000
NONCE = "n-1"
CLIENT = {"id": "openclaw-tui", "mode": "ui", "platform": " Linux ", "deviceFamily": "Linux"}
SCOPES = ("operator.read", "operator.write")


def context(**changes):
    fields = {
        "client_id": CLIENT["id"],
        "client_mode": CLIENT["mode"],
        "role": "operator",
        "scopes": SCOPES,
        "tokens": ("secret", ""),
        "platform": CLIENT["platform"],
        "device_family": CLIENT["deviceFamily"],
    }
    return SignedContext(**{**fields, **changes})


def proof_of(device, **changes):
    fields = {"nonce": NONCE, "signed_at": NOW, "client": CLIENT, "scopes": SCOPES, "token": "secret", "version": 3}
    raw = device.proof(**{**fields, **changes})
    return DeviceProof(raw["id"], raw["publicKey"], raw["signature"], raw["signedAt"], raw["nonce"])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("token", ["secret", ""])
@pytest.mark.parametrize("skew_ms", [-120_000, 0, 120_000])
def test_a_signature_of_layout_two_or_three_is_accepted(version, token, skew_ms):
    proof = proof_of(Device(), version=version, token=token, signed_at=NOW + skew_ms)

    verify(proof, context(), nonce=NONCE, now_ms=NOW)


def refusal(proof, signed=None):
    with pytest.raises(DeviceRefused) as refused:
        verify(proof, signed or context(), nonce=NONCE, now_ms=NOW)
    return refused.value.code


def test_another_nonce_is_refused():
    assert refusal(proof_of(Device(), nonce="n-2")) == "DEVICE_AUTH_NONCE_MISMATCH"


@pytest.mark.parametrize("skew_ms", [-120_001, 120_001, -10_000_000])
def test_an_old_or_future_signature_is_refused(skew_ms):
    assert refusal(proof_of(Device(), signed_at=NOW + skew_ms)) == "DEVICE_AUTH_SIGNATURE_EXPIRED"


def test_the_layout_without_a_nonce_is_refused_because_it_could_be_replayed():
    assert refusal(proof_of(Device(), version=1)) == "DEVICE_AUTH_SIGNATURE_INVALID"


def test_an_id_that_is_not_the_keys_hash_is_refused():
    proof = proof_of(Device())
    other = DeviceProof(Device().id, proof.public_key, proof.signature, proof.signed_at_ms, proof.nonce)

    assert refusal(other) == "DEVICE_AUTH_DEVICE_ID_MISMATCH"


@pytest.mark.parametrize("key", ["", "!!!", b64(b"short"), b64(bytes(33)), "é"])
def test_a_malformed_public_key_is_refused(key):
    proof = proof_of(Device())
    bad = DeviceProof(proof.id, key, proof.signature, proof.signed_at_ms, proof.nonce)

    assert refusal(bad) == "DEVICE_AUTH_PUBLIC_KEY_INVALID"


@pytest.mark.parametrize("signature", ["", "!!!", b64(bytes(64)), b64(bytes(10))])
def test_a_malformed_signature_is_refused(signature):
    proof = proof_of(Device())
    bad = DeviceProof(proof.id, proof.public_key, signature, proof.signed_at_ms, proof.nonce)

    assert refusal(bad) == "DEVICE_AUTH_SIGNATURE_INVALID"


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "cli"},
        {"client_mode": "cli"},
        {"role": "node"},
        {"scopes": ("operator.admin",)},
        {"tokens": ("other",)},
        {"platform": "mac"},
        {"device_family": "iPad"},
    ],
)
def test_a_signature_over_something_else_is_refused(change):
    assert refusal(proof_of(Device()), context(**change)) == "DEVICE_AUTH_SIGNATURE_INVALID"
