"""One socket from its challenge to its end: handshake, a read loop, a single writer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.waiting import within
from gateway import errors, frames, scopes
from gateway.frames import CloseCode, FrameInvalid, Request
from gateway.handshake import Client, Handshake, HandshakeRefused
from gateway.outbox import Event, Goodbye, Outbox, SlowConsumer, StreamDelta
from gateway.socket_adapter import Socket, SocketClosed

logger = logging.getLogger(__name__)

# A client that neither reads nor answers our close is not waited for longer.
_FAREWELL_S = 5.0
_LAST_ANSWERS_S = 1.0
# What waits is written together, up to so much: more would wait in the buffer of the socket, where no delta is joined.
_WRITE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    preauth_timeout_s: float
    max_requests: int
    max_queued_frames: int


class Connection:
    """An accepted client and its socket. Created by `open_connection`, so there is always a client."""

    def __init__(self, socket: Socket, client: Client, limits: Limits) -> None:
        self.client = client
        self.may_read = scopes.allows(client.scopes, scopes.READ)
        self.wants_sessions = False
        self.message_keys: set[str] = set()
        self._socket = socket
        self._outbox = Outbox(max_frames=limits.max_queued_frames)
        self._slots = asyncio.Semaphore(limits.max_requests)
        self._running: set[asyncio.Task[None]] = set()
        self._ended = False
        # The writer waits for something to write: what is sent now goes past nothing.
        self._idle = False
        self._closed = asyncio.Event()

    # Sending. None of these wait; a socket that cannot keep up is closed instead.

    def send_event(self, event: Event) -> None:
        if not self._ended:
            try:
                self._outbox.put_event(event)
            except SlowConsumer as slow:
                self._give_up(slow)

    def send_delta(self, delta: StreamDelta, payloads: tuple[bytes, bytes]) -> None:
        if not self._ended:
            try:
                self._outbox.put_delta(delta, payloads)
            except SlowConsumer as slow:
                self._give_up(slow)

    def respond(self, frame: bytes) -> None:
        if not self._ended:
            # An answer with nothing before it need not wait for the writer's turn among all that its request set going.
            if self._idle and self._outbox.is_empty and self._socket.send_now(frame):
                return
            try:
                self._outbox.put_response(frame)
            except SlowConsumer as slow:
                self._give_up(slow)

    async def serve(self, dispatch: "Dispatch") -> None:
        """Reads requests and writes frames until the socket ends. Requests still running are then cancelled."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write())
            try:
                while True:
                    text = await self._socket.receive()
                    # Reading stops while this many requests run: the client waits, not our memory.
                    await self._slots.acquire()
                    task = tasks.create_task(self._answer(text, dispatch))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except SocketClosed:
                pass
            finally:
                self._ended = True
                self._closed.set()
                writer.cancel()
                for task in self._running:
                    task.cancel()

    async def farewell(self, event: Event, code: CloseCode, reason: str) -> None:
        """Sends a last event and closes once everything queued is written, or after a few seconds anyway.

        Requests that are nearly done get their answer; those that wait for something long do not.
        """
        self.send_event(event)
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=_LAST_ANSWERS_S)
        self._outbox.put_goodbye(Goodbye(code, reason))
        if not await within(_FAREWELL_S, self._closed.wait()):
            self._socket.fail(code, reason)

    async def _answer(self, text: str | bytes, dispatch: "Dispatch") -> None:
        try:
            try:
                request = frames.parse_request(text)
            except FrameInvalid as problem:
                shape = errors.ErrorShape(errors.INVALID_REQUEST, problem.message)
                self.respond(frames.error_response(problem.request_id, shape.to_json()))
                return
            await dispatch(self, request)
        finally:
            self._slots.release()

    async def _write(self) -> None:
        try:
            while True:
                self._idle = True
                item: bytes | Goodbye | None = await self._outbox.take()
                self._idle = False
                ready: list[bytes] = []
                size = 0
                while isinstance(item, bytes):
                    ready.append(item)
                    size += len(item)
                    item = self._outbox.take_waiting() if size < _WRITE_BYTES else None
                if ready:
                    await self._socket.send(ready)
                if item is not None:
                    await self._socket.close(item.code, item.reason)
                    return
        except SocketClosed:
            return

    def _give_up(self, slow: SlowConsumer) -> None:
        self._ended = True
        logger.warning(
            "slow consumer closed",
            extra={
                "conn_id": self.client.conn_id,
                "client": self.client.id,
                "queued_frames": slow.queued_frames,
                "queued_bytes": slow.queued_bytes,
            },
        )
        self._socket.fail(CloseCode.POLICY, "slow consumer")


# Answers one request through the connection's `respond`; raises nothing but cancellation.
Dispatch = Callable[[Connection, Request], Awaitable[None]]


async def open_connection(
    socket: Socket,
    handshake: Handshake,
    *,
    limits: Limits,
    clock: Clock,
    conn_id: str,
) -> "tuple[Connection, Request] | None":
    """Runs the handshake. None when it failed: the client was told and the socket closed.

    The caller answers the returned request with hello-ok.
    """
    try:
        challenge = frames.dump(handshake.challenge(_now_ms(clock)))
        await socket.send([frames.event("connect.challenge", challenge)])
        try:
            async with asyncio.timeout(limits.preauth_timeout_s):
                text = await socket.receive()
        except TimeoutError:
            await socket.close(CloseCode.NORMAL, "")
            return None
        try:
            request = frames.parse_request(text)
            client = handshake.accept(request, conn_id=conn_id, now_ms=_now_ms(clock))
        except FrameInvalid as problem:
            if not problem.is_json:
                await socket.close(CloseCode.NORMAL, "")
                return None
            raise handshake.refuse_frame(problem) from None
    except HandshakeRefused as refusal:
        logger.info(
            "handshake refused",
            extra={"peer": socket.peer.address, "reason": str(refusal.shape.details.get("code", refusal.shape.code))},
        )
        await _refuse(socket, refusal)
        return None
    except SocketClosed:
        return None
    socket.lift_message_limit()
    return Connection(socket, client, limits), request


async def _refuse(socket: Socket, refusal: HandshakeRefused) -> None:
    try:
        await socket.send([frames.error_response(refusal.request_id, refusal.shape.to_json())])
    except SocketClosed:
        return
    await socket.close(refusal.close_code, refusal.shape.message)


def _now_ms(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)
