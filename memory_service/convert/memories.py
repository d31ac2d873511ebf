"""Memories, both ways."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import resource_names
from chassis.errors import AppError, field_invalid
from memory_service.convert import checks
from memory_service.domain.errors import MemoryTextTooLong
from memory_service.domain.grant import Reach
from memory_service.domain.memory import (
    DEFAULT_IMPORTANCE,
    Content,
    Dedupe,
    Kind,
    Memory,
    NewMemory,
    Provenance,
    Purged,
    Source,
)
from memory_service.store.ledger import Shown
from mobot.memory.v1 import memory_pb2

MAX_TEXT_BYTES = 32_768
MAX_DRAFTS = 1_000
MAX_BATCH_BYTES = 16 * 1024 * 1024
_MAX_CONTEXT_BYTES = 8_192
_MAX_TTL_S = 36_500 * 86_400
_MAX_NEAR_DUPLICATES = 10

_Values = dict[str, Any]
_Reader = Callable[[str, memory_pb2.Memory], Any]


def to_proto_memory(shown: Shown, reach: Reach | None = None) -> memory_pb2.Memory:
    """As the caller with that reach sees it; the owner without one."""
    if isinstance(shown, Purged):
        return memory_pb2.Memory(name=shown.name, uid=shown.uid)
    content, provenance = shown.content, shown.provenance
    message = memory_pb2.Memory(
        name=shown.name,
        text=content.text,
        kind=memory_pb2.MemoryKind.ValueType(content.kind),
        tags=content.tags,
        author=content.author,
        importance=content.importance,
        pinned=content.pinned,
        create_time=to_proto_time(shown.create_time),
        version=shown.version,
        etag=shown.etag,
        provenance=memory_pb2.Provenance(
            session=provenance.session,
            event_sequence=provenance.event_sequence,
            session_uid=provenance.session_uid,
            run_id=provenance.run_id,
            source=memory_pb2.MemorySource.ValueType(provenance.source),
            principal=provenance.principal,
        ),
        expire_time=to_proto_time(content.expire_time),
        event_time=to_proto_time(content.event_time),
        context=content.context,
        uid=shown.uid,
        update_time=to_proto_time(shown.update_time),
        delete_time=to_proto_time(shown.delete_time),
        purge_time=to_proto_time(shown.purge_time),
        vector_state=memory_pb2.VectorState.ValueType(shown.vector_state),
        use_count=shown.use_count,
        use_time=to_proto_time(shown.use_time),
    )
    grant = None if reach is None else reach.grant_of(shown)
    if grant is not None:
        message.grant = grant.name
    if content.metadata:
        message.metadata.SetInParent()
        message.metadata.update(json.loads(content.metadata))
    return message


def to_proto_version(memory: Memory) -> memory_pb2.MemoryVersion:
    return memory_pb2.MemoryVersion(
        name=f"{memory.name}/versions/{memory.version}",
        memory=to_proto_memory(memory),
        change=memory_pb2.ChangeKind.ValueType(memory.change),
        principal=memory.changed_by,
        create_time=to_proto_time(memory.update_time),
    )


def to_proto_time(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def from_proto_draft(field: str, draft: memory_pb2.MemoryDraft, *, principal: str, now: datetime) -> NewMemory:
    """The memory to put. `field` is where the draft lies in the request, such as "draft" or "drafts[3]"."""
    checks.required(f"{field}.memory", draft.HasField("memory"))
    memory = draft.memory
    content = read_content(f"{field}.memory", memory)
    _check_said(f"{field}.memory.text", content.text)
    ttl_s = checks.seconds(f"{field}.ttl", draft, "ttl", 1, _MAX_TTL_S)
    if ttl_s is not None:
        if content.expire_time is not None:
            raise field_invalid(f"{field}.ttl", "must not be set together with memory.expire_time")
        content = replace(content, expire_time=now + timedelta(seconds=ttl_s))
    _check_expiry(f"{field}.memory.expire_time", content.expire_time, now)
    checks.between(f"{field}.near_duplicate_limit", draft.near_duplicate_limit, 0, _MAX_NEAR_DUPLICATES)
    memory_id = draft.memory_id
    if memory_id:
        resource_names.check_memory_id(memory_id, field=f"{field}.memory_id")
    return NewMemory(
        content=content,
        provenance=read_provenance(f"{field}.memory.provenance", memory.provenance, principal),
        id=memory_id,
        dedupe=checks.member(f"{field}.dedupe", Dedupe, draft.dedupe, Dedupe.TOUCH),
    )


def from_proto_drafts(
    drafts: Sequence[memory_pb2.MemoryDraft], *, principal: str, now: datetime, atomic: bool
) -> list[NewMemory | AppError]:
    """Each draft, or why it is refused; with `atomic` the first refusal is raised."""
    if not 1 <= len(drafts) <= MAX_DRAFTS:
        raise field_invalid("drafts", f"must hold 1 to {MAX_DRAFTS} entries (has {len(drafts)})")
    size = sum(draft.ByteSize() for draft in drafts)
    if size > MAX_BATCH_BYTES:
        raise field_invalid("drafts", f"must be at most {MAX_BATCH_BYTES} bytes together (was {size})")
    results: list[NewMemory | AppError] = []
    for index, draft in enumerate(drafts):
        try:
            results.append(from_proto_draft(f"drafts[{index}]", draft, principal=principal, now=now))
        except AppError as refusal:
            if atomic:
                raise
            results.append(refusal)
    return results


def from_proto_change(memory: memory_pb2.Memory, mask: FieldMask, *, now: datetime) -> Callable[[Content], Content]:
    """What an update makes of the content that is there; every value is checked here already, but for one.

    An expiry that has passed may be sent back, as long as it is the one that is there.
    """
    paths = _writable(memory, mask.paths)
    values = _read("memory", memory, paths)
    if "text" in values:
        _check_said("memory.text", values["text"])

    def change(content: Content) -> Content:
        if "expire_time" in values and values["expire_time"] != content.expire_time:
            _check_expiry("memory.expire_time", values["expire_time"], now)
        return replace(content, **values)

    return change


def _writable(memory: memory_pb2.Memory, mask: Iterable[str]) -> list[str]:
    """The paths to change: those of the mask, or of every populated field; output-only ones are left out."""
    paths = list(mask)
    for path in paths:
        if path not in memory_pb2.Memory.DESCRIPTOR.fields_by_name:
            raise field_invalid("update_mask", f"must hold names of fields of a memory (has {path[:80]!a})")
    if "provenance" in paths:
        raise field_invalid("update_mask", "must not hold provenance, which is immutable")
    populated = [descriptor.name for descriptor, _ in memory.ListFields()]
    return [path for path in paths or populated if path in _READERS]


def _read(field: str, memory: memory_pb2.Memory, paths: Iterable[str]) -> _Values:
    return {path: _READERS[path](f"{field}.{path}", memory) for path in paths}


def _text(field: str, memory: memory_pb2.Memory) -> str:
    checks.required(field, memory.text)
    size = len(memory.text.encode())
    if size > MAX_TEXT_BYTES:
        raise MemoryTextTooLong(field, size, MAX_TEXT_BYTES)
    return checks.no_nul(field, memory.text)


def _check_said(field: str, text: str) -> None:
    """White space alone says nothing: it would take a place in every recall. What was stored so once stays as it is."""
    if not text.strip():
        raise field_invalid(field, "must hold more than white space")


def _importance(field: str, memory: memory_pb2.Memory) -> float:
    if not memory.HasField("importance"):
        return DEFAULT_IMPORTANCE
    return checks.between(field, memory.importance, 0.0, 1.0)


_READERS: dict[str, _Reader] = {
    "text": _text,
    "kind": lambda field, memory: checks.member(field, Kind, memory.kind, Kind.NOTE),
    "tags": lambda field, memory: checks.unique(field, checks.texts(field, memory.tags, 32, 64)),
    "author": lambda field, memory: checks.text(field, memory.author, 128),
    "importance": _importance,
    "pinned": lambda _, memory: memory.pinned,
    "metadata": lambda field, memory: checks.metadata(field, memory, "metadata"),
    "expire_time": lambda field, memory: checks.time(field, memory, "expire_time"),
    "event_time": lambda field, memory: checks.time(field, memory, "event_time"),
    "context": lambda field, memory: checks.text_bytes(field, memory.context, _MAX_CONTEXT_BYTES),
}


def read_content(field: str, memory: memory_pb2.Memory) -> Content:
    """All that a version of a memory holds."""
    return Content(**_read(field, memory, _READERS))


def read_provenance(
    field: str, given: memory_pb2.Provenance, principal: str, *, default: Source = Source.API
) -> Provenance:
    if given.session:
        resource_names.parse_session(given.session, field=f"{field}.session")
    if given.event_sequence < 0:
        raise field_invalid(f"{field}.event_sequence", f"must not be negative (was {given.event_sequence})")
    return Provenance(
        session=given.session,
        event_sequence=given.event_sequence,
        session_uid=checks.text(f"{field}.session_uid", given.session_uid, 128),
        run_id=checks.text(f"{field}.run_id", given.run_id, 128),
        source=checks.member(f"{field}.source", Source, given.source, default),
        principal=principal,
    )


def _check_expiry(field: str, expire_time: datetime | None, now: datetime) -> None:
    if expire_time is not None and expire_time <= now:
        raise field_invalid(field, "must be in the future")
