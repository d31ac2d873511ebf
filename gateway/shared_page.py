"""What the holder of a share link sees: a page without a script, or JSON. The link's token is all it takes."""

import re
from collections.abc import Iterable
from datetime import UTC
from html import escape
from typing import Any

import grpc.aio
from google.protobuf import timestamp_pb2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.shapes import millis
from gateway.streams import SessionStub
from gateway.transcript import content_of, text_of
from mobot.session.v1 import event_pb2, session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,128}")
_MAX_PAGE_TOKEN = 1_024
_SPEAKERS = {event_pb2.ROLE_USER: "User", event_pb2.ROLE_ASSISTANT: "Assistant", event_pb2.ROLE_SYSTEM: "System"}
_ROLE_NAMES = {event_pb2.ROLE_USER: "user", event_pb2.ROLE_ASSISTANT: "assistant", event_pb2.ROLE_SYSTEM: "system"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address is the secret
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
time, .small { color: #666; font-size: .85rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: 0; }
.tool pre { font-family: ui-monospace, monospace; font-size: .85rem; background: #f4f4f4; padding: .5rem; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } .tool pre { background: #252525; } }
"""


class SharedPages:
    """Answers /share/{token} and /share/{token}.json. A link that works no more looks like one that never was."""

    def __init__(self, sessions: SessionStub) -> None:
        self._sessions = sessions

    async def page(self, request: Request) -> Response:
        token, as_json = _wanted(request)
        shared = await self._read(token, request)
        if isinstance(shared, int):
            return _refused(shared, as_json=as_json)
        if as_json:
            return JSONResponse(_json(shared), headers=_HEADERS)
        return HTMLResponse(_html(shared, token), headers=_HEADERS)

    async def _read(self, token: str, request: Request) -> session_api.GetSharedSessionResponse | int:
        """What is shared, or the HTTP status of a refusal."""
        page_token = request.query_params.get("page", "")
        if not _TOKEN.fullmatch(token) or len(page_token) > _MAX_PAGE_TOKEN:
            return 404
        try:
            return await self._sessions.GetSharedSession(
                session_api.GetSharedSessionRequest(token=token, page_token=page_token)
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return 404
            return 503


def _wanted(request: Request) -> tuple[str, bool]:
    token: str = request.path_params["token"]
    if token.endswith(".json"):
        return token.removesuffix(".json"), True
    return token, "application/json" in request.headers.get("accept", "")


def _refused(code: int, *, as_json: bool) -> Response:
    text = "There is no such link, or it works no more." if code == 404 else "Not available now. Try again later."
    if as_json:
        return JSONResponse({"error": text}, status_code=code, headers=_HEADERS)
    return HTMLResponse(_document("mobot", f"<p>{text}</p>"), status_code=code, headers=_HEADERS)


def _title(session: session_pb2.Session) -> str:
    return session.label or session.display_name or "A shared conversation"


def _json(shared: session_api.GetSharedSessionResponse) -> dict[str, Any]:
    session = shared.session
    return {
        "title": _title(session),
        "description": session.description,
        "createdAt": millis(session.create_time),
        "lastActivityAt": millis(session.last_activity_time),
        "messages": [_row(event) for event in shared.events],
        "nextPage": shared.next_page_token or None,
        "expiresAt": millis(shared.expire_time) if shared.HasField("expire_time") else None,
    }


def _row(event: event_pb2.Event) -> dict[str, Any]:
    row: dict[str, Any] = {"seq": event.sequence, "timestamp": millis(event.create_time)}
    match event.WhichOneof("payload"):
        case "tool_called":
            called = event.tool_called
            return {**row, "role": "assistant", "toolCall": {"name": called.tool, "arguments": called.arguments_json}}
        case "tool_returned":
            returned = event.tool_returned
            content = content_of(returned.parts)
            return {**row, "role": "toolResult", "toolName": returned.tool, "content": content}
        case _:
            said = event.message
            return {**row, "role": _ROLE_NAMES.get(said.role, "system"), "content": content_of(said.parts)}


def _html(shared: session_api.GetSharedSessionResponse, token: str) -> str:
    session = shared.session
    parts = [f"<h1>{escape(_title(session))}</h1>"]
    if session.description:
        parts.append(f"<pre>{escape(session.description)}</pre>")
    parts.extend(_blocks(shared.events))
    if shared.next_page_token:
        parts.append(f'<p><a href="/share/{escape(token)}?page={escape(shared.next_page_token)}">What follows</a></p>')
    if shared.HasField("expire_time"):
        parts.append(f'<p class="small">This link ends {_time(shared.expire_time)}.</p>')
    return _document(_title(session), "\n".join(parts))


def _blocks(events: Iterable[event_pb2.Event]) -> Iterable[str]:
    for event in events:
        match event.WhichOneof("payload"):
            case "tool_called":
                call = event.tool_called
                yield _tool(f"Calls {call.tool}", call.arguments_json)
            case "tool_returned":
                verb = "fails" if event.tool_returned.is_error else "answers"
                yield _tool(f"{event.tool_returned.tool} {verb}", text_of(event.tool_returned.parts))
            case _:
                said = event.message
                speaker = "Another session" if said.inter_session else _SPEAKERS.get(said.role, "System")
                when = f"<time>{_time(event.create_time)}</time>"
                yield f"<h2>{speaker} {when}</h2>\n<pre>{escape(text_of(said.parts))}</pre>"


def _tool(title: str, text: str) -> str:
    return f'<details class="tool"><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>'


def _time(time: timestamp_pb2.Timestamp) -> str:
    return time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
