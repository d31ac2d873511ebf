"""Between the wire and `bot_sdk.model`: the only room of the SDK that takes messages of the contracts apart."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.descriptor import EnumDescriptor

from bot_sdk import model
from chassis import errors
from mobot.registry.v1 import bot_pb2
from mobot.router.v1 import message_pb2
from mobot.session.v1 import event_pb2, part_pb2, session_pb2

TEXT_PART_BYTES = 1_000_000
MESSAGE_BYTES = 4_000_000
JSON_MEDIA_TYPE = "application/json"

_ROLES = {
    event_pb2.ROLE_USER: model.Role.USER,
    event_pb2.ROLE_ASSISTANT: model.Role.ASSISTANT,
    event_pb2.ROLE_SYSTEM: model.Role.SYSTEM,
}
_ROLES_OUT = {role: number for number, role in _ROLES.items()}
_EFFECTS_OUT = {
    model.Effect.IDEMPOTENT: event_pb2.TOOL_EFFECT_IDEMPOTENT,
    model.Effect.COMPENSABLE: event_pb2.TOOL_EFFECT_COMPENSABLE,
    model.Effect.ONCE: event_pb2.TOOL_EFFECT_ONCE,
}
_EFFECTS = {number: effect for effect, number in _EFFECTS_OUT.items()}
_ERRORS: dict[int, type[errors.AppError]] = {
    1: errors.Cancelled,
    3: errors.InvalidArgument,
    4: errors.DeadlineExceeded,
    5: errors.NotFound,
    6: errors.AlreadyExists,
    7: errors.PermissionDenied,
    8: errors.ResourceExhausted,
    9: errors.FailedPrecondition,
    10: errors.Aborted,
    11: errors.OutOfRange,
    12: errors.Unimplemented,
    13: errors.Internal,
    14: errors.Unavailable,
    15: errors.DataLoss,
    16: errors.Unauthenticated,
}
_ENDED = frozenset(
    {
        message_pb2.MESSAGE_STATE_SUCCEEDED,
        message_pb2.MESSAGE_STATE_FAILED,
        message_pb2.MESSAGE_STATE_CANCELLED,
        message_pb2.MESSAGE_STATE_EXPIRED,
        message_pb2.MESSAGE_STATE_DEAD_LETTERED,
        message_pb2.MESSAGE_STATE_REJECTED,
    }
)
_CONFLICTS: "dict[str, message_pb2.SpawnConflictPolicy.ValueType]" = {
    "fail": message_pb2.SPAWN_CONFLICT_POLICY_FAIL,
    "use": message_pb2.SPAWN_CONFLICT_POLICY_USE_EXISTING,
    "replace": message_pb2.SPAWN_CONFLICT_POLICY_REPLACE,
}
_CLEANUPS: "dict[str, message_pb2.SpawnCleanup.ValueType]" = {
    "keep": message_pb2.SPAWN_CLEANUP_KEEP,
    "archive": message_pb2.SPAWN_CLEANUP_ARCHIVE,
    "delete": message_pb2.SPAWN_CLEANUP_DELETE,
}


class RefusedItem(Protocol):
    """Why one item of a batch was refused, in the words that the services share."""

    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...


def to_error(refused: RefusedItem, metadata: dict[str, str]) -> errors.AppError:
    """The error that a call of its own would have raised for the item."""
    cls = _ERRORS.get(refused.code, errors.Unknown)
    return cls(refused.message, reason=refused.reason, metadata=metadata)


def to_time(stamp: timestamp_pb2.Timestamp) -> datetime | None:
    """None for a stamp that is not set."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return stamp.ToDatetime(tzinfo=UTC)


def to_duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def text_of(parts: Iterable[part_pb2.Part]) -> str:
    """The text of the parts, one below the other; data as its text, files by their names."""
    return "\n".join(_part_text(part) for part in parts)


