"""From what a person typed to a piece of mail, and from its receipt to the answer."""

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import timestamp_pb2

from gateway import errors, params
from gateway.services import Services
from mobot.router.v1 import message_pb2
from mobot.session.v1 import part_pb2

IDEMPOTENCY_KEY = params.Text(required=True, min_length=1, max_length=200)

_MODES: Mapping[str, int] = {
    "steer": message_pb2.BUSY_MODE_STEER,
    "followup": message_pb2.BUSY_MODE_ENQUEUE,
    "collect": message_pb2.BUSY_MODE_COLLECT,
    "interrupt": message_pb2.BUSY_MODE_INTERRUPT,
}
# What clients say about a message that a bot may want to know; kept as labels.
_LABELS = (
    "thinking",
    "originatingChannel",
    "originatingTo",
    "originatingAccountId",
    "originatingThreadId",
    "replyToId",
    "extraSystemPrompt",
)
_MAX_LABEL_CHARS = 1024
_MAX_TEXT_BYTES = 1024 * 1024
_MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_ATTACHMENTS = 32

_WAITING = frozenset(
    {
        message_pb2.MESSAGE_STATE_ACCEPTED,
        message_pb2.MESSAGE_STATE_QUEUED,
        message_pb2.MESSAGE_STATE_LEASED,
        message_pb2.MESSAGE_STATE_RUNNING,
        message_pb2.MESSAGE_STATE_NEEDS_DECISION,
    }
)


def user_draft(
    services: Services, session: str, text: str, run: str, given: Mapping[str, Any]
) -> message_pb2.MessageDraft:
    """The mail for a session (a resource name). `given` are the params it came with.

    Without a queue mode a message waits its turn: it is neither pushed into a running turn nor does it end one.
    """
    if len(text.encode()) > _MAX_TEXT_BYTES:
        raise errors.invalid_request(f"at /message: must not be longer than {_MAX_TEXT_BYTES} bytes of UTF-8")
    if "\x00" in text:
        raise errors.invalid_request("at /message: must not contain NUL characters")
    parts = [part_pb2.Part(text=text)] if text else []
    parts += [part_pb2.Part(file=file) for file in _attachments(given.get("attachments"))]
    if not parts:
        raise errors.invalid_request("message or attachment required")
    draft = message_pb2.MessageDraft(
        session=session,
        parts=parts,
        idempotency_key=run,
        mode=message_pb2.BusyMode.ValueType(_MODES.get(given.get("queueMode") or "followup", 0)),
        user_input=True,
        metadata={
            name: value[:_MAX_LABEL_CHARS] for name in _LABELS if isinstance(value := given.get(name), str) and value
        },
    )
    timeout_ms = given.get("timeoutMs")
    if timeout_ms:
        expire = timestamp_pb2.Timestamp()
        expire.FromMilliseconds(services.now_ms() + timeout_ms)
        draft.expire_time.CopyFrom(expire)
    return draft


async def deliver(services: Services, draft: message_pb2.MessageDraft) -> message_pb2.Receipt:
    """Hands mail to the router. In the first moments of the gateway it waits until the turn would be heard."""
    await services.streams.ensure_attached()
    return await services.mail.send(draft)


def ack(receipt: message_pb2.Receipt) -> dict[str, object]:
    """The answer to chat.send: "started", or for a key that was accepted before what became of it."""
    if not receipt.duplicate:
        return {"runId": receipt.run, "status": "started"}
    if receipt.state in _WAITING:
        return {"runId": receipt.run, "status": "in_flight"}
    if receipt.state == message_pb2.MESSAGE_STATE_SUCCEEDED:
        return {"runId": receipt.run, "status": "ok"}
    if receipt.state == message_pb2.MESSAGE_STATE_CANCELLED:
        return {"runId": receipt.run, "status": "timeout", "summary": "aborted", "stopReason": "rpc"}
    return {"runId": receipt.run, "status": "error"}


def _attachments(given: object) -> Sequence[part_pb2.FilePart]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > _MAX_ATTACHMENTS:
        raise errors.invalid_request(f"at /attachments: must be array of at most {_MAX_ATTACHMENTS} items")
    return [_attachment(item, f"at /attachments/{index}") for index, item in enumerate(given)]


def _attachment(item: object, where: str) -> part_pb2.FilePart:
    if not isinstance(item, dict):
        raise errors.invalid_request(f"{where}: must be object")
    content, media_type, name = item.get("content"), item.get("mimeType"), item.get("fileName")
    if not isinstance(content, str) or not content:
        raise errors.invalid_request(f"{where}/content: must be base64 text")
    head, comma, rest = content.partition(",")
    if head.startswith("data:") and comma:
        content = rest
    try:
        data = b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise errors.invalid_request(f"{where}/content: must be base64 text") from None
    if len(data) > _MAX_FILE_BYTES:
        raise errors.invalid_request(f"{where}/content: must not be larger than {_MAX_FILE_BYTES} bytes")
    return part_pb2.FilePart(
        inline_bytes=data,
        media_type=media_type[:127] if isinstance(media_type, str) else "application/octet-stream",
        file_name=name[:255] if isinstance(name, str) else "",
        size_bytes=len(data),
    )
