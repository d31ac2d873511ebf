"""The HTTP side: the WebSocket upgrade at /, the page at /, REST under /v1, and the operators' endpoints."""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from chassis.telemetry import Telemetry
from gateway.api.http import RestApi
from gateway.edge import Edge
from gateway.shared_page import SharedPages
from gateway.socket_adapter import UvicornSocket

Readiness = Callable[[], Awaitable[Mapping[str, bool]]]

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(
    edge: Edge,
    *,
    api: RestApi,
    shared: SharedPages,
    readiness: Readiness,
    telemetry: Telemetry,
    metrics_token: str = "",
    control_ui_dir: Path | None = None,
) -> Starlette:
    """Routes. With `control_ui_dir` the OpenClaw Control UI is at / and the built-in page at /mobot.

    With a `metrics_token` only who shows it as `Bearer` gets /metrics.
    """

    async def socket(websocket: WebSocket) -> None:
        if edge.is_full:
            await websocket.close(1013)
            return
        await websocket.accept()
        await edge.serve(UvicornSocket(websocket))

    async def healthz(_: Request) -> Response:
        return JSONResponse({"ok": True})

    async def readyz(_: Request) -> Response:
        services = await readiness()
        ok = all(services.values())
        return JSONResponse({"ok": ok, "services": dict(services)}, status_code=200 if ok else 503)

    async def metrics(request: Request) -> Response:
        shown = request.headers.get("authorization", "")
        if metrics_token and not hmac.compare_digest(shown.encode(), f"Bearer {metrics_token}".encode()):
            return Response("/metrics asks for its token\n", 401, headers={"WWW-Authenticate": "Bearer"})
        return Response(telemetry.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    page = _page_response(files("gateway").joinpath("page/index.html").read_text(encoding="utf-8"))

    async def built_in_page(_: Request) -> Response:
        return page

    routes: list[BaseRoute] = [
        WebSocketRoute("/", socket),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/mobot", built_in_page),
        Route("/share/{token}", shared.page),
        Mount("/v1", _Whole(api)),
    ]
    if control_ui_dir is None:
        routes.append(Route("/", built_in_page))
    else:
        routes.append(Mount("/", _SinglePageFiles(control_ui_dir)))
    return Starlette(routes=routes)


def _page_response(html: str) -> Response:
    """The page may run its own script and talk to its own host, and nothing else."""
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = " ".join(f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(html, media_type="text/html", headers={**_SECURITY_HEADERS, "Content-Security-Policy": policy})


class _Whole:
    """The application with the whole path: a mount would cut its own part off for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": ""}, receive, send)


class _SinglePageFiles(StaticFiles):
    """Static files whose extension-less paths are screens of the one page.

    The page names its assets relative to itself: from the screen /chat/main it asks for /chat/assets/index.js.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, html=True)
        self._index = directory / "index.html"

    async def get_response(self, path: str, scope: Scope) -> Response:
        _, below_a_screen, asset = path.partition("/assets/")
        try:
            return await super().get_response(f"assets/{asset}" if below_a_screen else path, scope)
        except HTTPException as error:
            if error.status_code == 404 and "." not in path.rsplit("/", 1)[-1] and not path.startswith("api/"):
                return FileResponse(self._index)
            raise
