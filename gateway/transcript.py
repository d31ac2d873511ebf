"""Events of a session's log as the messages of a transcript that clients read."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.keys import agent_of, key_of
from gateway.shapes import millis, split_model
from mobot.session.v1 import event_pb2, part_pb2

# Kinds of events that are rows of a transcript.
ROW_KINDS = ("message", "tool_called", "tool_returned", "session_reset", "summary")

_ROLES: Mapping[int, str] = {
    event_pb2.ROLE_USER: "user",
    event_pb2.ROLE_ASSISTANT: "assistant",
    event_pb2.ROLE_SYSTEM: "system",
}


def message_of(event: event_pb2.Event) -> dict[str, Any] | None:
    """The transcript row of an event, or None when it has none."""
    match event.WhichOneof("payload"):
        case "message":
            row = _message(event, event.message)
        case "tool_called":
            called = event.tool_called
            content = [
                {
                    "type": "toolCall",
                    "id": called.call_id,
                    "name": called.tool,
                    "arguments": _arguments(called.arguments_json),
                }
            ]
            row = {"role": "assistant", "content": content}
        case "tool_returned":
            returned = event.tool_returned
            row = {
                "role": "toolResult",
                "toolCallId": returned.call_id,
                "toolName": returned.tool,
                "content": content_of(returned.parts),
                "isError": returned.is_error,
            }
        case "session_reset":
            row = {"role": "system", "content": [{"type": "text", "text": "Reset"}]}
        case "summary":
            row = {"role": "system", "content": [{"type": "text", "text": event.summary.text}]}
        case _:
            return None
    row["timestamp"] = millis(event.create_time)
    row["__openclaw"] = _marks(event)
    return row


def envelope_of(event: event_pb2.Event, message: Mapping[str, Any]) -> dict[str, Any]:
    """A row with where it belongs: the payload of `session.message`, and an item of a delta of the history."""
    envelope: dict[str, Any] = {
        "sessionKey": key_of(event.session),
        "agentId": agent_of(event.session),
        "message": message,
        "messageId": event.id,
        "messageSeq": event.sequence,
    }
    if message["__openclaw"].get("senderIsOwner"):
        envelope["senderIsOwner"] = True
    return envelope


def messages_of(events: Iterable[event_pb2.Event]) -> list[dict[str, Any]]:
    return [row for event in events if (row := message_of(event)) is not None]


def text_of(parts: Iterable[part_pb2.Part]) -> str:
    """All text of a message; its pieces are paragraphs."""
    return "\n\n".join(part.text for part in parts if part.WhichOneof("content") == "text")


def content_of(parts: Iterable[part_pb2.Part]) -> list[dict[str, Any]]:
    return [block for part in parts if (block := _block(part)) is not None]


def reply(text: str, timestamp_ms: int) -> dict[str, Any]:
    """An assistant's message that is in no log: the answer to a command."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": timestamp_ms}


def usage_of(usage: part_pb2.Usage) -> dict[str, Any]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cacheRead": usage.cache_read_tokens,
        "cacheWrite": usage.cache_write_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": usage.cost_micros / 1_000_000},
    }


def _message(event: event_pb2.Event, message: event_pb2.MessageAppended) -> dict[str, Any]:
    role = _ROLES.get(message.role, "system")
    row: dict[str, Any] = {"role": role, "content": _content(role, message.parts)}
    key = message.idempotency_key or (event.run if role == "user" else "")
    if role == "user" and key:
        # What a client that showed the message before we did recognises it by.
        row["idempotencyKey"] = f"{key}:user"
    if message.model:
        row["provider"], row["model"] = split_model(message.model)
    if message.HasField("usage"):
        row["usage"] = usage_of(message.usage)
    if message.stop_reason:
        row["stopReason"] = message.stop_reason
    if message.inter_session:
        row["provenance"] = {"kind": "inter_session", "sourceSessionKey": _source_key(message.source)}
    if message.partial:
        row["partial"] = True
    return row


def _content(role: str, parts: Sequence[part_pb2.Part]) -> str | list[dict[str, Any]]:
    if role == "user" and len(parts) == 1 and parts[0].WhichOneof("content") == "text":
        return parts[0].text
    return content_of(parts)


def _block(part: part_pb2.Part) -> dict[str, Any] | None:
    match part.WhichOneof("content"):
        case "text":
            return {"type": "text", "text": part.text}
        case "data":
            return {"type": "text", "text": part.data.value.decode(errors="replace")}
        case "file":
            return _file_block(part.file)
        case _:
            return None


def _file_block(file: part_pb2.FilePart) -> dict[str, Any]:
    if file.media_type.startswith("image/") and file.inline_bytes:
        return {"type": "image", "mimeType": file.media_type, "data": b64encode(file.inline_bytes).decode()}
    name = file.file_name or file.uri or "file"
    return {"type": "text", "text": f"[{name}]({file.uri})" if file.uri else f"[{name}]"}


def _arguments(text: str) -> object:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return {"raw": text}


def _marks(event: event_pb2.Event) -> dict[str, Any]:
    marks: dict[str, Any] = {"id": event.id, "seq": event.sequence, "recordTimestampMs": millis(event.create_time)}
    if event.run:
        marks["runId"] = event.run
    match event.WhichOneof("payload"):
        case "session_reset":
            marks["kind"] = "reset"
        case "summary":
            marks["kind"] = "compaction"
        case "message" if event.message.role == event_pb2.ROLE_USER:
            marks["senderIsOwner"] = not event.message.inter_session
        case _:
            pass
    return marks


def _source_key(source: str) -> str:
    parts = source.split("/", 3)
    return f"agent:{parts[1]}:{parts[3]}" if len(parts) == 4 and parts[0] == "bots" else source
