"""A WebSocket as the gateway sees it, and the one server it comes from today: uvicorn with `websockets` sans-I/O.

Everything that knows the server is here, so that another one means another adapter and nothing else.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request as HttpRequest

from gateway.frames import MAX_PAYLOAD_BYTES, MAX_PREAUTH_BYTES, close_reason
from gateway.handshake import Peer

# How long a client that we gave up on may take to read what is in its buffers and see why.
_LINGER_S = 5.0
_TRANSPORT = "mobot.transport"


class SocketClosed(Exception):
    """The peer is gone, or the socket was closed from here."""

    def __init__(self, code: int) -> None:
        super().__init__(f"socket closed with code {code}")
        self.code = code


class Socket(Protocol):
    """One accepted WebSocket of text frames."""

    @property
    def peer(self) -> Peer: ...

    async def receive(self) -> str | bytes:
        """The next message. Raises SocketClosed."""

    async def send(self, frames: Sequence[bytes]) -> None:
        """Writes text frames of UTF-8 at once; waits while the peer does not read. Raises SocketClosed."""

    def send_now(self, frame: bytes) -> bool:
        """Writes one text frame if the peer reads and nothing waits before it; otherwise False, and nothing is sent."""

    async def close(self, code: int, reason: str) -> None:
        """Says goodbye after what was sent. Never raises."""

    def fail(self, code: int, reason: str) -> None:
        """Gives the peer up at once, also when it does not read: nothing waits for it longer than seconds."""

    def lift_message_limit(self) -> None:
        """Lets messages grow from the limit for strangers to the limit for clients."""


class GatewayWebSocketProtocol(WebSocketsSansIOProtocol):
    """The server's protocol with more: a message limit that changes, many frames in one write, giving a peer up."""

    def handle_connect(self, event: HttpRequest) -> None:
        # Refused by the frame parser, before a stranger's message is in memory.
        self.conn.max_message_size = MAX_PREAUTH_BYTES
        super().handle_connect(event)
        if self.handshake_complete:  # refused
            return
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[_TRANSPORT] = self

    def lift_message_limit(self) -> None:
        self.conn.max_message_size = MAX_PAYLOAD_BYTES

    def send_receive_event_to_app(self) -> None:
        # The original stops reading after each message and starts again when it is taken: two system calls for each.
        # Here only a message behind one that is not taken yet stops it.
        paused, behind = self.read_paused, not self.queue.empty()
        self.read_paused = True
        super().send_receive_event_to_app()
        self.read_paused = paused
        if behind and not paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Past the layers between: a call of theirs, and a write to the socket, for each frame took longer than the
        rest of sending it. Raises SocketClosed."""
        await self.writable.wait()
        if self.close_sent or self.disconnected:
            raise SocketClosed(1006)
        try:
            for frame in frames:
                self.conn.send_text(frame)
        except InvalidState:  # the peer has begun to close
            raise SocketClosed(1006) from None
        self.transport.write(b"".join(self.conn.data_to_send()))

    def send_now(self, frame: bytes) -> bool:
        if not self.writable.is_set() or self.close_sent or self.disconnected:
            return False
        try:
            self.conn.send_text(frame)
        except InvalidState:  # the peer has begun to close
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def fail(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            self.transport.abort()
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = asyncio.get_running_loop().call_later(_LINGER_S, self.transport.abort)


class UvicornSocket:
    """A `Socket` on a Starlette WebSocket served through GatewayWebSocketProtocol."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._transport = cast(GatewayWebSocketProtocol, websocket.scope["extensions"][_TRANSPORT])
        client = websocket.client
        self._peer = Peer(
            address=client.host if client else "",
            origin=websocket.headers.get("origin", ""),
            host=websocket.headers.get("host", ""),
        )

    @property
    def peer(self) -> Peer:
        return self._peer

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SocketClosed(message.get("code") or 1005)
        text = message.get("text")
        return cast("str | bytes", text if text is not None else message["bytes"])

    async def send(self, frames: Sequence[bytes]) -> None:
        await self._transport.send_frames(frames)

    def send_now(self, frame: bytes) -> bool:
        return self._transport.send_now(frame)

    async def close(self, code: int, reason: str) -> None:
        if self._transport.close_sent or self._transport.disconnected:
            return
        try:
            await self._websocket.close(code, close_reason(reason))
        except WebSocketDisconnect:
            return

    def fail(self, code: int, reason: str) -> None:
        self._transport.fail(code, close_reason(reason))

    def lift_message_limit(self) -> None:
        self._transport.lift_message_limit()
