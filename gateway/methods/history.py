"""Reading a transcript the way clients page through it: from its end, by limit and offset, within a size."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import orjson

from chassis.resource_names import SessionName
from gateway import frames, shapes, transcript
from gateway.keys import agent_of
from gateway.services import Services
from mobot.router.v1 import message_pb2
from mobot.router.v1 import router_service_pb2 as router_api
from mobot.session.v1 import event_pb2, session_pb2
from mobot.session.v1 import session_service_pb2 as session_api

DEFAULT_LIMIT = 200
"""Rows that are read when nobody says how many."""
_PAGE_SIZE = 1_000
# Less than a frame may hold, with room for the rest of the answer.
_MAX_BYTES = 16 * 1024 * 1024
_MAX_PENDING = 20


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows oldest first, and the answers that are held back. `read` rows were read for it; are there `more`?"""

    session: session_pb2.Session
    events: list[event_pb2.Event]
    held: list[event_pb2.Event]
    read: int
    more: bool


async def read_history(services: Services, name: SessionName, given: Mapping[str, Any]) -> dict[str, object]:
    """The answer of chat.history. A session that does not exist, or is deleted, has an empty one."""
    await services.bots.warm()
    cursor = given.get("cursor")
    if cursor:
        return await _changes_since(services, name, cursor)
    limit, offset = given.get("limit") or DEFAULT_LIMIT, given.get("offset") or 0
    try:
        page, pending = await asyncio.gather(_newest(services, name, limit, offset), _pending_inputs(services, name))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return {**_empty(services, name), "pendingInputs": await _pending_inputs(services, name)}
    session = page.session
    if _is_deleted(session):
        return {**_empty(services, name), "pendingInputs": pending}
    total = await _total(services, name, page)
    messages = _within(
        transcript.messages_of(page.events), min(given.get("maxBytes") or _MAX_BYTES, _MAX_BYTES), given.get("maxChars")
    )
    end = offset + len(messages)
    answer: dict[str, object] = {
        "sessionKey": name.key,
        "sessionId": session.uid,
        "messages": messages,
        "hasMore": end < total,
        "totalMessages": total,
        "deltaCursor": _cursor(session, page.held),
        "pendingInputs": pending,
        "defaults": services.bots.defaults(),
        "sessionInfo": _info(services, session),
    }
    if end < total:
        answer["nextOffset"] = end
    if "thinkingLevel" in session.overrides:
        answer["thinkingLevel"] = session.overrides["thinkingLevel"]
    answer |= _in_flight(services, session, page.held)
    return answer


async def read_messages(services: Services, name: SessionName, limit: int) -> list[dict[str, Any]]:
    """The newest `limit` rows, oldest first, and nothing around them: the same rows that chat.history gives."""
    try:
        page = await _newest(services, name, limit, 0)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return []
    return [] if _is_deleted(page.session) else transcript.messages_of(page.events)


async def _newest(services: Services, name: SessionName, limit: int, offset: int) -> _Page:
    """Rows `offset` to `offset + limit` counted from the end; what is held back is none of them."""
    wanted = offset + limit
    request = session_api.ListEventsRequest(
        parent=name.name,
        filter=session_api.EventFilter(kinds=transcript.ROW_KINDS),
        descending=True,
        # One more than wanted: the newest may be an answer that is held back.
        page_size=min(wanted + 1, _PAGE_SIZE),
    )
    response = await services.sessions.ListEvents(request)
    session = response.session
    shown, held = _without_answers_to_come(session, response.events)
    while response.next_page_token and len(shown) < wanted:
        request.page_token = response.next_page_token
        response = await services.sessions.ListEvents(request)
        more, more_held = _without_answers_to_come(session, response.events)
        shown.extend(more)
        held.extend(more_held)
    events = shown[offset:wanted]
    events.reverse()
    return _Page(session, events, held, read=len(shown), more=bool(response.next_page_token))


async def _total(services: Services, name: SessionName, page: _Page) -> int:
    """How many rows there are, without those that are held back."""
    if not page.more:
        return page.read
    # Only where there are more than were read: to count rows takes longer than to read the newest.
    counted = session_api.ListEventsRequest(
        parent=name.name,
        filter=session_api.EventFilter(kinds=transcript.ROW_KINDS),
        descending=True,
        page_size=1,
        count_total=True,
    )
    return max(page.read, (await services.sessions.ListEvents(counted)).total_count - len(page.held))


