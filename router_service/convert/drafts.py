"""Drafts of messages: checked, completed with defaults, and made ready to be stored."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from chassis.clock import Clock
from chassis.errors import field_invalid
from chassis.identity import Caller, bot_of
from chassis.resource_names import parse_bot, parse_session
from mobot.router.v1 import message_pb2
from mobot.session.v1 import part_pb2
from router_service.convert.letters import SPAWN_RESULT_TYPE, SPAWN_TYPE, result_labels
from router_service.convert.times import to_us
from router_service.convert.turns import next_turn
from router_service.domain import limits
from router_service.domain.errors import CallerNotAllowed, HopLimitReached, TopicNotFound
from router_service.domain.mail import NewMessage
from router_service.domain.state import BusyMode

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MODES: Final = {mode.value: mode for mode in BusyMode} | {0: BusyMode.ENQUEUE}
_MAX_NAMES: Final = 65_536


@dataclass(slots=True, eq=False)
class CheckedDraft:
    """`message` is what the store takes; `draft` is its content, for whoever delivers it."""

    message: NewMessage
    draft: message_pb2.MessageDraft


class DraftReader:
    """Checks drafts and completes them."""

    def __init__(self, clock: Clock, new_id: Callable[[], str], *, max_attempts: int) -> None:
        self._clock = clock
        self._new_id = new_id
        self._max_attempts = max_attempts
        # Session names come again and again, and taking one apart costs more than all else here together.
        self._bots: dict[str, str] = {}

    def read(
        self,
        given: message_pb2.MessageDraft,
        caller: Caller,
        *,
        traceparent: str = "",
        field: str = "message",
        internal_key: str = "",
    ) -> CheckedDraft:
        """The draft as it will be stored. `internal_key` replaces an absent idempotency key.

        Raises:
            InvalidArgument: FIELD_INVALID, RESOURCE_NAME_INVALID.
            NotFound: TOPIC_NOT_FOUND.
            PermissionDenied: CALLER_NOT_ALLOWED, for a source that is not the caller's.
            FailedPrecondition: HOP_LIMIT_REACHED.
        """
        key = given.idempotency_key or internal_key
        session, bot = self._destination(given, field, f"{caller.actor} {key}" if key else "")
        check_parts(given.parts, f"{field}.parts")
        _check_texts(given, field)
        if given.hop_count >= limits.MAX_HOPS:
            raise HopLimitReached(given.hop_count)
        mode = _MODES.get(given.mode)
        if mode is None:
            raise field_invalid(f"{field}.mode", "must be a known BusyMode", value=str(given.mode))
        source = _source(given.source, caller, field)
        if given.reply_to.startswith("bots/"):
            self._reply_session(given.reply_to, f"{field}.reply_to")
        not_before_us, expire_us = self._times(given, field)

        draft = message_pb2.MessageDraft()
        draft.CopyFrom(given)
        message_id = self._new_id()
        content_hash = ""
        if key:
            draft.ClearField("traceparent")  # a retry is a call of its own, and traced as one
            content = draft.SerializeToString(deterministic=True)
            content_hash = blake2b(content, digest_size=16, key=caller.actor.encode()[:64]).hexdigest()
            draft.idempotency_key = key
        draft.session = session
        draft.source = source
        draft.type = given.type or limits.DEFAULT_TYPE
        draft.traceparent = given.traceparent or traceparent
        draft.max_attempts = given.max_attempts or self._max_attempts
        draft.mode = message_pb2.BusyMode.ValueType(mode.value)
        return CheckedDraft(
            NewMessage(
                id=message_id,
                run=key or message_id,
                session=session,
                bot=bot,
                draft=draft.SerializeToString(),
                sender=caller.actor,
                source=source,
                content_hash=content_hash,
                correlation_id=given.correlation_id,
                rank=limits.INTERRUPT_RANK if mode is BusyMode.INTERRUPT else -given.priority,
                mode=mode,
                max_attempts=draft.max_attempts,
                not_before_us=not_before_us,
                expire_us=expire_us,
            ),
            draft,
        )

    def reply(
        self, original: message_pb2.MessageDraft, message_id: str, run: str, parts: Sequence[part_pb2.Part]
    ) -> "CheckedDraft | None":
        """The mail that answers `original`; None when it asks for none, or went through too many hands already."""
        if not parts or not original.reply_to.startswith("bots/") or original.hop_count + 1 >= limits.MAX_HOPS:
            return None
        session, bot = self._reply_session(original.reply_to, "reply_to")
        draft = message_pb2.MessageDraft(
            session=session,
            source=original.session,
            parts=parts,
            idempotency_key=f"reply/{run}",
            mode=message_pb2.BUSY_MODE_ENQUEUE,
            correlation_id=original.correlation_id,
            in_reply_to=message_id,
            hop_count=original.hop_count + 1,
            turn_count=next_turn(original, original.session, session),
            type=limits.REPLY_TYPE,
            traceparent=original.traceparent,
            max_attempts=self._max_attempts,
        )
        if original.type == SPAWN_TYPE:
            draft.type = SPAWN_RESULT_TYPE
            draft.metadata.update(result_labels(run, "SUCCEEDED", original.session))
        reply_id = self._new_id()
        message = NewMessage(
            id=reply_id,
            run=f"reply/{run}",
            session=session,
            bot=bot,
            draft=draft.SerializeToString(),
            sender=original.session[: original.session.index("/sessions/")],
            source=original.session,
            content_hash="reply",
            correlation_id=original.correlation_id,
            max_attempts=self._max_attempts,
            internal=True,
        )
        return CheckedDraft(message, draft)

    def redriven(self, stored: bytes, *, origin_id: str, origin_run: str, sender: str) -> NewMessage:
        """A dead letter's content as a new message with attempts of its own."""
        draft = message_pb2.MessageDraft.FromString(stored)
        message_id = self._new_id()
        return NewMessage(
            id=message_id,
            run=message_id,
            session=draft.session,
            bot=self._bot_of(draft.session, "session"),
            draft=stored,
            sender=sender,
            source=draft.source,
            correlation_id=draft.correlation_id,
            rank=-draft.priority,
            max_attempts=draft.max_attempts or self._max_attempts,
            internal=True,
            origin_id=origin_id,
            origin_run=origin_run,
        )

    def _destination(self, given: message_pb2.MessageDraft, field: str, key: str) -> tuple[str, str]:
        kind = given.WhichOneof("destination")
        if given.new_session:
            if kind != "bot":
                raise field_invalid(f"{field}.new_session", "goes with a bot as destination alone")
            bot = parse_bot(given.bot, field=f"{field}.bot")
            return f"bots/{bot}/sessions/mail:{_session_of_key(key) or self._new_id()}", f"bots/{bot}"
        if kind == "session":
            return given.session, self._bot_of(given.session, f"{field}.session")
        if kind == "bot":
            bot = parse_bot(given.bot, field=f"{field}.bot")
            return f"bots/{bot}/sessions/{limits.MAIN_SESSION}", f"bots/{bot}"
        if kind == "topic":
            raise TopicNotFound(given.topic)
        raise field_invalid(f"{field}.destination", "must be set: a session, a bot or a topic")

    def _reply_session(self, name: str, field: str) -> tuple[str, str]:
        if "/sessions/" in name:
            return name, self._bot_of(name, field)
        bot = parse_bot(name, field=field)
        return f"{name}/sessions/{limits.MAIN_SESSION}", f"bots/{bot}"

    def _bot_of(self, session: str, field: str) -> str:
        bot = self._bots.get(session)
        if bot is None:
            bot = f"bots/{parse_session(session, field=field).bot}"
            if len(self._bots) >= _MAX_NAMES:
                self._bots.clear()
            self._bots[session] = bot
        return bot

    def _times(self, given: message_pb2.MessageDraft, field: str) -> tuple[int, int]:
        not_before_us = expire_us = 0
        if given.HasField("not_before_time"):
            not_before_us = to_us(given.not_before_time, f"{field}.not_before_time")
            ahead_us = not_before_us - int(self._clock.now().timestamp() * 1e6)
            if ahead_us > limits.MAX_DELAY_DAYS * 86_400_000_000:
                raise field_invalid(f"{field}.not_before_time", f"must be at most {limits.MAX_DELAY_DAYS} days ahead")
        if given.HasField("expire_time"):
            expire_us = to_us(given.expire_time, f"{field}.expire_time")
            if expire_us <= not_before_us:
                raise field_invalid(f"{field}.expire_time", "must be after not_before_time")
        return not_before_us, expire_us


