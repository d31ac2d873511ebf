"""A session as Markdown, for people."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from mobot.session.v1 import event_pb2, part_pb2, session_pb2
from session_service.domain.event import EventKind
from session_service.domain.transfer import Line
from session_service.store.transferring import Manifest

_FENCE = re.compile(r"`{3,}")
_SPEAKERS = {event_pb2.ROLE_USER: "User", event_pb2.ROLE_ASSISTANT: "Assistant", event_pb2.ROLE_SYSTEM: "System"}


class MarkdownWriter:
    """Makes the text of one session. Messages are Markdown themselves and stand as they are."""

    def __init__(self, manifest: Manifest) -> None:
        self._session = manifest.session

    def begin(self) -> bytes:
        head, fields = self._session.head, self._session.fields
        title = fields.label or fields.display_name or head.title or head.session_id
        lines = [
            f"# {_one_line(title)}",
            "",
            f"- Session: `agent:{head.bot}:{head.session_id}`",
            f"- Created: {_time(self._session.create_time)}",
            f"- Last active: {_time(head.last_activity_time)}",
            f"- Messages: {head.message_count}",
        ]
        if fields.description:
            lines += ["", fields.description]
        return ("\n".join(lines) + "\n").encode()

    def add(self, lines: Sequence[Line]) -> bytes:
        return "".join(block for line in lines if (block := self._block(line))).encode()

    def end(self) -> bytes:
        return b""

    def _block(self, line: Line) -> str:
        event = event_pb2.Event.FromString(line.payload)
        match EventKind(line.kind):
            case EventKind.MESSAGE:
                said = event.message
                speaker = _SPEAKERS.get(said.role, "System")
                if said.inter_session and said.source:
                    speaker = f"Mail from {_one_line(said.source)}"
                cut = " (cut off)" if said.partial else ""
                return f"\n## {speaker}{cut} · {_time(line.create_time)}\n\n{_text(said.parts)}\n"
            case EventKind.TOOL_CALLED:
                call = event.tool_called
                return f"\n**Calls `{_one_line(call.tool)}`**\n\n{_fenced(call.arguments_json, 'json')}\n"
            case EventKind.TOOL_RETURNED:
                verb = "fails" if event.tool_returned.is_error else "answers"
                answer = _fenced(_text(event.tool_returned.parts))
                return f"\n**`{_one_line(event.tool_returned.tool)}` {verb}**\n\n{answer}\n"
            case EventKind.SUMMARY:
                return f"\n> **Summary of what is above**\n>\n{_quoted(event.summary.text)}\n"
            case EventKind.SESSION_RESET:
                return f"\n---\n\n*Reset, {_time(line.create_time)}*\n"
            case EventKind.RUN_FINISHED if event.run_finished.outcome != session_pb2.RUN_OUTCOME_SUCCEEDED:
                outcome = session_pb2.RunOutcome.Name(event.run_finished.outcome).removeprefix("RUN_OUTCOME_").lower()
                return f"\n*The run {outcome}: {_one_line(event.run_finished.error_message)}*\n"
            case _:
                return ""


def _text(parts: Sequence[part_pb2.Part]) -> str:
    pieces: list[str] = []
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                pieces.append(part.text)
            case "data":
                pieces.append(_fenced(part.data.value.decode(errors="replace")))
            case "file":
                label = _one_line(part.file.file_name or part.file.media_type or "file")
                pieces.append(f"[{label}](<{part.file.uri}>)" if part.file.uri else f"[{label}]")
            case _:
                pass
    return "\n\n".join(pieces)


def _fenced(text: str, language: str = "") -> str:
    """In a fence that is longer than any in the text."""
    longest = max((len(run) for run in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
