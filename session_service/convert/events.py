"""Events: from appends, to messages, and the payloads of the service's own events.

A payload is the event's wire form without the fields that the service sets. Those come behind it: where a field is
given twice the last one counts, so an event is completed without taking it apart.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from chassis.errors import field_invalid
from chassis.resource_names import SessionName, parse_session
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2
from session_service.convert.checks import check_count, check_text, from_timestamp
from session_service.convert.sessions import (
    from_proto_created_via,
    from_proto_parent,
    from_proto_usage,
    to_proto_session,
)
from session_service.domain import lifecycle
from session_service.domain.append import PREVIEW_LENGTH
from session_service.domain.event import (
    APPENDABLE,
    OWN_ID_PREFIX,
    Append,
    Ensure,
    EventKind,
    Message,
    NewEvent,
    Role,
    RunEnd,
    RunStart,
    StoredEvent,
    Summary,
)
from session_service.domain.session import RunOutcome

MAX_APPEND_EVENTS = 1_000
_MAX_NAMES = 65_536

_KIB = 1_024
_MIB = 1_024 * _KIB
_MAX_PAYLOAD_BYTES = 4 * _MIB + 256 * _KIB
_MICROS = 1_000_000

_KINDS: Mapping[str, EventKind] = {
    field.name: EventKind(field.number) for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
}
_ROLES: Mapping[int, Role] = {int(role): role for role in Role}
_OUTCOMES: Mapping[int, RunOutcome] = {int(outcome): outcome for outcome in RunOutcome}

_OUTPUT_FIELDS: Sequence[Literal["sequence", "session", "session_uid", "create_time"]] = (
    "sequence",
    "session",
    "session_uid",
    "create_time",
)
_ACTOR_TAG = b"\x32"  # field 6, length-delimited
_TRACEPARENT_TAG = b"\x72"  # field 14, length-delimited

Detail = Message | RunStart | RunEnd | Summary | None


class AppendReader:
    """Reads the appends of one call."""

    def __init__(
        self, *, actor: str, root: bool, traceparent: str = "", names: dict[str, SessionName] | None = None
    ) -> None:
        """`actor` stands in every event, except that root may name another. `traceparent` fills empty ones.

        `names` are session names that were found to be right before: they come again and again.
        """
        self._names = {} if names is None else names
        self._actor = actor
        self._root = root
        self._actor_bytes = _delimited(_ACTOR_TAG, actor)
        self._trace_bytes = _delimited(_TRACEPARENT_TAG, traceparent) if traceparent else b""

    def read(self, append: session_service_pb2.SessionAppend, *, return_session: bool) -> Append:
        """Raises InvalidArgument (FIELD_INVALID, RESOURCE_NAME_INVALID)."""
        bot, session_id = self._session(append.session)
        events = append.events
        check_count("append.events", events, minimum=1, maximum=MAX_APPEND_EVENTS)
        read = [self._event(event) for event in events]
        if len(read) > 1 and len({event.id for event in read}) != len(read):
            raise field_invalid("append.events.id", "must differ within an append")
        epoch = append.epoch
        if epoch < 0:
            raise field_invalid("append.epoch", f"must not be negative (was {epoch})")
        ensure = self._ensure(append.ensure) if append.HasField("ensure") else None
        return Append(bot, session_id, read, epoch, append.expected_uid, ensure, return_session)

    def _session(self, name: str) -> SessionName:
        found = self._names.get(name)
        if found is None:
            found = parse_session(name, field="append.session")
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            self._names[name] = found
        return found

    def _event(self, event: event_pb2.Event) -> NewEvent:
        name = event.WhichOneof("payload")
        kind = _KINDS.get(name or "")
        if kind is None or kind not in APPENDABLE:
            raise field_invalid("append.events", f"must carry a payload that callers may append (was {name})")
        event_id = event.id
        if not event_id or len(event_id) > 256 or not event_id.isprintable() or event_id.startswith(OWN_ID_PREFIX):
            raise field_invalid(
                "append.events.id", f"must be 1 to 256 printable characters and not begin with {OWN_ID_PREFIX!r}"
            )
        run = event.run
        if run and (len(run) > 256 or not run.isprintable()):
            raise field_invalid("append.events.run", "must be at most 256 printable characters")
        if event.sequence or event.session or event.session_uid or event.HasField("create_time"):
            event = _without_output_fields(event)
        read_detail = _DETAILS.get(kind)
        detail = None if read_detail is None else read_detail(event)
        payload = event.SerializeToString()
        if len(payload) > _MAX_PAYLOAD_BYTES:
            raise field_invalid("append.events", f"must not be larger than 4 MiB (was {len(payload)} bytes)")
        if not (self._root and event.actor):
            payload += self._actor_bytes
        if not event.traceparent:
            payload += self._trace_bytes
        elif len(event.traceparent) > 128:
            raise field_invalid("append.events.traceparent", "must not be longer than 128 characters")
        return NewEvent(event_id, kind, run, payload, detail)

    def _ensure(self, ensure: session_service_pb2.EnsureSession) -> Ensure:
        return Ensure(
            self._actor,
            from_proto_created_via(ensure.created_via, "append.ensure.created_via"),
            ensure.user_created,
            from_proto_parent(ensure.parent, "append.ensure.parent"),
        )


def to_proto_event(event: StoredEvent) -> event_pb2.Event:
    message = event_pb2.Event.FromString(event.payload)
    message.sequence = event.sequence
    message.session = f"bots/{event.bot}/sessions/{event.session_id}"
    message.session_uid = event.uid
    seconds, micros = divmod(event.create_time, _MICROS)
    time = message.create_time
    time.seconds = seconds
    time.nanos = micros * 1000
    return message


def encode_change(change: lifecycle.Change, event_id: str, actor: str) -> bytes:
    """The payload of one of the service's own events."""
    event = event_pb2.Event(id=event_id, actor=actor)
    match change:
        case lifecycle.Created():
            event.session_created.session.CopyFrom(to_proto_session(change.session))
        case lifecycle.Updated():
            event.session_updated.paths.extend(change.paths)
        case lifecycle.Reset():
            event.session_reset.previous_uid = change.previous_uid
            event.session_reset.uid = change.uid
            event.session_reset.reason = change.reason
            event.session_reset.restored = change.restored
        case lifecycle.Archived():
            event.session_archived.reason = change.reason
        case lifecycle.Unarchived():
            event.session_unarchived.SetInParent()
        case lifecycle.Deleted():
            event.session_deleted.purge_time.FromMicroseconds(change.purge_time)
        case lifecycle.Undeleted():
            event.session_undeleted.SetInParent()
        case lifecycle.ExpiryWarned():
            event.expiry_warned.expire_time.FromMicroseconds(change.expire_time)
        case lifecycle.Opened():
            event.message.role = event_pb2.ROLE_SYSTEM
            event.message.parts.add(text=change.text)
            event.message.source = actor
    if event.WhichOneof("payload") is None:
        getattr(event, _NAMES[change.kind]).SetInParent()
    return event.SerializeToString()