def check_parts(parts: Sequence[part_pb2.Part], field: str, *, least: int = 1) -> None:
    """Refuses parts that the contract does not allow."""
    if not least <= len(parts) <= limits.MAX_PARTS:
        raise field_invalid(field, f"must hold {least} to {limits.MAX_PARTS} parts (was {len(parts)})")
    total = 0
    for number, part in enumerate(parts):
        kind = part.WhichOneof("content")
        if kind == "text":
            if "\x00" in part.text:
                raise field_invalid(f"{field}[{number}].text", "must not contain U+0000")
            if len(part.text) > limits.MAX_TEXT_BYTES // 4 and len(part.text.encode()) > limits.MAX_TEXT_BYTES:
                raise field_invalid(f"{field}[{number}].text", "must be at most 1 MiB")
        elif kind == "data":
            if len(part.data.value) > limits.MAX_TEXT_BYTES:
                raise field_invalid(f"{field}[{number}].data.value", "must be at most 1 MiB")
        elif kind == "file":
            if bool(part.file.uri) == bool(part.file.inline_bytes):
                raise field_invalid(f"{field}[{number}].file", "must have either a uri or inline_bytes")
        else:
            raise field_invalid(f"{field}[{number}].content", "must be set: text, data or a file")
        total += part.ByteSize()
    if total > limits.MAX_PARTS_BYTES:
        raise field_invalid(field, "must be at most 4 MiB together")


