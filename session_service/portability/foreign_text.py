"""Values as they stand in the stores of OpenClaw, made into ours: texts, times, ids, parts of messages."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mobot.session.v1 import part_pb2
from session_service.convert.checks import UNSHOWABLE
from session_service.domain.session import is_color_code

MAX_TEXT = 1024 * 1024
_MAX_FILE = 3 * 1024 * 1024
_MAX_PARTS = 64

# A stored question is decorated: "[Sat 2026-11-21 03:52 UTC] hello\n[message_id: 7d0c]".
_STAMP = re.compile(r"\A\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]\n]{0,40}\] ?")
_MESSAGE_ID = re.compile(r"\n?\[message_id: ([^\]\n]{1,200})\]\s*\Z")
_SHORT_COLOR = re.compile(r"#[0-9A-Fa-f]{3}")
_NO_ID = re.compile(r"[^A-Za-z0-9._:@+=~-]")


def undecorated(text: str) -> tuple[str, str]:
    """What the person wrote, and the message id that was written behind it."""
    found = _MESSAGE_ID.search(text)
    key = found[1] if found else ""
    return _STAMP.sub("", text[: found.start()] if found else text), key


def text_parts(text: str) -> Iterator[part_pb2.Part]:
    clean = text.replace("\0", "")
    for start in range(0, len(clean), MAX_TEXT):
        yield part_pb2.Part(text=clean[start : start + MAX_TEXT])


def parts_of(content: object) -> list[part_pb2.Part]:
    """The text and the files of a message's content; its thoughts and tool calls are no part of what it says."""
    if isinstance(content, str):
        return list(text_parts(content))[:_MAX_PARTS]
    parts: list[part_pb2.Part] = []
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            continue
        if block.get("type") == "text" and isinstance(block.get("text"), str):
            parts.extend(text_parts(block["text"]))
        elif block.get("type") == "image":
            parts.append(_image(block))
    return parts[:_MAX_PARTS]


def blocks_of(content: object, kind: str) -> list[Mapping[str, Any]]:
    return (
        [each for each in content if isinstance(each, dict) and each.get("type") == kind]
        if isinstance(content, list)
        else []
    )


def usage_of(given: object) -> part_pb2.Usage | None:
    if not isinstance(given, dict):
        return None
    cost = given.get("cost")
    total = cost.get("total") if isinstance(cost, dict) else None
    return part_pb2.Usage(
        input_tokens=_count(given.get("input")),
        output_tokens=_count(given.get("output")),
        cache_read_tokens=_count(given.get("cacheRead")),
        cache_write_tokens=_count(given.get("cacheWrite")),
        request_count=1,
        cost_micros=_count(total * 1_000_000) if isinstance(total, int | float) and total == total else 0,
    )


def micros_of(given: object) -> int | None:
    """A time that is given in milliseconds or as ISO 8601; None for anything else."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return int(given) * 1000 if 0 < given < 1e14 else None
    if isinstance(given, str):
        try:
            time = datetime.fromisoformat(given)
        except ValueError:
            return None
        if time.tzinfo is None:
            return None
        return int(time.timestamp() * 1_000_000) if 0 < time.timestamp() < 2.5e11 else None
    return None


def session_id_of(rest: str) -> str:
    """A legal session id for what stands behind the agent in a key: itself, or one like it with a mark of its own."""
    if _legal(rest):
        return rest
    safe = _NO_ID.sub("-", rest).replace("..", ".-").lstrip("._:@+=~-")[:200]
    return f"{safe or 'imported'}-{hashlib.sha256(rest.encode(errors='replace')).hexdigest()[:8]}"


def line_of(value: object, maximum: int) -> str:
    """A printable line of text, cut; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    return UNSHOWABLE.sub(" ", value).strip()[:maximum]


def color_of(value: object) -> str:
    """A colour's name or #rrggbb; the short form is written out, and "" is for anything else."""
    color = line_of(value, 32)
    if _SHORT_COLOR.fullmatch(color):
        color = "#" + "".join(2 * digit for digit in color[1:])
    return color if is_color_code(color) or not color.startswith("#") else ""


def _legal(rest: str) -> bool:
    return bool(rest) and len(rest) <= 256 and not _NO_ID.search(rest) and ".." not in rest and rest[0].isalnum()


def _image(block: Mapping[str, Any]) -> part_pb2.Part:
    media_type = line_of(block.get("mimeType"), 127) or "image/png"
    try:
        data = base64.b64decode(block.get("data") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        data = b""
    if not data or len(data) > _MAX_FILE:
        return part_pb2.Part(text=f"[{media_type} left out]")
    file = part_pb2.FilePart(inline_bytes=data, media_type=media_type, size_bytes=len(data))
    return part_pb2.Part(file=file)


def _count(value: object) -> int:
    return min(int(value), 1 << 53) if isinstance(value, int | float) and value == value and value > 0 else 0