def detail_of(kind: EventKind, event: event_pb2.Event) -> Detail:
    """What the session's row keeps of an event. Raises FIELD_INVALID for what no caller could have appended."""
    read = _DETAILS.get(kind)
    return None if read is None else read(event)


def from_proto_kinds(kinds: Sequence[str], field: str) -> tuple[int, ...]:
    """Kinds by their names in the contract ("message", "run_finished")."""
    check_count(field, kinds, maximum=len(_KINDS))
    for kind in kinds:
        if kind not in _KINDS:
            raise field_invalid(field, f"names {kind!r}, which is no kind of event", value=kind)
    return tuple(sorted({int(_KINDS[kind]) for kind in kinds}))


def _message(event: event_pb2.Event) -> Detail:
    message = event.message
    parts = message.parts
    if not 1 <= len(parts) <= 64:
        raise field_invalid("append.events.message.parts", f"must have 1 to 64 items (has {len(parts)})")
    text = _check_parts(parts, "append.events.message.parts")
    role = _ROLES.get(message.role, Role.UNSPECIFIED)
    if role is Role.UNSPECIFIED:
        raise field_invalid("append.events.message.role", "must be set")
    if len(message.source) > 512 or len(message.idempotency_key) > 200 or len(message.cited_memories) > 64:
        raise field_invalid(
            "append.events.message",
            "must have a source of at most 512 and an idempotency_key of at most 200 characters, and at most 64 "
            "cited_memories",
        )
    if message.metadata:
        check_count("append.events.message.metadata", list(message.metadata), maximum=32)
        for key, value in message.metadata.items():
            check_text("append.events.message.metadata", key, 64)
            check_text("append.events.message.metadata", value, 1_024, lines=True)
    return Message(role, text)