async def _changes_since(services: Services, name: SessionName, cursor: str) -> dict[str, object]:
    uid, _, sequence = cursor.rpartition(":")
    if not uid or not sequence.isdigit():
        return {"kind": "reset"}
    request = session_api.ListEventsRequest(
        parent=name.name,
        filter=session_api.EventFilter(kinds=transcript.ROW_KINDS, after_sequence=int(sequence)),
        page_size=_PAGE_SIZE,
    )
    try:
        response = await services.sessions.ListEvents(request)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return {"kind": "reset"}
        raise
    session = response.session
    if session.uid != uid or _is_deleted(session) or response.next_page_token:
        return {"kind": "reset"}
    shown, held = _without_answers_to_come(session, response.events)
    rows = [
        frames.dump(transcript.envelope_of(event, message))
        for event in shown
        if (message := transcript.message_of(event)) is not None
    ]
    if sum(map(len, rows)) > _MAX_BYTES:
        return {"kind": "reset"}
    return {
        "kind": "delta",
        "messages": [orjson.Fragment(row) for row in rows],
        "deltaCursor": _cursor(session, held),
        "sessionInfo": _info(services, session),
        "pendingInputs": await _pending_inputs(services, name),
        **_in_flight(services, session, held),
    }


async def _pending_inputs(services: Services, name: SessionName) -> dict[str, object]:
    """Messages that are accepted and wait for their turn."""
    response = await services.router.ListMessages(
        router_api.ListMessagesRequest(
            filter=router_api.MessageFilter(
                session=name.name,
                states=[message_pb2.MESSAGE_STATE_QUEUED, message_pb2.MESSAGE_STATE_ACCEPTED],
            ),
            page_size=_MAX_PENDING,
            ascending=True,
        )
    )
    items = []
    for message in response.messages:
        accepted_ms = shapes.millis(message.create_time)
        text = transcript.text_of(message.draft.parts)
        items.append(
            {
                "id": message.name,
                "runId": message.run,
                "message": {
                    "role": "user",
                    "content": text,
                    "timestamp": accepted_ms,
                    "idempotencyKey": f"{message.run}:user",
                },
                "acceptedAt": accepted_ms,
                "state": "queued",
            }
        )
    return {"items": items, "total": len(items)}


def _within(messages: list[dict[str, Any]], max_bytes: int, max_chars: int | None) -> list[orjson.Fragment]:
    """The newest messages that fit, at least one. Serialised here, since their size has to be known anyway."""
    kept: list[orjson.Fragment] = []
    size = 0
    for message in reversed(messages):
        if max_chars is not None:
            _cut(message, max_chars)
        data = frames.dump(message)
        size += len(data)
        if kept and size > max_bytes:
            break
        kept.append(orjson.Fragment(data))
    kept.reverse()
    return kept


def _cut(message: dict[str, Any], max_chars: int) -> None:
    content = message["content"]
    if isinstance(content, str):
        message["content"] = _shortened(content, max_chars)
        return
    for block in content:
        if "text" in block:
            block["text"] = _shortened(block["text"], max_chars)


def _shortened(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[:max_chars] + "\n...(truncated)..."


def _without_answers_to_come(
    session: session_pb2.Session, events: Iterable[event_pb2.Event]
) -> tuple[list[event_pb2.Event], list[event_pb2.Event]]:
    """The rows to show, and the answers of runs that have not ended.

    Such an answer comes with the end of its run. A client that reads it here too, because it connected in between, as
    after a restart, shows it twice.
    """
    to_come = {f"run/{run}/reply" for run in session.active_runs}
    shown: list[event_pb2.Event] = []
    held: list[event_pb2.Event] = []
    for event in events:
        (held if event.id in to_come else shown).append(event)
    return shown, held


def _cursor(session: session_pb2.Session, held: Sequence[event_pb2.Event]) -> str:
    last = min((event.sequence - 1 for event in held), default=session.last_sequence)
    return f"{session.uid}:{last}"


def _is_deleted(session: session_pb2.Session) -> bool:
    return session.state == session_pb2.SESSION_STATE_DELETED


def _info(services: Services, session: session_pb2.Session) -> dict[str, object]:
    row = shapes.session_row(session)
    return {**shapes.resolved_model(session, services.bots.model(agent_of(session.name))), **row}


def _in_flight(services: Services, session: session_pb2.Session, held: Sequence[event_pb2.Event]) -> dict[str, object]:
    if not session.active_runs:
        return {}
    run = session.active_runs[0]
    written = next((transcript.text_of(event.message.parts) for event in held if event.run == run), "")
    return {"inFlightRun": {"runId": run, "text": written or services.streams.text_of_run(run)}}


def _empty(services: Services, name: SessionName) -> dict[str, object]:
    return {
        "sessionKey": name.key,
        "messages": [],
        "hasMore": False,
        "totalMessages": 0,
        "defaults": services.bots.defaults(),
        "sessionInfo": {
            "key": name.key,
            "kind": "direct",
            "agentId": name.bot,
            "updatedAt": None,
            "hasActiveRun": False,
            "activeRunIds": [],
        },
    }
