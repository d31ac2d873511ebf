"""Memories as rows, and back. Earlier versions keep their content as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from memory_service.domain.memory import ChangeKind, Content, Kind, Memory, Provenance, Source, VectorState, text_key

Row = Mapping[Any, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# An enum finds its members by a call that takes as long as the rest of a row's field.
_KINDS = {int(kind): kind for kind in Kind}
_SOURCES = {int(source): source for source in Source}
_CHANGES = {int(change): change for change in ChangeKind}
_VECTOR_STATES = {int(state): state for state in VectorState}


@dataclass(frozen=True, slots=True)
class Stored:
    """A memory in its row. `word_count` is how many words of it are counted in its namespace while it lives."""

    key: int
    memory: Memory
    word_count: int


def micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def micros_or_none(time: datetime | None) -> int | None:
    return None if time is None else micros(time)


def moment(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def memory_to_row(memory: Memory, word_count: int) -> dict[str, Any]:
    """All columns of the memory's row but its key and its namespace."""
    content, provenance = memory.content, memory.provenance
    return {
        "memory_id": memory.id,
        "uid": memory.uid,
        "text": content.text,
        "text_key": text_key(content.text),
        "context": content.context,
        "kind": int(content.kind),
        "tags": dump(content.tags),
        "author": content.author,
        "importance": content.importance,
        "pinned": content.pinned,
        "data": content.metadata,
        "expire_time": micros_or_none(content.expire_time),
        "event_time": micros_or_none(content.event_time),
        "happen_time": micros(content.event_time or memory.create_time),
        "session": provenance.session,
        "event_sequence": provenance.event_sequence,
        "session_uid": provenance.session_uid,
        "run_id": provenance.run_id,
        "source": int(provenance.source),
        "principal": provenance.principal,
        "version": memory.version,
        "change": int(memory.change),
        "changed_by": memory.changed_by,
        "create_time": micros(memory.create_time),
        "update_time": micros(memory.update_time),
        "delete_time": micros_or_none(memory.delete_time),
        "purge_time": micros_or_none(memory.purge_time),
        "word_count": word_count,
        "vector_state": int(memory.vector_state),
        "use_count": memory.use_count,
        "use_time": micros_or_none(memory.use_time),
    }


def memory_from_row(row: Row, bot: str) -> Stored:
    memory = Memory(
        bot=bot,
        id=row["memory_id"],
        uid=row["uid"],
        content=Content(
            text=row["text"],
            kind=_KINDS[row["kind"]],
            tags=() if row["tags"] == "[]" else tuple(json.loads(row["tags"])),
            author=row["author"],
            importance=row["importance"],
            pinned=bool(row["pinned"]),
            metadata=row["data"],
            expire_time=moment_or_none(row["expire_time"]),
            event_time=moment_or_none(row["event_time"]),
            context=row["context"],
        ),
        provenance=Provenance(
            session=row["session"],
            event_sequence=row["event_sequence"],
            session_uid=row["session_uid"],
            run_id=row["run_id"],
            source=_SOURCES[row["source"]],
            principal=row["principal"],
        ),
        create_time=moment(row["create_time"]),
        update_time=moment(row["update_time"]),
        version=row["version"],
        change=_CHANGES[row["change"]],
        changed_by=row["changed_by"],
        delete_time=moment_or_none(row["delete_time"]),
        purge_time=moment_or_none(row["purge_time"]),
        vector_state=_VECTOR_STATES[row["vector_state"]],
        use_count=row["use_count"],
        use_time=moment_or_none(row["use_time"]),
    )
    return Stored(row["pk"], memory, row["word_count"])


def version_to_row(key: int, memory: Memory) -> dict[str, Any]:
    """The present version of a memory as the row that remains of it."""
    content = memory.content
    return {
        "memory": key,
        "version": memory.version,
        "change": int(memory.change),
        "changed_by": memory.changed_by,
        "update_time": micros(memory.update_time),
        "delete_time": micros_or_none(memory.delete_time),
        "purge_time": micros_or_none(memory.purge_time),
        "content": dump(
            {
                "text": content.text,
                "kind": int(content.kind),
                "tags": content.tags,
                "author": content.author,
                "importance": content.importance,
                "pinned": content.pinned,
                "metadata": content.metadata,
                "expire_time": micros_or_none(content.expire_time),
                "event_time": micros_or_none(content.event_time),
                "context": content.context,
            }
        ),
    }


def version_from_row(row: Row, present: Memory) -> Memory:
    """An earlier version; what never changes, and the use, is taken from the present one."""
    kept = json.loads(row["content"])
    return replace(
        present,
        content=Content(
            text=kept["text"],
            kind=Kind(kept["kind"]),
            tags=tuple(kept["tags"]),
            author=kept["author"],
            importance=kept["importance"],
            pinned=kept["pinned"],
            metadata=kept["metadata"],
            expire_time=moment_or_none(kept["expire_time"]),
            event_time=moment_or_none(kept["event_time"]),
            context=kept["context"],
        ),
        version=row["version"],
        change=ChangeKind(row["change"]),
        changed_by=row["changed_by"],
        update_time=moment(row["update_time"]),
        delete_time=moment_or_none(row["delete_time"]),
        purge_time=moment_or_none(row["purge_time"]),
    )


def dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
