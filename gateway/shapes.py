"""Sessions and models in the shapes that clients read. Mapped by hand: these are on the hot path."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import timestamp_pb2

from gateway.keys import MAIN, agent_of, key_of
from mobot.session.v1 import session_pb2

_CREATED_VIA = frozenset({"operator", "spawn", "channel", "cron", "talk", "run", "plugin", "internal"})
_BACKGROUND = ("subagent", "cron", "hook")
_STATUSES: Mapping[int, str] = {
    session_pb2.SESSION_STATUS_RUNNING: "running",
    session_pb2.SESSION_STATUS_SUCCEEDED: "done",
    session_pb2.SESSION_STATUS_FAILED: "failed",
    session_pb2.SESSION_STATUS_CANCELLED: "killed",
    session_pb2.SESSION_STATUS_NEEDS_DECISION: "queued",
}
# Overrides that a client sets per session and reads back from its row under the same name.
ROW_OVERRIDES = frozenset(
    {"thinkingLevel", "verboseLevel", "reasoningLevel", "elevatedLevel", "traceLevel", "responseUsage", "sendPolicy"}
)


def millis(timestamp: timestamp_pb2.Timestamp) -> int:
    return timestamp.seconds * 1000 + timestamp.nanos // 1_000_000


def split_model(model: str) -> tuple[str, str]:
    """ "openai/gpt-5" -> ("openai", "gpt-5"); a model without a provider belongs to mobot."""
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else ("mobot", provider)


def session_row(session: session_pb2.Session) -> dict[str, Any]:
    """A row of sessions.list. Fields that have no value are left out, as the reference gateway does."""
    session_id = session.name.split("/", 3)[3]
    agent = agent_of(session.name)
    kind = session_id if session_id in ("global", "unknown") else "direct"
    archived = session.state == session_pb2.SESSION_STATE_ARCHIVED
    row: dict[str, Any] = {
        "key": session.key or key_of(session.name),
        "kind": kind,
        "agentId": agent,
        "sessionId": session.uid,
        "displayName": session.display_name or session.label or session.derived_title or _readable(session_id),
        "classification": _classification(session_id),
        "isMain": session_id == MAIN,
        "isBackground": session_id.startswith(_BACKGROUND),
        "chatType": "direct",
        "createdVia": session.created_via if session.created_via in _CREATED_VIA else "operator",
        "createdAt": millis(session.create_time),
        "updatedAt": max(millis(session.last_activity_time), millis(session.update_time), millis(session.create_time)),
        "archived": archived,
        "pinned": session.pinned,
        "unread": session.unread,
        "spawnDepth": session.spawn_depth,
        "totalTokensFresh": False,
        "visibility": "shared",
        # Ours: stock clients ignore what they do not know.
        "persistent": session.persistent,
        "userCreated": session.user_created,
        "botId": agent,
        "lastSequence": session.last_sequence,
        "etag": session.etag,
    }
    _put_texts(row, session)
    _put_times(row, session, archived=archived)
    _put_run(row, session)
    _put_usage(row, session)
    return row


def entry(session: session_pb2.Session) -> dict[str, Any]:
    """`entry` of create, patch and reset: what is stored, without what is derived."""
    archived = session.state == session_pb2.SESSION_STATE_ARCHIVED
    stored: dict[str, Any] = {
        "sessionId": session.uid,
        "lifecycleRevision": session.etag or session.uid,
        "createdAt": millis(session.create_time),
        "updatedAt": max(millis(session.update_time), millis(session.last_activity_time), millis(session.create_time)),
        "createdVia": session.created_via or "operator",
        "spawnDepth": session.spawn_depth,
        "archived": archived,
        "pinned": session.pinned,
        "unread": session.unread,
        "persistent": session.persistent,
    }
    _put_texts(stored, session)
    # `openclaw sessions archive` believes an archived session by its `archivedAt` alone.
    _put_times(stored, session, archived=archived)
    return stored


def resolved_model(session: session_pb2.Session, fallback: str) -> dict[str, str]:
    """`resolved` of create, patch and reset. `fallback` is the bot's own model."""
    provider, model = split_model(session.model or fallback)
    return {"modelProvider": provider, "model": model}


