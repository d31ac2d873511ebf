"""Taking a bot's memory elsewhere: what an export holds and what an import does with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias

from memory_service.domain.block import Block
from memory_service.domain.embedder import Model, Shape
from memory_service.domain.grant import Grant
from memory_service.domain.memory import Memory
from memory_service.domain.selection import MemoryFilter, TimeField, TimeRange, meets

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class VectorKind:
    """What vectors are: who made them, and of what. They serve a bot whose vectors are of the same kind, or that has
    none yet."""

    model: Model
    shape: Shape


@dataclass(frozen=True, slots=True)
class Header:
    """`vectors` says what those of the export are; None without vectors."""

    bot: str
    export_time: datetime
    vectors: VectorKind | None = None


@dataclass(frozen=True, slots=True)
class MemoryWithVector:
    """A memory as it is, and its vector: 32-bit floats, little-endian, of length 1."""

    memory: Memory
    vector: bytes


@dataclass(frozen=True, slots=True)
class MemoryAtVersion:
    """A memory as it was at a version, with who and what made that."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class BlockAtVersion:
    block: Block


Record: TypeAlias = Header | Memory | MemoryWithVector | MemoryAtVersion | Block | BlockAtVersion | Grant
"""One thing of an export. A memory or block comes before its versions."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    selected: MemoryFilter = field(default_factory=MemoryFilter)
    versions: bool = False
    deleted: bool = False
    blocks: bool = True
    grants: bool = False
    vectors: bool = False


class Conflict(IntEnum):
    """What to do with a record whose name is taken by something else."""

    SKIP = 1
    REPLACE = 2
    RENAME = 3


class Imported(IntEnum):
    """What an import did with a record."""

    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    SKIPPED = 4


def renamed(memory_id: str, uid: str) -> str:
    """The id of a memory whose own is taken: the same each time the import is repeated."""
    return f"{memory_id[:100]}~{uid.replace('-', '')[-16:]}"


def renamed_slug(slug: str, uid: str) -> str:
    """The same for blocks and grants, whose ids are shorter and of fewer characters."""
    return f"{slug[:46]}-{uid.replace('-', '').lower()[-16:]}"


def as_of(present: Memory, earlier: Mapping[int, Memory], time: datetime) -> Memory:
    """A memory as it was at a time, as far as its kept versions tell; `earlier` by version."""
    if present.update_time <= time:
        return present
    then = [memory for memory in earlier.values() if memory.update_time <= time]
    return max(then, key=lambda memory: memory.version, default=present)


def selects(selected: MemoryFilter, memory: Memory) -> bool:
    """Whether a filter selects a memory, as it does in a list."""
    content, origin = memory.content, memory.provenance
    return (
        (not selected.kinds or content.kind in selected.kinds)
        and selected.all_tags.issubset(content.tags)
        and (not selected.any_tags or not selected.any_tags.isdisjoint(content.tags))
        and (not selected.authors or content.author in selected.authors)
        and (not selected.sessions or origin.session in selected.sessions)
        and (not selected.sources or origin.source in selected.sources)
        and (not selected.run_id or origin.run_id == selected.run_id)
        and (selected.pinned is None or content.pinned == selected.pinned)
        and content.importance >= selected.min_importance
        and all(_within(span, memory) for span in selected.time_ranges)
        and meets(selected.conditions, content.metadata)
    )


def _within(span: TimeRange, memory: Memory) -> bool:
    time = {
        TimeField.EVENT_TIME: memory.content.event_time or memory.create_time,
        TimeField.CREATE_TIME: memory.create_time,
        TimeField.UPDATE_TIME: memory.update_time,
        TimeField.USE_TIME: memory.use_time,
        TimeField.EXPIRE_TIME: memory.content.expire_time,
    }[span.field]
    return time is not None and (span.start is None or time >= span.start) and (span.end is None or time < span.end)