def clean(text: str) -> str:
    """`text` without what no message may hold: NUL, and halves of surrogate pairs, both of which models produce."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def text_parts(text: str) -> list[part_pb2.Part]:
    """`text` as parts of a legal size.

    Raises:
        InvalidArgument: it is longer than a message may be (4 MB).
    """
    text = clean(text)
    if len(text) * 4 <= TEXT_PART_BYTES:
        return [part_pb2.Part(text=text)]
    encoded = text.encode()
    if len(encoded) > MESSAGE_BYTES:
        raise errors.field_invalid("text", f"must be at most {MESSAGE_BYTES} bytes (was {len(encoded)})")
    size = TEXT_PART_BYTES // 4
    return [part_pb2.Part(text=text[start : start + size]) for start in range(0, len(text), size)]


def json_part(value: bytes) -> part_pb2.Part:
    return part_pb2.Part(data=part_pb2.DataPart(media_type=JSON_MEDIA_TYPE, value=value))


def to_lease(delivery: message_pb2.Delivery) -> model.Lease:
    return model.Lease(
        run=delivery.message.run,
        session=delivery.session,
        bot=delivery.bot,
        epoch=delivery.epoch,
        attempt=delivery.attempt,
    )


def to_inbound(message: message_pb2.Message, sequence: int = 0) -> model.InboundMessage:
    draft = message.draft
    return model.InboundMessage(
        name=message.name,
        text=text_of(draft.parts),
        source=draft.source or message.sender,
        sender=message.sender,
        user_input=draft.user_input,
        reply_to=draft.reply_to,
        in_reply_to=draft.in_reply_to,
        correlation_id=draft.correlation_id,
        subject=draft.subject,
        type=draft.type,
        hop_count=draft.hop_count,
        metadata=dict(draft.metadata),
        traceparent=draft.traceparent,
        create_time=to_time(message.create_time),
        sequence=sequence,
        run=message.run,
    )


def to_decision(delivery: message_pb2.Delivery) -> model.Decision | None:
    if not delivery.HasField("decision"):
        return None
    return model.Decision(delivery.decision.answer, delivery.decision.call_id, delivery.decision.actor)


def to_entries(events: Iterable[event_pb2.Event]) -> tuple[model.Entry, ...]:
    """The events that somebody said or did; those that only tell of runs and of the session itself are left out."""
    return tuple(entry for event in events if (entry := _entry(event)) is not None)


def to_session(session: session_pb2.Session) -> model.SessionInfo:
    return model.SessionInfo(
        name=session.name,
        key=session.key,
        uid=session.uid,
        label=session.label,
        display_name=session.display_name,
        description=session.description,
        status=short(session_pb2.SessionStatus.DESCRIPTOR, session.status, "SESSION_STATUS_"),
        persistent=session.persistent,
        archived=session.state == session_pb2.SESSION_STATE_ARCHIVED,
        created_via=session.created_via,
        group=session.group,
        pinned=session.pinned,
        model=session.model,
        message_count=session.message_count,
        total_tokens=session.usage.input_tokens + session.usage.output_tokens,
        last_sequence=session.last_sequence,
        last_activity=to_time(session.last_activity_time),
        last_message=session.last_message_preview,
        derived_title=session.derived_title,
    )


def to_profile(bot: bot_pb2.Bot) -> model.BotProfile:
    return model.BotProfile(
        name=bot.name,
        display_name=bot.display_name,
        description=bot.description,
        instructions=bot.instructions,
        emoji=bot.emoji,
        labels=dict(bot.labels),
    )


def to_bot_summary(bot: bot_pb2.Bot) -> model.BotSummary:
    return model.BotSummary(
        profile=to_profile(bot),
        brain=bot.brain.WhichOneof("settings") or "",
        state=short(bot_pb2.BotState.DESCRIPTOR, bot.status.state, "BOT_STATE_"),
        enabled=bot.enabled,
    )


def to_receipt(receipt: message_pb2.Receipt) -> model.Receipt:
    return model.Receipt(
        message=receipt.message,
        run=receipt.run,
        session=receipt.session,
        state=short(message_pb2.MessageState.DESCRIPTOR, receipt.state, "MESSAGE_STATE_"),
        duplicate=receipt.duplicate,
        queue_position=receipt.queue_position,
    )


def to_run_result(message: message_pb2.Message, *, done: bool | None = None) -> model.RunResult:
    return model.RunResult(
        run=message.run,
        session=message.session,
        state=short(message_pb2.MessageState.DESCRIPTOR, message.state, "MESSAGE_STATE_"),
        done=message.state in _ENDED if done is None else done,
        reply=message.reply_text,
        error_reason=message.last_error.reason,
        error_message=message.last_error.message,
    )


def from_effect(effect: model.Effect) -> "event_pb2.ToolEffect.ValueType":
    return _EFFECTS_OUT[effect]


def from_consumption(used: model.Consumption) -> part_pb2.Usage:
    return part_pb2.Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cache_read_tokens,
        cache_write_tokens=used.cache_write_tokens,
        request_count=used.requests,
        tool_call_count=used.tool_calls,
    )


def from_mode(mode: str) -> "message_pb2.BusyMode.ValueType":
    """ "steer" -> BUSY_MODE_STEER.

    Raises:
        InvalidArgument: there is no such mode.
    """
    names = ("enqueue", "steer", "interrupt", "reject", "collect")
    if mode not in names:
        raise errors.field_invalid("mode", f"must be one of {', '.join(names)}")
    return message_pb2.BusyMode.Value(f"BUSY_MODE_{mode.upper()}")


def from_spawn_wish(wish: model.SpawnWish) -> message_pb2.Spawn:
    """Raises InvalidArgument: `if_exists` or `cleanup` is none of its values."""
    if wish.if_exists not in _CONFLICTS:
        raise errors.field_invalid("if_exists", f"must be one of {', '.join(_CONFLICTS)}")
    if wish.cleanup not in _CLEANUPS:
        raise errors.field_invalid("cleanup", f"must be one of {', '.join(_CLEANUPS)}")
    spawn = message_pb2.Spawn(
        parent=wish.parent,
        bot=wish.bot,
        session_id=wish.session_id,
        task=text_parts(wish.task),
        conflict_policy=_CONFLICTS[wish.if_exists],
        context=message_pb2.SPAWN_CONTEXT_FORKED if wish.forked else message_pb2.SPAWN_CONTEXT_ISOLATED,
        cleanup=_CLEANUPS[wish.cleanup],
        announce=wish.announce,
        session=session_pb2.Session(
            label=wish.label,
            description=wish.description,
            group=wish.group,
            model=wish.model,
            persistent=wish.persistent,
            overrides=dict(wish.overrides),
        ),
    )
    if wish.timeout_s is not None:
        spawn.timeout.CopyFrom(to_duration(wish.timeout_s))
    return spawn


def from_role(role: model.Role) -> "event_pb2.Role.ValueType":
    return _ROLES_OUT[role]


def error_of_run(reason: str, message: str) -> message_pb2.RunError:
    return message_pb2.RunError(reason=reason[:64], message=message[:4_096])


def _part_text(part: part_pb2.Part) -> str:
    kind = part.WhichOneof("content")
    if kind == "text":
        return part.text
    if kind == "data":
        return part.data.value.decode(errors="replace")
    if kind == "file":
        return f"[file {part.file.file_name or part.file.uri or part.file.media_type or 'without a name'}]"
    return ""


def _entry(event: event_pb2.Event) -> model.Entry | None:
    kind = event.WhichOneof("payload")
    time = to_time(event.create_time)
    if kind == "message":
        said = event.message
        return model.Said(
            event_id=event.id,
            sequence=event.sequence,
            run=event.run,
            role=_ROLES.get(said.role, model.Role.USER),
            text=text_of(said.parts),
            source=said.source or event.actor,
            time=time,
            inter_session=said.inter_session,
            partial=said.partial,
        )
    if kind == "tool_called":
        called = event.tool_called
        return model.ToolCall(
            event_id=event.id,
            sequence=event.sequence,
            run=event.run,
            call_id=called.call_id,
            tool=called.tool,
            arguments_json=called.arguments_json,
            effect=_EFFECTS.get(called.effect, model.Effect.ONCE),
            time=time,
        )
    if kind == "tool_returned":
        returned = event.tool_returned
        return model.ToolResult(
            event_id=event.id,
            sequence=event.sequence,
            run=event.run,
            call_id=returned.call_id,
            tool=returned.tool,
            text=text_of(returned.parts),
            is_error=returned.is_error,
            time=time,
        )
    return None


def short(enum: EnumDescriptor, number: int, prefix: str) -> str:
    """A value without its enum's prefix; one of a newer contract as its number."""
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(prefix)
