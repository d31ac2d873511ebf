"""A memory, its versions, and what may be done to it. Metadata is JSON text, empty when there is none."""

import hashlib
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum

from memory_service.domain.errors import (
    EtagMismatch,
    MemoryDeleted,
    MemoryNotDeleted,
)

DEFAULT_IMPORTANCE = 0.5
KEPT_VERSIONS = 100
"""How many versions of a memory or block are kept, the present one included."""


class Kind(IntEnum):
    """Numbers, here and below, are those of the contract; a test holds them together."""

    NOTE = 1
    FACT = 2
    PREFERENCE = 3
    EPISODE = 4
    TASK = 5
    PROCEDURE = 6
    SUMMARY = 7


class VectorState(IntEnum):
    PENDING = 1
    READY = 2
    FAILED = 3


class Source(IntEnum):
    API = 1
    TOOL = 2
    REFLECTION = 3
    OPERATOR = 4
    IMPORT = 5


class ChangeKind(IntEnum):
    PUT = 1
    UPDATE = 2
    RESTORE = 3
    DELETE = 4
    UNDELETE = 5
    IMPORT = 6


class Dedupe(IntEnum):
    TOUCH = 1
    ALLOW = 2
    REJECT = 3


class Outcome(IntEnum):
    CREATED = 1
    TOUCHED = 2


@dataclass(frozen=True, slots=True)
class Content:
    """What a version of a memory holds."""

    text: str
    kind: Kind = Kind.NOTE
    tags: tuple[str, ...] = ()
    author: str = ""
    importance: float = DEFAULT_IMPORTANCE
    pinned: bool = False
    metadata: str = ""
    expire_time: datetime | None = None
    event_time: datetime | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a memory comes from. `session` is a resource name; empty and 0 mean none."""

    session: str = ""
    event_sequence: int = 0
    session_uid: str = ""
    run_id: str = ""
    source: Source = Source.API
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """`change` and `changed_by` say what made the present version and who; `update_time` says when."""

    bot: str
    id: str
    uid: str
    content: Content
    provenance: Provenance
    create_time: datetime
    update_time: datetime
    version: int = 1
    change: ChangeKind = ChangeKind.PUT
    changed_by: str = ""
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    vector_state: VectorState = VectorState.PENDING
    use_count: int = 0
    use_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/memories/{self.id}"

    @property
    def etag(self) -> str:
        return make_etag(self.uid, self.version)

    @property
    def is_deleted(self) -> bool:
        return self.delete_time is not None

    def is_expired(self, now: datetime) -> bool:
        """Expired memories are found by nothing, though they may still wait for the sweep."""
        expire_time = self.content.expire_time
        return expire_time is not None and expire_time <= now and not self.content.pinned


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A memory to be put. `id` is empty when the store shall make one."""

    content: Content
    provenance: Provenance
    id: str = ""
    dedupe: Dedupe = Dedupe.TOUCH


@dataclass(frozen=True, slots=True)
class Put:
    """What a put did."""

    outcome: Outcome
    memory: Memory


@dataclass(frozen=True, slots=True)
class Purged:
    """What is left to tell of a memory that is gone for good."""

    name: str
    uid: str


def make_etag(uid: str, version: int) -> str:
    """Of a resource at a version; one of the same name made later has another."""
    return f"{version:x}-{uid[-12:]}"


def text_key(text: str) -> str:
    """What two texts share that count as the same: equal after NFC and folding of white space."""
    folded = " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
    return hashlib.blake2b(folded.encode(), digest_size=16).hexdigest()


def touch(memory: Memory, expire_time: datetime | None, now: datetime) -> Memory:
    """The memory, put again with the same text. Its expiry only ever moves on; None is later than any time."""
    mine = memory.content.expire_time
    later = None if mine is None or expire_time is None else max(mine, expire_time)
    return replace(
        memory,
        content=replace(memory.content, expire_time=later),
        use_count=memory.use_count + 1,
        use_time=now,
    )


def check_etag(memory: Memory, etag: str) -> None:
    if etag and etag != memory.etag:
        raise EtagMismatch(memory.name, etag)


def update(memory: Memory, content: Content, by: str, now: datetime) -> Memory:
    """The memory with other content; the very same object when nothing differs."""
    if memory.is_deleted:
        raise MemoryDeleted(memory.name)
    if content == memory.content:
        return memory
    return replace(_next(memory, ChangeKind.UPDATE, by, now), content=content)


def delete(memory: Memory, retention: timedelta, by: str, now: datetime) -> Memory:
    """The memory, hidden until it is brought back or purged; the very same object when it was deleted before."""
    if memory.is_deleted:
        return memory
    return replace(_next(memory, ChangeKind.DELETE, by, now), delete_time=now, purge_time=now + retention)


def undelete(memory: Memory, by: str, now: datetime) -> Memory:
    if not memory.is_deleted:
        raise MemoryNotDeleted(memory.name)
    return replace(_next(memory, ChangeKind.UNDELETE, by, now), delete_time=None, purge_time=None)


def restore(memory: Memory, earlier: Memory, by: str, now: datetime) -> Memory:
    """The memory with the content it had at an earlier version; the very same object when that is the present one.

    An expiry that has passed since is not restored, or the memory would vanish at once.
    """
    if earlier.version == memory.version and not memory.is_deleted:
        return memory
    content = earlier.content
    if earlier.is_expired(now):
        kept = memory.content.expire_time
        content = replace(content, expire_time=kept if kept is None or kept > now else None)
    changed = _next(memory, ChangeKind.RESTORE, by, now)
    return replace(changed, content=content, delete_time=None, purge_time=None)


def _next(memory: Memory, change: ChangeKind, by: str, now: datetime) -> Memory:
    return replace(memory, version=memory.version + 1, change=change, changed_by=by, update_time=now)
