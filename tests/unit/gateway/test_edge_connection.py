"""What one socket is sent, and in which order: an answer goes past nothing that was there before it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.connection import Connection, Limits
from gateway.handshake import Client
from gateway.outbox import Event
from gateway.socket_adapter import SocketClosed


class FakeSocket:
    """Keeps what is written; `reads` says whether its peer takes anything at the moment."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.at_once = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.wrote = asyncio.Event()
        self.over = asyncio.Event()

    async def receive(self) -> str:
        await self.over.wait()
        raise SocketClosed(1000)

    async def send(self, written: Sequence[bytes]) -> None:
        self.written.extend(written)
        self.wrote.set()
        await self.reads.wait()

    def send_now(self, frame: bytes) -> bool:
        if not self.reads.is_set():
            return False
        self.at_once += 1
        self.written.append(frame)
        return True

    async def close(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed: {code} {reason}")

    def fail(self, code: int, reason: str) -> None:
        raise AssertionError(f"failed: {code} {reason}")


async def _refuse(connection: Connection, request: object) -> None:
    raise AssertionError(f"{connection} was asked {request}")


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Connection, FakeSocket]]:
    socket = FakeSocket()
    client = Client("c1", "cli", "cli", "1", "linux", 4, "operator", ("operator.read",), frozenset(), "127.0.0.1")
    connection = Connection(socket, client, Limits(preauth_timeout_s=5, max_requests=8, max_queued_frames=100))
    serving = asyncio.create_task(connection.serve(_refuse))
    await asyncio.sleep(0)  # the server's task begins, and with the next turn
    await asyncio.sleep(0)  # the writer's: it waits for something to write
    yield connection, socket
    socket.over.set()
    await serving


async def _written(socket: FakeSocket, count: int) -> list[bytes]:
    async with asyncio.timeout(30):
        while len(socket.written) < count:
            socket.wrote.clear()
            await socket.wrote.wait()
    return socket.written


async def test_an_answer_with_nothing_before_it_is_written_at_once() -> None:
    async with served() as (connection, socket):
        connection.respond(b"answer")
        assert socket.written == [b"answer"]


async def test_an_answer_does_not_go_past_an_event_that_waits() -> None:
    async with served() as (connection, socket):
        connection.send_event(Event("health", b"{}"))
        connection.respond(b"answer")
        written = await _written(socket, 2)
        assert b'"health"' in written[0]
        assert written[1] == b"answer"


async def test_an_answer_does_not_go_past_what_is_being_written() -> None:
    async with served() as (connection, socket):
        socket.reads.clear()
        connection.send_event(Event("health", b"{}"))
        await _written(socket, 1)
        socket.reads.set()  # the peer reads again, and the writer does not know it yet
        connection.respond(b"answer")
        assert socket.at_once == 0
        assert (await _written(socket, 2))[1] == b"answer"


@pytest.mark.parametrize("answers", [1, 3])
async def test_answers_for_a_peer_that_does_not_read_wait_in_their_order(answers: int) -> None:
    async with served() as (connection, socket):
        socket.reads.clear()
        frames = [b"answer %d" % number for number in range(answers)]
        for frame in frames:
            connection.respond(frame)
        assert socket.written == []
        assert await _written(socket, answers) == frames
        socket.reads.set()
