"""The metrics of a process over HTTP."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from chassis.errors import FailedPrecondition
from chassis.listening import PortInUse
from chassis.metrics_endpoint import MetricsEndpoint
from chassis.telemetry import Telemetry

SETTING = "MOBOT_SESSION_METRICS_PORT"


@asynccontextmanager
async def serving(token=""):
    telemetry = Telemetry("session")
    telemetry.rpc("session", "/mobot.session.v1.SessionService/GetSession").observe("OK", 0.002)
    endpoint = MetricsEndpoint(telemetry.render_metrics, token=token)
    port = await endpoint.start("127.0.0.1", 0, setting=SETTING)
    try:
        yield port
    finally:
        await endpoint.close()


async def ask(port, request):
    """Status and body of the answer; (0, "") when the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            answer = await reader.read()
    except ConnectionResetError:
        return 0, ""
    finally:
        writer.transport.abort()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body.decode()) if head else (0, "")


def get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode()


async def test_prometheus_reads_the_meters_of_the_process():
    async with serving() as port:
        status, body = await ask(port, get("/metrics?x=1"))
    assert status == 200
    name = "/mobot.session.v1.SessionService/GetSession"
    assert f'rpc_server_handled_total{{code="OK",method="{name}",service="session"}} 1.0' in body
    assert "process_resident_memory_bytes" in body


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ([], 401),
        (["Authorization: Bearer other"], 401),
        (["Authorization: Basic secret"], 401),
        (["Authorization: Bearer secret"] * 2, 401),
        (["authorization:  Bearer secret "], 200),
    ],
)
async def test_with_a_token_the_meters_are_for_whoever_shows_it(shown, status):
    async with serving(token="secret") as port:
        answered, body = await ask(port, get("/metrics", *shown))
        assert answered == status
        assert ("rpc_server" in body) is (status == 200)
        assert await ask(port, get("/healthz")) == (200, "ok\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/metrics/"), 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 200),
        (b"\r\n\r\n", 405),
        (b"\xff\x00 \xff\r\n\r\n", 405),
        (get("/metrics", "X: " + "x" * 40_000), 0),
    ],
)
async def test_anything_else_is_answered_or_dropped_and_harms_nobody(request_, status):
    async with serving() as port:
        answered, body = await ask(port, request_)
        assert answered == status
        assert "rpc_server" not in body
        assert (await ask(port, get("/healthz")))[0] == 200


async def test_a_taken_port_is_refused_with_the_variable_to_change():
    async with serving() as port:
        with pytest.raises(PortInUse, match=SETTING):
            await MetricsEndpoint(bytes).start("127.0.0.1", port, setting=SETTING)
    with pytest.raises(FailedPrecondition, match=SETTING):
        await MetricsEndpoint(bytes).start("203.0.113.1", 0, setting=SETTING)


async def test_closing_does_not_wait_for_silent_connections_and_few_are_let_in():
    async with serving() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        async with asyncio.timeout(30):
            # Those over the bound are closed at once; the others wait for a request.
            reads = [asyncio.create_task(reader.read()) for reader, _ in held]
            while sum(read.done() for read in reads) < 24:
                await asyncio.wait([read for read in reads if not read.done()], return_when=asyncio.FIRST_COMPLETED)
    async with asyncio.timeout(30):
        await asyncio.gather(*reads, return_exceptions=True)
    for _, writer in held:
        writer.transport.abort()
