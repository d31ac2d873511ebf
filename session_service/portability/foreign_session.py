"""A session of an OpenClaw store made into one of ours: its entry, and its transcripts one after the other."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from google.protobuf.message import Message

from chassis.errors import AppError
from chassis.resource_names import SessionName, parse_session_key
from mobot.session.v1 import event_pb2, part_pb2
from session_service.convert.events import detail_of, encode_change
from session_service.domain import lifecycle
from session_service.domain.append import advance
from session_service.domain.event import EventKind, NewEvent
from session_service.domain.label import normalise_label
from session_service.domain.session import Draft, Fields, Provenance, Session, SessionState
from session_service.domain.transfer import LINE_TOO_LONG, LINE_UNREADABLE, Line, Parcel, Problem, Transcript
from session_service.portability import foreign_text as texts

_MAX_ARGUMENTS = 250_000
_MAX_SUMMARY = 250_000
_MAX_TOOL_TEXT = 900_000
_MAX_PAYLOAD = 4 * 1024 * 1024
_OVERRIDES = ("thinkingLevel", "verboseLevel", "reasoningLevel", "elevatedLevel", "sendPolicy", "groupActivation")
_ROLES = {
    "user": event_pb2.ROLE_USER,
    "assistant": event_pb2.ROLE_ASSISTANT,
    "system": event_pb2.ROLE_SYSTEM,
    "custom": event_pb2.ROLE_SYSTEM,
}

Report = Callable[[Problem], None]


class Entry(NamedTuple):
    """A line of a transcript, and where it stood."""

    value: Mapping[str, Any]
    location: str


class Generation(NamedTuple):
    """A transcript: its id, and its lines in the order in which they were said."""

    uid: str
    entries: Sequence[Entry]


def session_from(
    name: SessionName,
    given: Mapping[str, Any],
    generations: Sequence[Generation],
    *,
    actor: str,
    now: int,
    location: str,
    report: Report,
) -> Parcel:
    """`given` is the session's entry. The last generation is the present one; there is at least one."""
    created = texts.micros_of(given.get("createdAt")) or _first_time(generations) or _updated(given) or now
    provenance = Provenance(created_by=actor, created_via="import", parent=_parent(given))
    if provenance.parent:
        provenance = replace(provenance, lineage=(provenance.parent,), spawn_depth=1)
    draft = Draft(name.bot, name.session, _fields(given, location, report), provenance)
    session = lifecycle.create(draft, pk=0, transcript=0, uid=generations[0].uid, now=created)
    writer = _Writer(session, actor=actor, time=created, report=report)
    writer.own(lifecycle.Created(session))
    for number, generation in enumerate(generations):
        if number:
            writer.begin(generation.uid, "reset")
        writer.write(generation)
    writer.tell_left_out(location)
    return _put_away(writer.parcel(), given, now)


