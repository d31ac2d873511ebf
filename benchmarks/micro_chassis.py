"""What the chassis adds to a call: microseconds per unary call, bare and through the interceptor chain.

    python benchmarks/micro_chassis.py [--calls 2000] [--rounds 7]

Client and server share one process and one loop, so a real call's figure is both sides together; only the difference
between rows of one run means anything. Variants take turns in every round; the median of the rounds is printed, and
the CPU time of the whole process beside the wall clock, because the machine is never quiet.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator, caller_metadata, mint_token
from chassis.interceptors import server_chain
from chassis.local_channel import LocalChannel
from chassis.local_handlers import LocalHandlers
from chassis.outgoing import Outgoing
from chassis.telemetry import Telemetry

SECRET = "benchmark"
SERVICE = "mobot.bench.v1.BenchService"
ECHO = f"/{SERVICE}/Echo"
COUNT = f"/{SERVICE}/Count"
Call = Callable[[], Awaitable[Any]]

_request = health_pb2.HealthCheckRequest(service="x" * 180)


async def echo(request, _context):
    return request


async def count(request, _context):
    for _ in range(1_000):
        yield request


def register(server) -> None:
    kinds = health_pb2.HealthCheckRequest
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo, kinds.FromString, kinds.SerializeToString),
        "Count": grpc.unary_stream_rpc_method_handler(count, kinds.FromString, kinds.SerializeToString),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def chain(telemetry: Telemetry):
    return server_chain(service="bench", authenticator=Authenticator(SECRET), clock=SystemClock(), telemetry=telemetry)


def stub(channel, make: str = "unary_unary", path: str = ECHO):
    return getattr(channel, make)(
        path,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckRequest.FromString,
        _registered_method=True,
    )


async def listen(path: str, interceptors) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=interceptors, options=[("grpc.so_reuseport", 0)])
    register(server)
    server.add_insecure_port(path)
    await server.start()
    return server


async def measure(call: Call, calls: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - wall) / calls * 1e6, (time.process_time() - cpu) / calls * 1e6


async def drain(stream) -> None:
    async for _ in stream:
        pass


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    token = mint_token(SECRET, "services/router")
    metadata = caller_metadata(token, None)
    outgoing = Outgoing(token, None)
    telemetry = Telemetry.off()

    bare_handlers, handlers = LocalHandlers("bench"), LocalHandlers("bench", chain(telemetry))
    register(bare_handlers)
    register(handlers)
    bare_local = stub(LocalChannel(bare_handlers, outgoing))
    local = stub(LocalChannel(handlers, outgoing))
    local_stream = stub(LocalChannel(handlers, outgoing), "unary_stream", COUNT)

    with tempfile.TemporaryDirectory() as folder:
        bare_path, path = f"unix:{folder}/bare", f"unix:{folder}/chained"
        servers = [await listen(bare_path, None), await listen(path, chain(telemetry))]
        plain, behind_chain = grpc.aio.insecure_channel(bare_path), grpc.aio.insecure_channel(path)
        dialer = Dialer({"bench": path}, token=token, actor=None)
        bare, chained, dialled = stub(plain), stub(behind_chain), stub(dialer.dial("bench"))
        bare_stream = stub(plain, "unary_stream", COUNT)
        chained_stream = stub(behind_chain, "unary_stream", COUNT)

        variants: dict[str, tuple[Call, int, int]] = {
            "direct await of the handler": (lambda: echo(_request, None), 20, 1),
            "local, no interceptors": (lambda: bare_local(_request), 10, 1),
            "local, whole chain": (lambda: local(_request), 10, 1),
            "local, whole chain, own timeout": (lambda: local(_request, timeout=5.0), 10, 1),
            "socket, bare grpc.aio": (lambda: bare(_request, timeout=15.0, metadata=metadata), 1, 1),
            "socket, server chain": (lambda: chained(_request, timeout=15.0, metadata=metadata), 1, 1),
            "socket, server chain, dialled": (lambda: dialled(_request), 1, 1),
            "streamed message, local, chain": (lambda: drain(local_stream(_request)), 0, 1_000),
            "streamed message, socket, bare": (lambda: drain(bare_stream(_request, metadata=metadata)), 0, 1_000),
            "streamed message, socket, chain": (lambda: drain(chained_stream(_request, metadata=metadata)), 0, 1_000),
        }
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for call, _, _ in variants.values():
            await measure(call, 5)
        for _ in range(options.rounds):
            for name, (call, factor, unit) in variants.items():
                wall, cpu = await measure(call, options.calls * factor if factor else max(1, options.calls // 500))
                figures[name].append((wall / unit, cpu / unit))
        print(f"{'us per call, median of ' + str(options.rounds):36} {'wall':>8} {'cpu':>8}")
        for name, rows in figures.items():
            wall = statistics.median(row[0] for row in rows)
            cpu = statistics.median(row[1] for row in rows)
            print(f"{name:36} {wall:8.2f} {cpu:8.2f}")

        await dialer.close()
        await plain.close()
        await behind_chain.close()
        for server in servers:
            await server.stop(None)


asyncio.run(main())
