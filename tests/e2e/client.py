"""Clients of the gateway that outlive it: they reconnect, go on watching after their last token, and keep every event.

Frames have the shape of those that the stock command line was recorded to send.
"""

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

SCOPES = ("operator.admin", "operator.read", "operator.write")
ENDS = ("final", "aborted", "error")
PATIENCE_S = 30.0
_RECONNECT_S = 0.1

T = TypeVar("T")


class Refused(Exception):
    """The gateway answered `ok: false`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.error = error


class Disconnected(Exception):
    """The socket ended before the answer came: nobody knows whether it was done."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One event. `sequence` is its session's log sequence when it came through the resumable watch, else None."""

    event: str
    payload: dict[str, Any]
    sequence: int | None = None


class Client:
    """Keeps itself connected until `close`.

    Heard events are in `plain` (what every client gets) and, for a watching client, in `watched` (what its own
    resumable stream brought). `token` is where its watch goes on after a disconnect.
    """

    def __init__(self, url: str, token: str, *, watching: bool = False) -> None:
        self._url = url
        self._token = token
        self._watching = watching
        self._ids = itertools.count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._socket: ClientConnection | None = None
        self._changed = asyncio.Condition()
        self._keeper: asyncio.Task[None] | None = None
        self.token = ""
        self.connections = 0
        self.plain: list[Heard] = []
        self.watched: list[Heard] = []
        self.resets: list[dict[str, Any]] = []
        self._ends: dict[str, list[dict[str, Any]]] = {}

    async def open(self) -> None:
        self._keeper = asyncio.create_task(self._keep_connected())
        await self.until(lambda: self._socket is not None)

    async def close(self) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    async def call(self, method: str, params: dict[str, Any], *, timeout_s: float = PATIENCE_S) -> Any:
        """The payload of the answer.

        Raises:
            Refused: the gateway said no.
            Disconnected: the socket ended first.
        """
        socket = self._socket
        if socket is None:
            raise Disconnected(method)
        return await self._request(socket, method, params, timeout_s)

    async def insist(self, method: str, params: dict[str, Any], *, timeout_s: float = PATIENCE_S) -> Any:
        """Calls again and again, over new sockets and past answers that say "try again", until there is an answer.

        Only for calls that may be repeated: reads, and sends with an idempotency key.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                await self.until(lambda: self._socket is not None, timeout_s=timeout_s)
                try:
                    return await self.call(method, params, timeout_s=timeout_s)
                except Disconnected:
                    continue
                except Refused as refused:
                    if not refused.error.get("retryable"):
                        raise
                    await asyncio.sleep(refused.error.get("retryAfterMs", 100) / 1000)

    async def send(self, key: str, text: str, run: str, **more: object) -> dict[str, Any]:
        """chat.send until it is acknowledged."""
        params = {"sessionKey": key, "message": text, "deliver": False, "idempotencyKey": run, **more}
        answer: dict[str, Any] = await self.insist("chat.send", params)
        return answer

    async def history(self, key: str) -> list[dict[str, Any]]:
        answer = await self.insist("chat.history", {"sessionKey": key, "limit": 1000})
        messages: list[dict[str, Any]] = answer["messages"]
        return messages

    async def until(self, find: Callable[[], T], *, timeout_s: float = PATIENCE_S) -> T:
        """Waits until `find` is true; it is asked again whenever something was heard."""
        async with asyncio.timeout(timeout_s), self._changed:
            while not (found := find()):
                await self._changed.wait()
            return found

    async def ended(self, run: str, *, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The first terminal chat event of a run, on the resumable stream of a watching client."""
        found = await self.until(lambda: self.ends(run), timeout_s=timeout_s)
        return found[0]

    async def streamed(self, run: str, *, words: int = 3) -> str:
        """The text so far of a run that is in the middle of its answer."""

        def text() -> str:
            heard = [each.payload for each in self._heard() if _is_delta(each, run)]
            return text_of(heard[-1]["message"]) if heard else ""

        return await self.until(lambda: text() if len(text().split()) >= words else "")

    def ends(self, run: str) -> list[dict[str, Any]]:
        """Every terminal chat event of a run so far; there should never be a second."""
        return self._ends.get(run, [])

    def _heard(self) -> list[Heard]:
        return self.watched if self._watching else self.plain

    async def _keep_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException, Refused, Disconnected, TimeoutError):
                async with connect(self._url, max_size=None, compression=None, open_timeout=40) as socket:
                    await self._converse(socket)
            await asyncio.sleep(_RECONNECT_S)

    async def _converse(self, socket: ClientConnection) -> None:
        async with asyncio.timeout(40):
            challenge = json.loads(await socket.recv())
        assert challenge["event"] == "connect.challenge"
        reader = asyncio.create_task(self._read(socket))
        try:
            await self._request(socket, "connect", _connect_params(self._token), 10)
            if self._watching:
                if not self.token:
                    self.token = (await self._request(socket, "sessions.list", {"limit": 1}, 10))["watchToken"]
                await self._request(socket, "mobot.watch", {"after": self.token}, 10)
            async with self._changed:
                self._socket = socket
                self.connections += 1
                self._changed.notify_all()
            await reader
        finally:
            if self._socket is socket:
                self._socket = None
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _request(self, socket: ClientConnection, method: str, params: dict[str, Any], timeout_s: float) -> Any:
        number = f"{next(self._ids)}:{uuid.uuid4()}"
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await socket.send(json.dumps({"type": "req", "id": number, "method": method, "params": params}))
            async with asyncio.timeout(timeout_s):
                frame = await answer
        except WebSocketException as error:
            if self._socket is socket:
                self._socket = None  # known here before the reader has run
            raise Disconnected(method) from error
        finally:
            self._answers.pop(number, None)
        if not frame["ok"]:
            raise Refused(frame["error"])
        return frame.get("payload")

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                frame = json.loads(text)
                async with self._changed:
                    self._take(frame)
                    self._changed.notify_all()
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Disconnected("the gateway closed the socket"))

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "res":
            answer = self._answers.get(frame["id"])
            if answer is not None and not answer.done():
                answer.set_result(frame)
        elif frame["event"] == "mobot.event":
            payload = frame["payload"]
            assert "error" not in payload, payload
            # Events and token of one frame are taken together: that is what makes "each once" possible.
            for item in payload["items"]:
                self._note(self.watched, Heard(item["event"], item["payload"], item.get("sequence")))
            self.token = payload["token"] or self.token
            if "reset" in payload:
                self.resets.append(payload["reset"])
        else:
            self._note(self.plain, Heard(frame["event"], frame.get("payload", {})))

    def _note(self, kept: list[Heard], heard: Heard) -> None:
        kept.append(heard)
        if kept is self._heard() and heard.event == "chat" and heard.payload["state"] in ENDS:
            self._ends.setdefault(heard.payload["runId"], []).append(heard.payload)


@asynccontextmanager
async def connected(url: str, token: str, *, watching: bool = False) -> AsyncIterator[Client]:
    client = Client(url, token, watching=watching)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


def text_of(message: dict[str, Any]) -> str:
    """The text of a message of either content shape."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


def _is_delta(heard: Heard, run: str) -> bool:
    return heard.event == "chat" and heard.payload["runId"] == run and heard.payload["state"] == "delta"


def _connect_params(token: str) -> dict[str, Any]:
    return {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {
            "id": "cli",
            "version": "2026.9.6",
            "platform": "linux",
            "deviceFamily": "Linux",
            "mode": "cli",
            "instanceId": str(uuid.uuid4()),
        },
        "caps": ["tool-events"],
        "auth": {"token": token},
        "role": "operator",
        "scopes": list(SCOPES),
    }
