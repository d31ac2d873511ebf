"""How the supervisor learns that a child serves.

Every child may say so itself with a line on its lifeline (chassis/lifeline.py). A child with an HTTP address is ready
too when `GET <path>` answers 200; whichever comes first counts. The HTTP client is thirty lines on asyncio streams
because the supervisor must stay small: it imports neither grpc nor an HTTP library.
"""

import asyncio
import socket
from dataclasses import dataclass

from chassis import lifeline

_PROBE_INTERVAL_S = 0.05
_PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """`GET http://host:port/path`."""

    host: str
    port: int
    path: str = "/readyz"


async def wait_until_ready(line: socket.socket, probe: HttpProbe | None) -> None:
    """Returns once the child is ready; never returns for a child that dies first.

    The caller bounds the waiting and watches the process.
    """
    waits = [asyncio.ensure_future(_wait_for_line(line))]
    if probe is not None:
        waits.append(asyncio.ensure_future(_wait_for_http(probe)))
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _wait_for_line(line: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    received = b""
    while not (received.endswith(b"\n") and received.startswith(lifeline.READY.encode())):
        try:
            chunk = await loop.sock_recv(line, 256)
        except ConnectionResetError:
            chunk = b""
        if not chunk:  # the child is gone, or closed its end: its exit is somebody else's to notice
            await asyncio.Event().wait()
        received += chunk


async def _wait_for_http(probe: HttpProbe) -> None:
    while True:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                if await _get(probe) == 200:
                    return
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # not yet
        await asyncio.sleep(_PROBE_INTERVAL_S)


async def _get(probe: HttpProbe) -> int:
    """The status code of one GET.

    Raises:
        OSError, EOFError, ValueError: nobody answers, or not in HTTP.
    """
    reader, writer = await asyncio.open_connection(probe.host, probe.port)
    try:
        writer.write(
            f"GET {probe.path} HTTP/1.1\r\nHost: {probe.host}:{probe.port}\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        version, status, *_ = (await reader.readline()).split()
        if not version.startswith(b"HTTP/"):
            raise ValueError(version)
        return int(status)
    finally:
        writer.close()
