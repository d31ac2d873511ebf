"""A transcript in the shape of OpenClaw's: JSON lines, each with an id and the id of the one before it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from mobot.session.v1 import event_pb2, part_pb2
from session_service.domain.event import EventKind
from session_service.domain.transfer import Line
from session_service.store.transferring import Manifest

_ROLES = {event_pb2.ROLE_USER: "user", event_pb2.ROLE_ASSISTANT: "assistant", event_pb2.ROLE_SYSTEM: "system"}


class TranscriptWriter:
    """Makes the lines of one transcript: messages, tool calls, answers of tools, and summaries."""

    def __init__(self, manifest: Manifest, uid: str) -> None:
        self._uid = uid
        (self._transcript,) = (each for each in manifest.transcripts if each.uid == uid)
        self._parent: str | None = None
        self._ids: list[tuple[int, str]] = []

    def begin(self) -> bytes:
        started = _iso(self._transcript.create_time)
        return _line({"type": "session", "version": 3, "id": self._uid, "timestamp": started, "cwd": ""})

    def add(self, lines: Sequence[Line]) -> bytes:
        return b"".join(self._entry(line) for line in lines)

    def end(self) -> bytes:
        return b""

    def _entry(self, line: Line) -> bytes:
        event = event_pb2.Event.FromString(line.payload)
        body: dict[str, Any]
        match EventKind(line.kind):
            case EventKind.MESSAGE:
                body = {"type": "message", "message": _message(event.message)}
            case EventKind.TOOL_CALLED:
                call = event.tool_called
                block = {"type": "toolCall", "id": call.call_id, "name": call.tool, "arguments": _arguments(call)}
                body = {
                    "type": "message",
                    "message": {"role": "assistant", "content": [block], "stopReason": "toolUse"},
                }
            case EventKind.TOOL_RETURNED:
                body = {"type": "message", "message": _tool_result(event.tool_returned)}
            case EventKind.SUMMARY:
                through = event.summary.through_sequence
                kept = next((event_id for sequence, event_id in self._ids if sequence > through), event.id)
                body = {
                    "type": "compaction",
                    "summary": event.summary.text,
                    "firstKeptEntryId": kept,
                    "tokensBefore": 0,
                }
            case _:
                return b""
        if "message" in body:
            body["message"]["timestamp"] = line.create_time // 1000
        entry = {"id": line.event_id, "parentId": self._parent, "timestamp": _iso(line.create_time)}
        self._parent = line.event_id
        self._ids.append((line.sequence, line.event_id))
        return _line({"type": body.pop("type"), **entry, **body})


def _message(said: event_pb2.MessageAppended) -> dict[str, Any]:
    row: dict[str, Any] = {"role": _ROLES.get(said.role, "system"), "content": _content(said.parts)}
    if said.idempotency_key:
        row["idempotencyKey"] = said.idempotency_key
    if said.model:
        provider, slash, model = said.model.partition("/")
        row["provider"], row["model"] = (provider, model) if slash else ("mobot", provider)
    if said.stop_reason:
        row["stopReason"] = said.stop_reason
    if said.inter_session:
        row["provenance"] = {"kind": "inter_session", "sourceSessionKey": said.source}
    if said.HasField("usage"):
        usage = said.usage
        row["usage"] = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cacheRead": usage.cache_read_tokens,
            "cacheWrite": usage.cache_write_tokens,
            "totalTokens": usage.input_tokens + usage.output_tokens,
            "cost": {"total": usage.cost_micros / 1_000_000},
        }
    return row


def _tool_result(returned: event_pb2.ToolReturned) -> dict[str, Any]:
    return {
        "role": "toolResult",
        "toolCallId": returned.call_id,
        "toolName": returned.tool,
        "content": _content(returned.parts),
        "isError": returned.is_error,
    }


def _content(parts: Sequence[part_pb2.Part]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                blocks.append({"type": "text", "text": part.text})
            case "data":
                blocks.append({"type": "text", "text": part.data.value.decode(errors="replace")})
            case "file":
                blocks.append(_file(part.file))
            case _:
                pass
    return blocks


def _file(file: part_pb2.FilePart) -> dict[str, Any]:
    if file.inline_bytes and file.media_type.startswith("image/"):
        return {"type": "image", "mimeType": file.media_type, "data": b64encode(file.inline_bytes).decode()}
    return {"type": "text", "text": f"[{file.file_name or file.uri or file.media_type or 'file'}]"}


def _arguments(call: event_pb2.ToolCalled) -> object:
    try:
        return orjson.loads(call.arguments_json) if call.arguments_json else {}
    except orjson.JSONDecodeError:
        return {"raw": call.arguments_json}


def _iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
