import asyncio
import contextlib
import socket

import pytest

from mobot_cli.ready import HttpProbe, wait_until_ready


@pytest.fixture
def line():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@contextlib.asynccontextmanager
async def answering(answers):
    """An HTTP server that sends each of `answers` to one connection, then the last one for ever."""

    async def answer(reader, writer):
        await reader.readline()
        writer.write(answers.pop(0) if len(answers) > 1 else answers[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_a_line_in_two_pieces_is_one_line(line):
    ours, theirs = line
    waiting = asyncio.create_task(wait_until_ready(ours, None))
    theirs.send(b"re")
    await asyncio.sleep(0)
    theirs.send(b"ady registry=5\n")
    async with asyncio.timeout(40):
        await waiting


async def test_a_child_that_hangs_up_is_not_ready(line):
    ours, theirs = line
    theirs.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wait_until_ready(ours, None)


async def test_http_200_is_ready_and_nothing_else_is(line):
    answers = [b"", b"garbage\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
    async with answering(answers) as port, asyncio.timeout(40):
        await wait_until_ready(line[0], HttpProbe("127.0.0.1", port))
    assert len(answers) == 1


async def test_the_line_counts_while_http_does_not_answer(line):
    ours, theirs = line
    async with answering([b"HTTP/1.1 503 No\r\n\r\n"]) as port, asyncio.timeout(40):
        waiting = asyncio.create_task(wait_until_ready(ours, HttpProbe("127.0.0.1", port)))
        theirs.send(b"ready\n")
        await waiting