def _session_of_key(key: str) -> str:
    """A session id that the same key of the same sender leads to again."""
    return blake2b(key.encode(), digest_size=16).hexdigest() if key else ""


def _check_texts(given: message_pb2.MessageDraft, field: str) -> None:
    for name, value, longest in (
        ("idempotency_key", given.idempotency_key, limits.MAX_KEY),
        ("source", given.source, limits.MAX_SOURCE),
        ("reply_to", given.reply_to, limits.MAX_SOURCE),
        ("correlation_id", given.correlation_id, limits.MAX_KEY),
        ("in_reply_to", given.in_reply_to, limits.MAX_KEY),
        ("type", given.type, limits.MAX_TYPE),
        ("subject", given.subject, limits.MAX_SUBJECT),
        ("traceparent", given.traceparent, limits.MAX_TRACEPARENT),
    ):
        if value:
            check_text(value, f"{field}.{name}", longest)
    if not 0 <= given.priority <= limits.MAX_PRIORITY:
        raise field_invalid(f"{field}.priority", f"must be from 0 to {limits.MAX_PRIORITY}", value=str(given.priority))
    if not 0 <= given.max_attempts <= limits.MAX_ATTEMPTS:
        raise field_invalid(f"{field}.max_attempts", f"must be from 0 to {limits.MAX_ATTEMPTS}")
    for name, count in (("hop_count", given.hop_count), ("turn_count", given.turn_count)):
        if count < 0:
            raise field_invalid(f"{field}.{name}", "must not be negative")
    if given.metadata:
        _check_metadata(given, f"{field}.metadata")


def check_text(value: str, field: str, longest: int) -> None:
    """Refuses a line of text that is too long or holds control characters."""
    if len(value) > longest:
        raise field_invalid(field, f"must be at most {longest} characters (was {len(value)})")
    if _CONTROL.search(value):
        raise field_invalid(field, "must not contain control characters")


def _check_metadata(given: message_pb2.MessageDraft, field: str) -> None:
    if len(given.metadata) > limits.MAX_METADATA:
        raise field_invalid(field, f"must have at most {limits.MAX_METADATA} keys")
    for key, value in given.metadata.items():
        if not 1 <= len(key) <= limits.MAX_METADATA_KEY or _CONTROL.search(key):
            raise field_invalid(field, f"keys must be 1 to {limits.MAX_METADATA_KEY} characters, no control characters")
        if len(value) > limits.MAX_METADATA_VALUE or "\x00" in value:
            raise field_invalid(f"{field}[{key}]", f"must be at most {limits.MAX_METADATA_VALUE} characters, no U+0000")


def _source(given: str, caller: Caller, field: str) -> str:
    if not given:
        return caller.actor
    bot = bot_of(caller)
    if bot is None:
        allowed = caller.root or given == caller.actor
    else:
        allowed = given == f"bots/{bot}" or given.startswith(f"bots/{bot}/sessions/")
    if not allowed:
        raise CallerNotAllowed(
            f"{caller.actor} may not send as {given}",
            metadata={"principal": caller.principal, "actor": caller.actor, "field": f"{field}.source"},
        )
    if given.startswith("bots/") and "/sessions/" in given:
        parse_session(given, field=f"{field}.source")
    return given
