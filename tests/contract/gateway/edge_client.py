"""A client of the gateway as a test drives it: requests by method, events by name, frames kept for checking."""

import asyncio
import itertools
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import websockets
from edge_oracle import check_frames

sys.path.append(str(Path(__file__).parents[2] / "unit" / "gateway"))

ALL_SCOPES = [
    "operator.read", "operator.write", "operator.admin", "operator.approvals", "operator.questions",
]  # fmt: skip
CLI = {"id": "cli", "mode": "cli", "version": "1", "platform": "linux"}
PATIENCE_S = 10.0


class Refused(Exception):
    def __init__(self, error, payload=None):
        super().__init__(error["message"])
        self.error = error
        self.payload = payload


class EdgeClient:
    """One socket. `frames` keeps everything heard, in order."""

    def __init__(self, socket):
        self.socket = socket
        self.frames = []
        self.hello = None
        self.methods = {"0": "connect"}
        self._ids = itertools.count(1)
        self._heard = asyncio.Condition()
        self._reader = None

    async def handshake(self, *, client=CLI, scopes=None, token="secret", low=4, high=4, **more):
        challenge = json.loads(await self.socket.recv())
        self.frames.append(challenge)
        params = {
            "minProtocol": low,
            "maxProtocol": high,
            "client": client,
            "scopes": ALL_SCOPES if scopes is None else scopes,
            "auth": {"token": token},
            **more,
        }
        return await self.begin(params)

    async def begin(self, params):
        """Sends the connect request as it is and begins to listen."""
        await self.socket.send(json.dumps({"type": "req", "id": "0", "method": "connect", "params": params}))
        answer = json.loads(await self.socket.recv())
        self.frames.append(answer)
        if not answer["ok"]:
            raise Refused(answer["error"])
        self.hello = answer["payload"]
        self._reader = asyncio.create_task(self._read())
        return self

    async def close(self):
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.socket.close()

    async def post(self, method, params=None, *, request_id=None):
        """Sends without waiting for the answer; returns the request's id."""
        request_id = request_id or str(next(self._ids))
        self.methods[request_id] = method
        frame = {"type": "req", "id": request_id, "method": method, "params": params or {}}
        await self.socket.send(json.dumps(frame))
        return request_id

    async def call(self, method, params=None):
        return await self.answer(await self.post(method, params))

    async def answer(self, request_id, *, nth=1):
        """The payload of the nth response to a request."""
        frames = await self.until(
            lambda heard: [f for f in heard if f["type"] == "res" and f["id"] == request_id], count=nth
        )
        frame = frames[nth - 1]
        if not frame["ok"]:
            raise Refused(frame["error"], frame.get("payload"))
        return frame["payload"]

    async def refusal(self, method, params=None):
        try:
            payload = await self.call(method, params)
        except Refused as refused:
            return refused.error
        raise AssertionError(f"{method} was answered: {payload}")

    def events(self, name, **fields):
        """Payloads of the events heard so far whose payload has these fields."""
        return [
            frame["payload"]
            for frame in self.frames
            if frame.get("event") == name and all(frame["payload"].get(key) == value for key, value in fields.items())
        ]

    async def event(self, name, *, nth=1, **fields):
        found = await self.until(lambda _: self.events(name, **fields), count=nth)
        return found[nth - 1]

    async def final(self, run):
        """The terminal chat event of a run."""
        ends = ("final", "aborted", "error")
        found = await self.until(lambda _: [e for e in self.events("chat", runId=run) if e["state"] in ends])
        return found[0]

    async def until(self, find, *, count=1):
        async with asyncio.timeout(PATIENCE_S), self._heard:
            while len(found := find(self.frames)) < count:
                await self._heard.wait()
            return found

    async def _read(self):
        async for text in self.socket:
            async with self._heard:
                self.frames.append(json.loads(text))
                self._heard.notify_all()


@asynccontextmanager
async def connected(url, *, origin=None, **options):
    async with websockets.connect(url, origin=origin, compression=None, max_size=None) as socket:
        client = EdgeClient(socket)
        try:
            yield await client.handshake(**options)
        finally:
            await client.close()
            check_frames(client.frames, client.methods)