def _put_texts(row: dict[str, Any], session: session_pb2.Session) -> None:
    texts = (
        ("label", session.label),
        ("category", session.group),
        ("icon", session.icon),
        ("color", session.color),
        ("derivedTitle", session.derived_title),
        ("lastMessagePreview", session.last_message_preview),
        ("previousSessionId", session.previous_uid),
        ("description", session.description),
    )
    for name, text in texts:
        if text:
            row[name] = text
    if session.tags:
        row["tags"] = list(session.tags)
    if session.parent:
        row["parentSessionKey"] = key_of(session.parent)
        if session.created_via == "spawn":
            row["spawnedBy"] = row["parentSessionKey"]
    if session.HasField("fork_origin"):
        row["forkSource"] = {
            "sessionKey": key_of(session.fork_origin.session),
            "sessionId": session.fork_origin.session_uid,
        }
    if session.model:
        row["modelProvider"], row["model"] = split_model(session.model)
        row["modelOverrideSource"] = "user"
    for name, value in session.overrides.items():
        if name in ROW_OVERRIDES:
            row[name] = value


def _put_times(row: dict[str, Any], session: session_pb2.Session, *, archived: bool) -> None:
    if session.HasField("last_activity_time"):
        row["lastActivityAt"] = row["lastInteractionAt"] = millis(session.last_activity_time)
    if archived and session.HasField("archive_time"):
        row["archivedAt"] = millis(session.archive_time)
    if session.pinned and session.HasField("pin_time"):
        row["pinnedAt"] = millis(session.pin_time)
    if session.HasField("last_read_time"):
        row["lastReadAt"] = millis(session.last_read_time)
    if session.unread and session.HasField("mark_unread_time"):
        row["markedUnreadAt"] = millis(session.mark_unread_time)


def _put_run(row: dict[str, Any], session: session_pb2.Session) -> None:
    row["hasActiveRun"] = bool(session.active_runs)
    row["activeRunIds"] = list(session.active_runs)
    status = _STATUSES.get(session.status)
    if status:
        row["status"] = status
    run = session.last_run
    if not run.run:
        return
    row["lastRunId"] = run.run
    aborted = run.outcome == session_pb2.RUN_OUTCOME_CANCELLED
    row["abortedLastRun"] = aborted
    # What was stopped on purpose is no error: the Control UI would warn of one.
    if run.error_message and not aborted:
        row["lastRunError"] = run.error_message
    if run.HasField("start_time"):
        row["startedAt"] = millis(run.start_time)
        if run.HasField("end_time"):
            row["endedAt"] = millis(run.end_time)
            row["runtimeMs"] = max(0, row["endedAt"] - row["startedAt"])


def _put_usage(row: dict[str, Any], session: session_pb2.Session) -> None:
    usage = session.usage
    total = usage.input_tokens + usage.output_tokens
    if total:
        row["inputTokens"] = usage.input_tokens
        row["outputTokens"] = usage.output_tokens
        row["totalTokens"] = total
    if usage.cost_micros:
        row["estimatedCostUsd"] = usage.cost_micros / 1_000_000


def _classification(session_id: str) -> str:
    head = session_id.partition(":")[0]
    if session_id == MAIN:
        return "main"
    return head if head in ("dashboard", "thread", "subagent", "cron", "direct") else "custom"


def _readable(session_id: str) -> str:
    head, _, rest = session_id.partition(":")
    if head in ("dashboard", "tui", "explicit", "subagent") and rest:
        return f"Session {rest[:8]}"
    return rest if head in ("thread", "named") and rest else session_id