class _Writer:
    """Writes the log of one session, and moves its head along."""

    def __init__(self, session: Session, *, actor: str, time: int, report: Report) -> None:
        self._session = session
        self._actor = actor
        self._report = report
        self._time = time
        self._lines: list[Line] = []
        self._transcripts = [Transcript(session.head.uid, 0, time, None)]
        self._ids: set[str] = set()
        self._places: dict[str, int] = {}
        self._left_out: Counter[str] = Counter()
        self._owed = part_pb2.Usage()

    def parcel(self) -> Parcel:
        return Parcel(self._session, self._transcripts, self._lines)

    def own(self, change: lifecycle.Change) -> None:
        """One of the service's own events."""
        head = self._session.head
        event_id = f"session/{head.last_sequence + 1}"
        payload = encode_change(change, event_id, self._actor)
        self._append(NewEvent(event_id, change.kind, "", payload))

    def begin(self, uid: str, reason: str) -> None:
        """Ends the present transcript and begins another."""
        before = self._session.head.uid
        session = replace(self._session, fields=replace(self._session.fields, persistent=False))
        after = lifecycle.reset(session, uid=uid, transcript=0, now=self._time)
        self._session = replace(after, fields=self._session.fields)
        self._transcripts.append(Transcript(uid, after.head.start_sequence, self._time, None))
        self.own(lifecycle.Reset(before, uid, reason))

    def write(self, generation: Generation) -> None:
        self._places = {}
        for entry in generation.entries:
            value = entry.value
            self._time = texts.micros_of(value.get("timestamp")) or self._time
            self._places.setdefault(str(value.get("id") or ""), self._session.head.last_sequence + 1)
            match value.get("type"):
                case "message":
                    self._message(entry)
                case "compaction":
                    self._summary(entry)
                case "custom_message" | "branch_summary":
                    self._note(entry)
                case "reset":
                    self.begin(f"{generation.uid}.{len(self._transcripts)}", "reset")
                case "session":
                    pass
                case other:
                    self._left_out[str(other)[:40]] += 1

    def tell_left_out(self, location: str) -> None:
        if self._left_out:
            kinds = ", ".join(f"{count} of type {kind}" for kind, count in sorted(self._left_out.items()))
            self._report(Problem(location, f"lines without a counterpart here were left out: {kinds}", LINE_UNREADABLE))

    def _message(self, entry: Entry) -> None:
        message = entry.value.get("message")
        if not isinstance(message, dict):
            self._unreadable(entry, "it is a message without content")
            return
        content = message.get("content")
        if message.get("role") == "toolResult":
            self._tool_result(entry, message)
            return
        role = _ROLES.get(str(message.get("role")))
        if role is None:
            self._unreadable(entry, f"nobody has the role {str(message.get('role'))[:40]!r}")
            return
        usage = texts.usage_of(message.get("usage"))
        if usage is not None:
            self._owed = _sum(self._owed, usage)
        parts = texts.parts_of(content)
        if parts:
            self._say(entry, role, parts, message)
        elif not texts.blocks_of(content, "toolCall"):
            self._left_out["message without text"] += 1
        for number, call in enumerate(texts.blocks_of(content, "toolCall")):
            self._tool_call(entry, number, call)

    def _say(self, entry: Entry, role: int, parts: list[part_pb2.Part], message: Mapping[str, Any]) -> None:
        said = event_pb2.MessageAppended(role=event_pb2.Role.ValueType(role))
        if role == event_pb2.ROLE_USER:
            texts_of_parts = [part for part in parts if part.WhichOneof("content") == "text"]
            if texts_of_parts:
                texts_of_parts[0].text, key = texts.undecorated(texts_of_parts[0].text)
                said.idempotency_key = key
            given_key = texts.line_of(message.get("idempotencyKey"), 200).removesuffix(":user")
            said.idempotency_key = said.idempotency_key or given_key
            provenance = message.get("provenance")
            if isinstance(provenance, dict) and provenance.get("kind") == "inter_session":
                said.inter_session = True
                said.source = texts.line_of(provenance.get("sourceSessionKey"), 512)
        else:
            provider, model = texts.line_of(message.get("provider"), 100), texts.line_of(message.get("model"), 150)
            said.model = f"{provider}/{model}" if provider and model else model
            said.stop_reason = texts.line_of(message.get("stopReason"), 64)
            if self._owed.ByteSize():
                said.usage.CopyFrom(self._owed)
                self._owed = part_pb2.Usage()
        said.parts.extend(parts)
        self._event(entry, "", EventKind.MESSAGE, message=said)

    def _tool_call(self, entry: Entry, number: int, call: Mapping[str, Any]) -> None:
        arguments = orjson.dumps(call.get("arguments") or {}).decode()
        if len(arguments) > _MAX_ARGUMENTS:
            self._report(Problem(entry.location, "the arguments of a tool call were left out: too long", LINE_TOO_LONG))
            arguments = "{}"
        called = event_pb2.ToolCalled(
            call_id=texts.line_of(call.get("id"), 256),
            tool=texts.line_of(call.get("name"), 128) or "unknown",
            arguments_json=arguments,
        )
        self._event(entry, f"/call/{number}", EventKind.TOOL_CALLED, tool_called=called)

    def _tool_result(self, entry: Entry, message: Mapping[str, Any]) -> None:
        parts = texts.parts_of(message.get("content"))
        if sum(part.ByteSize() for part in parts) > _MAX_TOOL_TEXT:
            self._report(Problem(entry.location, "the answer of a tool was cut", LINE_TOO_LONG))
            text = "\n".join(part.text for part in parts if part.WhichOneof("content") == "text")
            parts = [part_pb2.Part(text=text.encode()[:_MAX_TOOL_TEXT].decode(errors="ignore"))]
        returned = event_pb2.ToolReturned(
            call_id=texts.line_of(message.get("toolCallId"), 256),
            tool=texts.line_of(message.get("toolName"), 128),
            parts=parts,
            is_error=message.get("isError") is True,
        )
        self._event(entry, "", EventKind.TOOL_RETURNED, tool_returned=returned)

    def _summary(self, entry: Entry) -> None:
        text = entry.value.get("summary")
        if not isinstance(text, str):
            self._unreadable(entry, "it is a summary without text")
            return
        kept = self._places.get(str(entry.value.get("firstKeptEntryId")))
        head = self._session.head
        through = max(head.start_sequence, kept - 1 if kept else head.last_sequence)
        summary = event_pb2.SummaryAppended(text=text.replace("\0", "")[:_MAX_SUMMARY], through_sequence=through)
        self._event(entry, "", EventKind.SUMMARY, summary=summary)

    def _note(self, entry: Entry) -> None:
        content = entry.value.get("content") or entry.value.get("summary")
        parts = texts.parts_of(content)
        if not parts:
            self._left_out[str(entry.value.get("type"))] += 1
            return
        said = event_pb2.MessageAppended(role=event_pb2.ROLE_SYSTEM, parts=parts)
        self._event(entry, "", EventKind.MESSAGE, message=said)

    def _event(self, entry: Entry, suffix: str, kind: EventKind, **payload: Message) -> None:
        event_id = self._id(entry, suffix)
        by_bot = kind is not EventKind.MESSAGE or getattr(payload["message"], "role", 0) == event_pb2.ROLE_ASSISTANT
        actor = f"bots/{self._session.head.bot}" if by_bot else self._actor
        event = event_pb2.Event(id=event_id, actor=actor)
        for field, value in payload.items():
            getattr(event, field).CopyFrom(value)
        data = event.SerializeToString()
        if len(data) > _MAX_PAYLOAD:
            self._report(Problem(entry.location, "it is larger than an event may be and was left out", LINE_TOO_LONG))
            return
        try:
            detail = detail_of(kind, event)
        except AppError as refusal:
            self._unreadable(entry, refusal.message)
            return
        self._ids.add(event_id)
        self._append(NewEvent(event_id, kind, "", data, detail))

    def _id(self, entry: Entry, suffix: str) -> str:
        given = texts.line_of(entry.value.get("id"), 160) or f"line/{len(self._lines)}"
        event_id = given + suffix
        if event_id in self._ids or event_id.startswith("session/"):
            # The same line in two transcripts: a fork or a rewind copied it.
            event_id = f"{len(self._transcripts)}/{len(self._lines)}/{event_id}"
        return event_id

    def _append(self, event: NewEvent) -> None:
        head = self._session.head
        advance(head, event, self._time)
        self._lines.append(
            Line(head.last_sequence, head.uid, event.id, int(event.kind), event.run, self._time, event.payload)
        )

    def _unreadable(self, entry: Entry, why: str) -> None:
        self._report(Problem(entry.location, f"the line was left out: {why}", LINE_UNREADABLE))


