"""Sessions: to messages, and from the requests that create and change them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import field_invalid
from chassis.resource_names import check_session_id, parse_session
from mobot.session.v1 import part_pb2, session_pb2, session_service_pb2
from session_service.convert.checks import check_count, check_text, from_timestamp, to_timestamp
from session_service.domain.label import normalise_label
from session_service.domain.session import (
    Draft,
    Fields,
    Provenance,
    RunSummary,
    Session,
    Usage,
    is_color_code,
)

CREATED_VIA = frozenset({"operator", "spawn", "cron", "channel", "import", "mail"})

_EDITABLE = frozenset(field.name for field in dataclass_fields(Fields))
_IMMUTABLE = frozenset({"user_created", "created_via", "parent", "fork_origin", "template"})
_KNOWN = frozenset(session_pb2.Session.DESCRIPTOR.fields_by_name)

Change = Callable[[Fields], Fields]


def to_proto_session(session: Session, view: session_service_pb2.SessionView | None = None) -> session_pb2.Session:
    """With the derived texts that `view` asks for."""
    head, fields, provenance = session.head, session.fields, session.provenance
    fork = provenance.fork_origin
    return session_pb2.Session(
        name=head.name,
        uid=head.uid,
        key=f"agent:{head.bot}:{head.session_id}",
        label=fields.label,
        display_name=fields.display_name,
        persistent=fields.persistent,
        state=session_pb2.SessionState.ValueType(head.state),
        status=session_pb2.SessionStatus.ValueType(head.status),
        last_sequence=head.last_sequence,
        last_activity_time=to_timestamp(head.last_activity_time),
        etag=session.etag,
        active_runs=head.active_runs,
        last_run=None if head.last_run is None else _to_proto_run(head.last_run),
        description=fields.description,
        user_created=provenance.user_created,
        created_by=provenance.created_by,
        created_via=provenance.created_via,
        group=fields.group,
        tags=fields.tags,
        icon=fields.icon,
        color=fields.color,
        pinned=fields.pinned,
        pin_time=to_timestamp(session.pin_time),
        unread=fields.unread,
        mark_unread_time=to_timestamp(session.mark_unread_time),
        last_read_time=to_timestamp(session.last_read_time),
        parent=provenance.parent,
        lineage=provenance.lineage,
        spawn_depth=provenance.spawn_depth,
        fork_origin=None
        if fork is None
        else session_pb2.ForkOrigin(session=fork.session, session_uid=fork.session_uid, sequence=fork.sequence),
        model=fields.model,
        overrides=fields.overrides,
        previous_uid=session.previous_uid,
        start_sequence=head.start_sequence,
        message_count=head.message_count,
        usage=to_proto_usage(head.usage),
        derived_title=head.title if view is not None and view.derived_title else "",
        last_message_preview=head.preview if view is not None and view.last_message_preview else "",
        create_time=to_timestamp(session.create_time),
        update_time=to_timestamp(session.update_time),
        archive_time=to_timestamp(session.archive_time),
        delete_time=to_timestamp(session.delete_time),
        purge_time=to_timestamp(session.purge_time),
        expire_time=to_timestamp(fields.expire_time),
        template=provenance.template,
        epoch=head.mark,
    )


def to_proto_usage(usage: Usage) -> part_pb2.Usage:
    return part_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        request_count=usage.request_count,
        tool_call_count=usage.tool_call_count,
        cost_micros=usage.cost_micros,
    )


def from_proto_usage(usage: part_pb2.Usage) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.request_count,
        usage.tool_call_count,
        usage.cost_micros,
    )


def to_proto_fields(fields: Fields) -> session_pb2.Session:
    """A session with nothing but its editable fields."""
    return session_pb2.Session(
        label=fields.label,
        display_name=fields.display_name,
        persistent=fields.persistent,
        description=fields.description,
        group=fields.group,
        tags=fields.tags,
        icon=fields.icon,
        color=fields.color,
        pinned=fields.pinned,
        unread=fields.unread,
        model=fields.model,
        overrides=fields.overrides,
        expire_time=to_timestamp(fields.expire_time),
    )


def from_proto_draft(
    bot: str, session_id: str, session: session_pb2.Session, actor: str, *, template: str = ""
) -> Draft:
    """A session to be created for `actor`; output-only fields are ignored."""
    check_session_id(session_id)
    provenance = Provenance(
        created_by=actor,
        created_via=from_proto_created_via(session.created_via, "session.created_via"),
        user_created=session.user_created,
        parent=from_proto_parent(session.parent, "session.parent"),
        template=template,
    )
    return Draft(bot, session_id, from_proto_fields(session), provenance)


def from_proto_created_via(created_via: str, field: str) -> str:
    if created_via and created_via not in CREATED_VIA:
        raise field_invalid(field, f"must be one of {', '.join(sorted(CREATED_VIA))}", value=created_via)
    return created_via or "operator"


def from_proto_parent(parent: str, field: str) -> str:
    return parse_session(parent, field=field).name if parent else ""


def from_proto_fields(session: session_pb2.Session) -> Fields:
    """All editable fields, checked."""
    return Fields(
        label=normalise_label(session.label),
        display_name=check_text("session.display_name", session.display_name, 500),
        persistent=session.persistent,
        description=check_text("session.description", session.description, 4_096, lines=True),
        group=check_text("session.group", session.group, 128),
        tags=_tags(session.tags),
        icon=_icon(session.icon),
        color=_color(session.color),
        pinned=session.pinned,
        unread=session.unread,
        model=check_text("session.model", session.model, 256),
        overrides=_overrides(session.overrides),
        expire_time=from_timestamp("session.expire_time", session.expire_time)
        if session.HasField("expire_time")
        else None,
    )


def from_proto_change(session: session_pb2.Session, mask: FieldMask | None) -> Change:
    """What an update does to the fields. Without a mask: everything that is set."""
    given = from_proto_fields(session)
    paths = list(mask.paths) if mask is not None and mask.paths else _set_fields(session)
    whole: list[str] = []
    keys: list[str] = []
    for path in paths:
        field, dot, key = path.partition(".")
        if field == "overrides" and dot:
            keys.append(key)
        elif path in _EDITABLE:
            whole.append(path)
        elif path in _IMMUTABLE:
            raise field_invalid("update_mask", f"names {path!r}, which never changes", path=path)
        elif path not in _KNOWN:
            raise field_invalid("update_mask", f"names {path!r}, which is no field of a session", path=path)

    def change(before: Fields) -> Fields:
        after = replace(before, **{name: getattr(given, name) for name in whole})
        if keys:
            after = replace(after, overrides=_with_keys(after.overrides, given.overrides, keys))
        return after

    return change


def _with_keys(before: Mapping[str, str], given: Mapping[str, str], keys: list[str]) -> dict[str, str]:
    """A key that is not given is removed."""
    after = {key: value for key, value in before.items() if key not in keys}
    after.update((key, given[key]) for key in keys if key in given)
    check_count("session.overrides", list(after), maximum=64)
    return after


def _set_fields(session: session_pb2.Session) -> list[str]:
    return [field.name for field, _ in session.ListFields() if field.name in _EDITABLE]


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(tags))
    check_count("session.tags", values, maximum=32)
    for tag in values:
        if not tag:
            raise field_invalid("session.tags", "must not hold an empty tag")
        check_text("session.tags", tag, 64)
    return values


def _icon(icon: str) -> str:
    # Emoji are joined by characters that cannot be seen, so only the worst are refused.
    return check_text("session.icon", icon, 64, lines=True)


def _color(color: str) -> str:
    if color.startswith("#") and not is_color_code(color):
        raise field_invalid("session.color", "must be a name or #rrggbb", value=color[:32])
    return check_text("session.color", color, 32)


def _overrides(overrides: Mapping[str, str]) -> dict[str, str]:
    check_count("session.overrides", list(overrides), maximum=64)
    return {
        check_text("session.overrides", key, 64): check_text("session.overrides", value, 1_024, lines=True)
        for key, value in sorted(overrides.items())
    }


def _to_proto_run(run: RunSummary) -> session_pb2.RunSummary:
    return session_pb2.RunSummary(
        run=run.run,
        outcome=session_pb2.RunOutcome.ValueType(run.outcome),
        error_message=run.error_message,
        start_time=to_timestamp(run.start_time),
        end_time=to_timestamp(run.end_time),
    )
