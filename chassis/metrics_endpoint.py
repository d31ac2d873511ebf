"""The metrics of a process over HTTP: `GET /metrics` for Prometheus, `GET /healthz` for anybody.

The answers are made on the event loop, by which the meters are counted: a server with a thread of its own would read
them while they change. It is no web server: one request a connection, a few connections, and no other path.
"""

import asyncio
import contextlib
import errno
import hmac
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from chassis.errors import FailedPrecondition
from chassis.listening import PortInUse
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry

_MAX_HEAD_BYTES: Final = 8 * 1024
_MAX_CONNECTIONS: Final = 16
_PATIENCE_S: Final = 10.0
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger("mobot.metrics")


class MetricsEndpoint:
    def __init__(self, render: Callable[[], bytes], *, token: str = "") -> None:
        """`render` gives the body of /metrics. With a `token` only who shows it as `Bearer` gets that."""
        self._render = render
        self._token = token.encode()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, *, setting: str) -> int:
        """Listens, and returns the port: a free one for 0. `setting` is the variable that an error names.

        Raises:
            PortInUse: somebody else listens there.
            FailedPrecondition: the address cannot be listened on for another reason.
        """
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=_MAX_HEAD_BYTES)
        except OSError as error:
            where = {"address": f"{host}:{port}", "setting": setting}
            if error.errno == errno.EADDRINUSE:
                message = f"{host}:{port} is in use by another process: stop it, or set {setting} to another port"
                raise PortInUse(message, metadata=where) from error
            why = error.strerror or str(error)
            message = f"cannot listen on {host}:{port} ({why}): set {setting} to another port"
            raise FailedPrecondition(message, metadata=where) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        _log.info("metrics served", extra={"port": bound})
        return bound

    async def close(self) -> None:
        """Stops listening and ends the connections there are."""
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="metrics request")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError) as error:
            _log.debug("metrics request dropped", extra={"error": type(error).__name__})
        finally:
            writer.transport.abort()  # does nothing after a close that came through

    def _answer(self, head: bytes) -> bytes:
        request, *headers = head.split(b"\r\n")
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path == b"/healthz":
            return _response(method, HTTPStatus.OK, _TEXT, b"ok\n")
        if path != b"/metrics":
            return _response(method, HTTPStatus.NOT_FOUND, _TEXT, b"here are /metrics and /healthz\n")
        if not self._is_allowed(headers):
            return _response(method, HTTPStatus.UNAUTHORIZED, _TEXT, b"/metrics asks for its token\n")
        return _response(method, HTTPStatus.OK, _PROMETHEUS, self._render())

    def _is_allowed(self, headers: list[bytes]) -> bool:
        if not self._token:
            return True
        named = (header.partition(b":") for header in headers)
        shown = [value.strip() for name, _, value in named if name.strip().lower() == b"authorization"]
        return len(shown) == 1 and hmac.compare_digest(shown[0], b"Bearer " + self._token)


class MetricsSettings(Protocol):
    """Where a process serves its meters, if it does."""

    @property
    def host(self) -> str: ...
    @property
    def metrics_port(self) -> int | None: ...


async def open_metrics(
    name: str,
    settings: MetricsSettings,
    chassis: ChassisSettings,
    telemetry: Telemetry,
    opened: contextlib.AsyncExitStack,
) -> None:
    """Serves the meters of the process `name` at its metrics port, if it has one, until `opened` is closed.

    Raises:
        FailedPrecondition: the port is taken, or cannot be listened on.
    """
    if settings.metrics_port is None:
        return
    token = chassis.metrics_token.get_secret_value() if chassis.metrics_token else ""
    endpoint = MetricsEndpoint(telemetry.render_metrics, token=token)
    await endpoint.start(settings.host, settings.metrics_port, setting=f"MOBOT_{name.upper()}_METRICS_PORT")
    opened.push_async_callback(endpoint.close)


def _response(method: bytes, status: HTTPStatus, content_type: str, body: bytes) -> bytes:
    if method not in (b"GET", b"HEAD"):
        status, content_type, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET\n"
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        lines.append("WWW-Authenticate: Bearer")
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if method == b"HEAD" else head + body
