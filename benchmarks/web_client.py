"""A small OpenClaw client as the stock command line is one: no device, loopback, the shared token."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


class RequestRefused(Exception):
    """The gateway answered `ok: false`."""


class WebClient:
    """`async with WebClient(url, token) as client: await client.call("health", {})`."""

    def __init__(self, url: str, token: str, *, on_event: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._url = url
        self._token = token
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._pending: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> "WebClient":
        self._socket: ClientConnection = await connect(self._url, max_size=None, compression=None, open_timeout=5)
        try:
            await self._socket.recv()  # the challenge; a client without a device signs nothing
            self._reader = asyncio.create_task(self._read())
            await self.call(
                "connect",
                {
                    "minProtocol": 4,
                    "maxProtocol": 4,
                    "client": {"id": "cli", "version": "2026.9.6", "platform": "linux", "mode": "cli"},
                    "role": "operator",
                    "scopes": ["operator.admin", "operator.read", "operator.write"],
                    "caps": [],
                    "auth": {"token": self._token},
                },
            )
        except BaseException:
            self._reader.cancel()
            await self._socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def call(self, method: str, params: dict[str, Any], *, timeout_s: float = 60) -> Any:
        """The payload of the answer."""
        number = str(next(self._numbers))
        answer = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(
                orjson.dumps({"type": "req", "id": number, "method": method, "params": params}).decode()
            )
            frame = await asyncio.wait_for(answer, timeout_s)
        finally:
            self._pending.pop(number, None)
        if not frame["ok"]:
            raise RequestRefused(frame["error"])
        return frame.get("payload")

    async def closed(self) -> None:
        """Returns when the socket is closed, by whomever."""
        await asyncio.wait((self._reader,))

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                frame = orjson.loads(text)
                if frame["type"] == "res":
                    answer = self._pending.pop(frame["id"], None)
                    if answer is not None and not answer.done():
                        answer.set_result(frame)
                elif self._on_event is not None:
                    self._on_event(frame)
        except ConnectionClosed:
            pass  # told to the callers below
        finally:
            for answer in self._pending.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the gateway closed the socket"))
