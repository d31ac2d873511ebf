"""Lists of sessions, and previews of their last messages."""

from collections.abc import Mapping
from typing import Any

import grpc.aio
import orjson
from google.protobuf import timestamp_pb2

from chassis import errors as app_errors
from chassis.resource_names import SessionName
from gateway import transcript
from gateway.services import Services
from mobot.session.v1 import session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 10_000
_PAGE_SIZE = 1_000
_MINUTE_MS = 60_000


async def list_sessions(services: Services, given: Mapping[str, Any]) -> dict[str, object]:
    """The answer of sessions.list: pinned first, then newest activity first, unless asked otherwise."""
    limit = min(given.get("limit") or _DEFAULT_LIMIT, _MAX_LIMIT)
    offset = given.get("offset") or 0
    request = session_api.ListSessionsRequest(
        filter=_filter(services, given),
        page_size=min(limit, _PAGE_SIZE),
        order=session_api.SESSION_ORDER_UNSPECIFIED,
        view=session_api.SessionView(
            derived_title=bool(given.get("includeDerivedTitles")),
            last_message_preview=bool(given.get("includeLastMessage")),
        ),
        offset=offset,
        count_total=True,
    )
    rows: list[orjson.Fragment] = []
    total, as_of = 0, ""
    while len(rows) < limit:
        response = await services.sessions.ListSessions(request)
        if not rows:
            total, as_of = response.total_count, response.as_of
        rows.extend(services.rows.of(response.sessions))
        if not response.next_page_token or not response.sessions:
            break
        request.page_token = response.next_page_token
    rows = rows[:limit]
    await services.bots.all()
    has_more = offset + len(rows) < total
    return {
        "ts": services.now_ms(),
        "path": "mobot",
        "count": len(rows),
        "totalCount": total,
        "limitApplied": limit,
        "nextOffset": offset + len(rows) if has_more else None,
        "hasMore": has_more,
        "owners": [],
        "defaults": services.bots.defaults(),
        "sessions": rows,
        # Ours: a `mobot.watch` after this token misses nothing that happens after this list.
        "watchToken": as_of,
    }


async def find_session(
    services: Services, name: SessionName, view: session_api.SessionView | None = None
) -> session_pb2.Session | None:
    """The session, or None when there is none. To clients a deleted one is none, though it could be restored."""
    try:
        response = await services.sessions.GetSession(session_api.GetSessionRequest(name=name.name, view=view))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    deleted = response.session.state == session_pb2.SESSION_STATE_DELETED
    return None if deleted else response.session


async def preview(services: Services, key: str, limit: int, max_chars: int) -> dict[str, object]:
    """One entry of sessions.preview: the last messages' text, oldest first."""
    try:
        name = services.keys.session(key)
        response = await services.sessions.ListEvents(
            session_api.ListEventsRequest(
                parent=name.name,
                filter=session_api.EventFilter(kinds=["message"]),
                descending=True,
                page_size=limit,
            )
        )
    except app_errors.InvalidArgument:
        return {"key": key, "status": "error", "items": []}
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return {"key": key, "status": "missing", "items": []}
        raise
    if response.session.state == session_pb2.SESSION_STATE_DELETED:
        return {"key": key, "status": "missing", "items": []}
    items = []
    for event in reversed(response.events):
        row = transcript.message_of(event)
        text = transcript.text_of(event.message.parts)
        if row is not None and text:
            items.append({"role": row["role"], "text": text[:max_chars]})
    return {"key": name.key, "status": "ok" if items else "empty", "items": items}


def _filter(services: Services, given: Mapping[str, Any]) -> session_api.SessionFilter:
    exclude = [
        name for name, flag in (("global", "includeGlobal"), ("unknown", "includeUnknown")) if not given.get(flag)
    ]
    wanted = session_api.SessionFilter(
        text=given.get("search") or "", label=given.get("label") or "", exclude_ids=exclude
    )
    if given.get("agentId"):
        wanted.bots.append(services.keys.bot(given["agentId"]))
    if given.get("spawnedBy"):
        wanted.parent = services.keys.session(given["spawnedBy"], field="spawnedBy").name
    if given.get("activeMinutes"):
        since = timestamp_pb2.Timestamp()
        since.FromMilliseconds(max(0, services.now_ms() - given["activeMinutes"] * _MINUTE_MS))
        wanted.active_since.CopyFrom(since)
    match given.get("archived"):
        case "all":
            wanted.states.extend((session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATE_ARCHIVED))
        case True:
            wanted.states.append(session_pb2.SESSION_STATE_ARCHIVED)
        case _:
            wanted.states.append(session_pb2.SESSION_STATE_ACTIVE)
    return wanted
