"""Runs the ASGI app: binds the port first, so that a taken one is a clear error, and leaves signals to __main__."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from starlette.applications import Starlette

from chassis import errors
from gateway.frames import MAX_PAYLOAD_BYTES
from gateway.socket_adapter import GatewayWebSocketProtocol

_SHUTDOWN_S = 2.0


class PortInUse(errors.FailedPrecondition):
    """Somebody else listens on the address."""

    reason = "PORT_IN_USE"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        PortInUse: naming the address and the way out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off for sockets that name it, and for no others:
    # a small frame after a small frame would wait up to 40 ms for the client's acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise PortInUse(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what listens there or set MOBOT_PORT",
            metadata={"address": f"{host}:{port}"},
        ) from error
    listener.setblocking(False)
    return listener


class WebServer(uvicorn.Server):
    """uvicorn without its own signal handlers, since the process drains in its own order, and without its clock."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        # The original wakes ten times a second to see whether it should stop and to set headers that are off here.
        await self.on_tick(0)
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The original polls for its connections to end; ours were told before, and what is left gets two seconds.
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        tasks = tuple(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_SHUTDOWN_S)
            for task in tasks:
                task.cancel()


def create_server(app: Starlette, *, ping_interval_s: float, trusted_proxies: str) -> WebServer:
    config = uvicorn.Config(
        app,
        http="h11",
        ws=GatewayWebSocketProtocol,
        ws_max_size=MAX_PAYLOAD_BYTES,
        ws_ping_interval=ping_interval_s,
        ws_ping_timeout=ping_interval_s,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxies,
    )
    return WebServer(config)