def _fields(given: Mapping[str, Any], location: str, report: Report) -> Fields:
    label = given.get("label")
    try:
        normalised = normalise_label(label) if isinstance(label, str) else ""
    except AppError as refusal:
        report(Problem(location, f"it came without its label: {refusal.message}", LINE_UNREADABLE))
        normalised = ""
    provider = texts.line_of(given.get("providerOverride"), 100)
    model = texts.line_of(given.get("modelOverride"), 150)
    overrides = {name: texts.line_of(given.get(name), 1_024) for name in _OVERRIDES}
    return Fields(
        label=normalised,
        display_name=texts.line_of(given.get("displayName"), 500),
        group=texts.line_of(given.get("category"), 128),
        icon=texts.line_of(given.get("icon"), 64),
        color=texts.color_of(given.get("color")),
        pinned=given.get("pinned") is True or texts.micros_of(given.get("pinnedAt")) is not None,
        model=f"{provider}/{model}" if provider and model else model,
        overrides={name: value for name, value in overrides.items() if value},
    )


def _put_away(parcel: Parcel, given: Mapping[str, Any], now: int) -> Parcel:
    """Archived if it was, and last active when it was."""
    session = parcel.session
    session.head.last_activity_time = max(session.head.last_activity_time, _updated(given) or 0)
    archived = texts.micros_of(given.get("archivedAt")) or (now if given.get("archived") is True else None)
    if archived is not None and session.head.session_id != "main":
        session = replace(session, head=replace(session.head, state=SessionState.ARCHIVED), archive_time=archived)
    return replace(parcel, session=session)


def _parent(given: Mapping[str, Any]) -> str:
    key = given.get("spawnedBy") or given.get("parentSessionKey")
    if not isinstance(key, str):
        return ""
    try:
        return parse_session_key(key).name
    except AppError:
        return ""


def _updated(given: Mapping[str, Any]) -> int | None:
    return texts.micros_of(given.get("updatedAt"))


def _first_time(generations: Sequence[Generation]) -> int | None:
    times = (texts.micros_of(entry.value.get("timestamp")) for each in generations for entry in each.entries)
    return next((time for time in times if time), None)


def _sum(one: part_pb2.Usage, other: part_pb2.Usage) -> part_pb2.Usage:
    return part_pb2.Usage(
        **{
            field.name: getattr(one, field.name) + getattr(other, field.name)
            for field in part_pb2.Usage.DESCRIPTOR.fields
        }
    )