def _check_parts(parts: Sequence[part_pb2.Part], field: str) -> str:
    """The beginning of the text in `parts`, on one line."""
    beginning = ""
    for part in parts:
        content = part.WhichOneof("content")
        if content == "text":
            text = part.text
            if "\0" in text or len(text) > _MIB:
                raise field_invalid(f"{field}.text", "must be at most 1 MiB and not contain NUL")
            if len(beginning) < PREVIEW_LENGTH:
                words = " ".join(text[: 2 * PREVIEW_LENGTH].split())
                beginning = f"{beginning} {words}" if beginning else words
        elif content == "data":
            if len(part.data.value) > _MIB or len(part.data.media_type) > 127:
                raise field_invalid(f"{field}.data", "must have a value of at most 1 MiB and a short media_type")
        elif content == "file":
            file = part.file
            if bool(file.uri) and bool(file.inline_bytes):
                raise field_invalid(f"{field}.file", "must have either uri or inline_bytes")
            if len(file.uri) > 2_048 or len(file.file_name) > 255 or len(file.inline_bytes) > 4 * _MIB:
                raise field_invalid(f"{field}.file", "must have a uri of at most 2,048 and a name of 255 characters")
        else:
            raise field_invalid(field, "must not hold an empty part")
    return beginning[:PREVIEW_LENGTH]


def _tool_called(event: event_pb2.Event) -> Detail:
    call = event.tool_called
    if len(call.tool) > 128:
        raise field_invalid("append.events.tool_called.tool", "must not be longer than 128 characters")
    if len(call.arguments_json) > 256 * _KIB:
        raise field_invalid("append.events.tool_called.arguments_json", "must not be larger than 256 KiB")
    return None


def _tool_returned(event: event_pb2.Event) -> Detail:
    answer = event.tool_returned
    check_count("append.events.tool_returned.parts", answer.parts, maximum=64)
    _check_parts(answer.parts, "append.events.tool_returned.parts")
    if answer.ByteSize() > _MIB + 64 * _KIB:
        raise field_invalid("append.events.tool_returned.parts", "must not be larger than 1 MiB together")
    return None


def _run_started(event: event_pb2.Event) -> Detail:
    _need_run(event)
    return RunStart(event.run_started.attempt)


def _run_finished(event: event_pb2.Event) -> Detail:
    _need_run(event)
    end = event.run_finished
    field = "append.events.run_finished"
    if len(end.error_message) > 4_096:
        raise field_invalid(f"{field}.error_message", "must not be longer than 4096 characters")
    return RunEnd(
        _OUTCOMES.get(end.outcome, RunOutcome.UNSPECIFIED),
        end.error_message,
        from_timestamp(f"{field}.start_time", end.start_time) if end.HasField("start_time") else None,
        from_proto_usage(end.usage) if end.HasField("usage") else None,
    )


def _run_retrying(event: event_pb2.Event) -> Detail:
    _need_run(event)
    return None


def _summary(event: event_pb2.Event) -> Detail:
    if len(event.summary.text) > 256 * _KIB:
        raise field_invalid("append.events.summary.text", "must not be larger than 256 KiB")
    if event.summary.through_sequence < 0:
        raise field_invalid("append.events.summary.through_sequence", "must not be negative")
    return Summary(event.summary.through_sequence)


def _decision_requested(event: event_pb2.Event) -> Detail:
    check_text("append.events.decision_requested.question", event.decision_requested.question, 4_096, lines=True)
    return None


def _need_run(event: event_pb2.Event) -> None:
    if not event.run:
        raise field_invalid("append.events.run", "must be set on events about a run")


def _without_output_fields(event: event_pb2.Event) -> event_pb2.Event:
    bare = event_pb2.Event()
    bare.CopyFrom(event)
    for field in _OUTPUT_FIELDS:
        bare.ClearField(field)
    return bare


def _delimited(tag: bytes, text: str) -> bytes:
    data = text.encode()
    length = len(data)
    size = bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return tag + bytes(size) + data


_DETAILS: Mapping[EventKind, Callable[[event_pb2.Event], Detail]] = {
    EventKind.MESSAGE: _message,
    EventKind.TOOL_CALLED: _tool_called,
    EventKind.TOOL_RETURNED: _tool_returned,
    EventKind.RUN_STARTED: _run_started,
    EventKind.RUN_FINISHED: _run_finished,
    EventKind.RUN_RETRYING: _run_retrying,
    EventKind.SUMMARY: _summary,
    EventKind.DECISION_REQUESTED: _decision_requested,
}
_NAMES: Mapping[EventKind, str] = {kind: name for name, kind in _KINDS.items()}
