"""Rows to domain objects and back."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Column

from session_service.domain.label import label_key, label_skeleton
from session_service.domain.session import (
    NO_USAGE,
    Fields,
    ForkOrigin,
    Head,
    Provenance,
    RunOutcome,
    RunSummary,
    Session,
    SessionState,
    SessionStatus,
    Usage,
)
from session_service.models import PIN_LIFT, SESSION
from session_service.store.sql import Among

_c = SESSION.c
_STATES = {int(state): state for state in SessionState}
_STATUSES = {int(status): status for status in SessionStatus}

HEAD_COLUMNS: Sequence[Column[Any]] = (
    _c.pk,
    _c.bot,
    _c.session_id,
    _c.uid,
    _c.transcript,
    _c.state,
    _c.mark,
    _c.last_sequence,
    _c.start_sequence,
    _c.last_activity_time,
    _c.status,
    _c.active_runs,
    _c.last_run,
    _c.message_count,
    _c.usage,
    _c.title,
    _c.preview,
    _c.summary_sequence,
    _c.summary_through,
)
_HEAD_WIDTH = len(HEAD_COLUMNS)

SESSION_COLUMNS: Sequence[Column[Any]] = (
    *HEAD_COLUMNS,
    _c.label,
    _c.display_name,
    _c.persistent,
    _c.description,
    _c.group_name,
    _c.tags,
    _c.icon,
    _c.color,
    _c.pinned,
    _c.unread,
    _c.model,
    _c.overrides,
    _c.expire_time,
    _c.created_by,
    _c.created_via,
    _c.user_created,
    _c.parent,
    _c.lineage,
    _c.spawn_depth,
    _c.fork_origin,
    _c.template,
    _c.version,
    _c.create_time,
    _c.update_time,
    _c.previous_uid,
    _c.pin_time,
    _c.mark_unread_time,
    _c.last_read_time,
    _c.archive_time,
    _c.delete_time,
    _c.purge_time,
    _c.expiry_warned,
    _c.archive_due,
)


SESSIONS_BY_NAME = Among(SESSION_COLUMNS, _c.name)
SESSIONS_BY_KEY = Among(SESSION_COLUMNS, _c.pk)


def to_head(row: Sequence[Any]) -> Head:
    """From HEAD_COLUMNS."""
    (
        pk,
        bot,
        session_id,
        uid,
        transcript,
        state,
        mark,
        last_sequence,
        start_sequence,
        activity,
        status,
        active_runs,
        last_run,
        message_count,
        usage,
        title,
        preview,
        summary_sequence,
        summary_through,
    ) = row
    return Head(
        pk,
        bot,
        session_id,
        uid,
        transcript,
        _STATES[state],
        mark,
        last_sequence,
        start_sequence,
        activity,
        _STATUSES[status],
        tuple(orjson.loads(active_runs)) if active_runs else (),
        _to_run(last_run) if last_run else None,
        message_count,
        Usage(*orjson.loads(usage)) if usage else NO_USAGE,
        title,
        preview,
        summary_sequence,
        summary_through,
    )


def to_session(row: Sequence[Any]) -> Session:
    """From SESSION_COLUMNS."""
    (
        label,
        display_name,
        persistent,
        description,
        group,
        tags,
        icon,
        color,
        pinned,
        unread,
        model,
        overrides,
        expire_time,
        created_by,
        created_via,
        user_created,
        parent,
        lineage,
        spawn_depth,
        fork_origin,
        template,
        version,
        create_time,
        update_time,
        previous_uid,
        *times,
    ) = row[_HEAD_WIDTH:]
    return Session(
        to_head(row[:_HEAD_WIDTH]),
        Fields(
            label,
            display_name,
            bool(persistent),
            description,
            group,
            tuple(orjson.loads(tags)) if tags else (),
            icon,
            color,
            bool(pinned),
            bool(unread),
            model,
            orjson.loads(overrides) if overrides else {},
            expire_time,
        ),
        Provenance(
            created_by,
            created_via,
            bool(user_created),
            parent,
            tuple(orjson.loads(lineage)) if lineage else (),
            spawn_depth,
            ForkOrigin(*orjson.loads(fork_origin)) if fork_origin else None,
            template,
        ),
        version,
        create_time,
        update_time,
        previous_uid,
        *times,
    )


MOVED_COLUMNS = (
    "mark",
    "last_sequence",
    "last_activity_time",
    "status",
    "active_runs",
    "last_run",
    "message_count",
    "usage",
    "title",
    "preview",
    "summary_sequence",
    "summary_through",
)
"""The columns that an append moves, all but the rank, which needs to know whether the session is pinned."""


def moved_values(head: Head) -> tuple[Any, ...]:
    """The values of MOVED_COLUMNS."""
    return (
        head.mark,
        head.last_sequence,
        head.last_activity_time,
        int(head.status),
        _json(head.active_runs),
        _from_run(head.last_run),
        head.message_count,
        _from_usage(head.usage),
        head.title,
        head.preview,
        head.summary_sequence,
        head.summary_through,
    )


def session_values(session: Session) -> dict[str, Any]:
    """All columns."""
    head, fields, provenance = session.head, session.fields, session.provenance
    fork = provenance.fork_origin
    named = bool(fields.label) and head.state is not SessionState.DELETED
    return {
        "pk": head.pk,
        "name": head.name,
        "bot": head.bot,
        "session_id": head.session_id,
        "uid": head.uid,
        "transcript": head.transcript,
        "state": int(head.state),
        "start_sequence": head.start_sequence,
        **dict(zip(MOVED_COLUMNS, moved_values(head), strict=True)),
        "sort_rank": -head.last_activity_time - (PIN_LIFT if fields.pinned else 0),
        "label": fields.label,
        "label_key": label_key(fields.label) if named else None,
        "label_skeleton": label_skeleton(fields.label) if named else None,
        "display_name": fields.display_name,
        "persistent": int(fields.persistent),
        "description": fields.description,
        "group_name": fields.group,
        "tags": _json(fields.tags),
        "icon": fields.icon,
        "color": fields.color,
        "pinned": int(fields.pinned),
        "unread": int(fields.unread),
        "model": fields.model,
        "overrides": _json(fields.overrides),
        "expire_time": fields.expire_time,
        "created_by": provenance.created_by,
        "created_via": provenance.created_via,
        "user_created": int(provenance.user_created),
        "parent": provenance.parent,
        "lineage": _json(provenance.lineage),
        "spawn_depth": provenance.spawn_depth,
        "fork_origin": _json((fork.session, fork.session_uid, fork.sequence) if fork else ()),
        "template": provenance.template,
        "version": session.version,
        "create_time": session.create_time,
        "create_rank": -session.create_time,
        "update_time": session.update_time,
        "previous_uid": session.previous_uid,
        "pin_time": session.pin_time,
        "mark_unread_time": session.mark_unread_time,
        "last_read_time": session.last_read_time,
        "archive_time": session.archive_time,
        "delete_time": session.delete_time,
        "purge_time": session.purge_time,
        "expiry_warned": session.expiry_warned,
        "archive_due": session.archive_due,
        "search_text": fold("\n".join((head.session_id, fields.label, fields.display_name, fields.description))),
    }


def fold(text: str) -> str:
    """Text as filters compare it."""
    return text.casefold()


def _json(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _to_run(text: str) -> RunSummary:
    run, outcome, error_message, start_time, end_time = orjson.loads(text)
    return RunSummary(run, RunOutcome(outcome), error_message, start_time, end_time)


def _from_run(run: RunSummary | None) -> str:
    if run is None:
        return ""
    return _json((run.run, int(run.outcome), run.error_message, run.start_time, run.end_time))


def usage_values(usage: Usage) -> tuple[int, ...]:
    """In the order of its fields."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.request_count,
        usage.tool_call_count,
        usage.cost_micros,
    )


def _from_usage(usage: Usage) -> str:
    return "" if usage is NO_USAGE else _json(usage_values(usage))
