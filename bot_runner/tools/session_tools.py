"""sessions_list, sessions_history, session_status: a bot looks into its own sessions."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from bot_runner.tools.redaction import redacted
from bot_runner.tools.tool import Call, Params, Tool
from bot_sdk.model import Entry, Said, SessionInfo, ToolCall, ToolResult
from bot_sdk.steps import Json
from chassis import resource_names

HISTORY_BYTES = 80_000
_ENTRY_CHARS = 8_000


class SessionsListParams(Params):
    search: Annotated[str, Field(max_length=256)] = Field("", description="Text within key, label or description.")
    label: Annotated[str, Field(max_length=512)] = Field("", description="Only the session with this exact label.")
    group: Annotated[str, Field(max_length=128)] = Field("", description="Only sessions of this group.")
    limit: int = Field(20, ge=1, le=200, description="Sessions at most.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Sessions to skip.")
    active_minutes: int = Field(0, ge=0, description="Only sessions active within so many minutes; 0 for all.")
    archived: bool = Field(False, description="Archived sessions instead of active ones.")
    include_derived_titles: bool = Field(False, description="With titles made from the first message.")
    include_last_message: bool = Field(False, description="With the beginning of the newest message.")
    message_limit: int = Field(0, ge=0, le=20, description="Newest messages to return with each session.")


async def sessions_list(call: Call, params: SessionsListParams) -> Json:
    since = datetime.now(UTC) - timedelta(minutes=params.active_minutes) if params.active_minutes else None
    sessions = call.turn.sessions
    page = await sessions.list(
        limit=params.limit,
        offset=params.offset,
        text=params.search,
        label=params.label,
        group=params.group,
        archived=params.archived,
        active_since=since,
        titles=params.include_derived_titles,
        last_messages=params.include_last_message,
    )
    rows: list[Json] = []
    for session in page.sessions:
        row = _row(session)
        if params.message_limit:
            entries = await sessions.recent(session.name, limit=params.message_limit)
            row["messages"] = [_line(entry) for entry in entries]
        rows.append(row)
    shown = params.offset + len(rows)
    return {"sessions": rows, "total": page.total, "hasMore": shown < page.total}


class SessionsHistoryParams(Params):
    session_key: Annotated[str, Field(max_length=600)] = Field(
        "", description="Key (agent:bot:session), id, label or transcript id; default: this session."
    )
    limit: int = Field(30, ge=1, le=200, description="Messages at most, the newest.")
    include_tools: bool = Field(False, description="Tool calls and results too.")
    before_sequence: int = Field(0, ge=0, description="Only what came before; for the page before this one.")


async def sessions_history(call: Call, params: SessionsHistoryParams) -> Json:
    turn = call.turn
    name = (await turn.sessions.resolve(params.session_key)).name if params.session_key else turn.session
    entries = await turn.sessions.recent(
        name, limit=params.limit, tools=params.include_tools, before_sequence=params.before_sequence
    )
    lines: list[Json] = []
    size = 0
    # The newest matter most, so it is the oldest that do not fit.
    for entry in reversed(entries):
        line = _line(entry)
        size += sum(len(value) for value in line.values() if isinstance(value, str))
        if size > HISTORY_BYTES and lines:
            break
        lines.append(line)
    lines.reverse()
    kept = entries[len(entries) - len(lines) :]
    return {
        "sessionKey": resource_names.parse_session(name).key,
        "messages": lines,
        "truncated": len(lines) < len(entries),
        "nextBeforeSequence": kept[0].sequence if kept else 0,
    }


SESSIONS_LIST = Tool(
    "sessions_list",
    "Lists your own sessions with their keys, labels and states, pinned and most recently active first.",
    SessionsListParams,
    sessions_list,
)
SESSIONS_HISTORY = Tool(
    "sessions_history",
    "Reads the newest messages of one of your own sessions, oldest of them first. What looks like a secret is hidden.",
    SessionsHistoryParams,
    sessions_history,
)


class SessionStatusParams(Params):
    session_key: Annotated[str, Field(max_length=600)] = Field(
        "", description="Key (agent:bot:session), id, label or transcript id; default: this session."
    )


async def session_status(call: Call, params: SessionStatusParams) -> Json:
    turn = call.turn
    session = await turn.sessions.resolve(params.session_key or resource_names.parse_session(turn.session).key)
    mailbox = await turn.mail.mailbox(session.name)
    return {
        **_row(session),
        "bot": turn.bot.id,
        "description": session.description,
        "archived": session.archived,
        "queued": mailbox.queued,
        "inFlight": mailbox.in_flight,
        "deadLetters": mailbox.dead_letters,
        "runId": turn.run if session.name == turn.session else "",
        "attempt": turn.attempt if session.name == turn.session else 0,
        "now": datetime.now(UTC).isoformat(timespec="seconds"),
    }


SESSION_STATUS = Tool(
    "session_status",
    "Tells how one of your own sessions is: its model, what it used, what waits for it, and what time it is.",
    SessionStatusParams,
    session_status,
)


def _row(session: SessionInfo) -> dict[str, Json]:
    row: dict[str, Json] = {
        "key": session.key,
        "kind": session.created_via or "operator",
        "label": session.label,
        "displayName": session.display_name or session.label or session.key,
        "status": session.status.lower(),
        "persistent": session.persistent,
        "sessionId": session.uid,
        "model": session.model,
        "totalTokens": session.total_tokens,
        "messageCount": session.message_count,
        "updatedAt": _iso(session.last_activity),
    }
    if session.derived_title:
        row["derivedTitle"] = session.derived_title
    if session.last_message:
        row["lastMessage"] = redacted(session.last_message)
    return row


def _line(entry: Entry) -> dict[str, Json]:
    if isinstance(entry, Said):
        line: dict[str, Json] = {"role": entry.role.value, "text": _bounded(entry.text)}
        if entry.inter_session:
            line["from"] = entry.source
        if entry.partial:
            line["partial"] = True
    elif isinstance(entry, ToolCall):
        line = {"role": "tool_call", "tool": entry.tool, "text": _bounded(entry.arguments_json)}
    else:
        line = _result_line(entry)
    line["sequence"] = entry.sequence
    line["time"] = _iso(entry.time)
    return line


def _result_line(entry: ToolResult) -> dict[str, Json]:
    line: dict[str, Json] = {"role": "tool", "tool": entry.tool, "text": _bounded(entry.text)}
    if entry.is_error:
        line["isError"] = True
    return line


def _bounded(text: str) -> str:
    return redacted(text if len(text) <= _ENTRY_CHARS else text[:_ENTRY_CHARS] + "… (cut)")


def _iso(time: datetime | None) -> str:
    return "" if time is None else time.isoformat(timespec="milliseconds")
