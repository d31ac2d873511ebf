"""What the stock clients ask, in their order and with their params, replayed against the gateway."""

import json
from pathlib import Path

import pytest
import websockets
from edge_client import EdgeClient, Refused
from edge_device import Device
from edge_oracle import check_frames

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
async def test_a_recorded_client_is_served(edge, path):
    recording = json.loads(path.read_text())
    origin = f"http://127.0.0.1:{edge.port}" if recording["origin"] else None
    async with websockets.connect(edge.url, origin=origin, compression=None, max_size=None) as socket:
        client = EdgeClient(socket)
        await connect(client, recording)
        for request in recording["requests"]:
            if "expect" in request:
                refused = await client.refusal(request["method"], request["params"])
                assert refused["message"].startswith(request["expect"])
                continue
            try:
                await client.call(request["method"], request["params"])
            except Refused as refused:
                raise AssertionError(f"{request}: {refused.error}") from refused
            if "final" in request:
                assert (await client.final(request["final"]))["state"] == "final"
        await client.close()
    check_frames(client.frames, client.methods)


async def connect(client, recording):
    low, high = recording["protocol"]
    more = {"caps": recording["caps"], "role": "operator", "locale": "en-US", "userAgent": "recorded"}
    challenge = json.loads(await client.socket.recv())["payload"]
    if recording["device"]:
        more["device"] = Device().proof(
            nonce=challenge["nonce"],
            signed_at=challenge["ts"],
            client=recording["client"],
            scopes=recording["scopes"],
            token="secret",
            version=3 if high >= 4 else 2,
        )
    params = {
        "minProtocol": low, "maxProtocol": high, "client": recording["client"], "scopes": recording["scopes"],
        "auth": {"token": "secret", "password": "secret"}, **more,
    }  # fmt: skip
    await client.begin(params)
