"""Grants, which lend a bot a slice of another's memory, and what one call reaches of a bot's memory by them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from chassis.errors import field_invalid
from memory_service.domain.access import NOBODY
from memory_service.domain.errors import BlockNotFound, GrantEnded, MemoryNotFound
from memory_service.domain.memory import Memory
from memory_service.domain.selection import Slice

MAX_DURATION = timedelta(days=366)
KEPT_ACCESSES = timedelta(days=366)
"""How long an audit entry is kept."""
MAX_RESOURCES = 100
"""How many resources an audit entry names."""


class GrantAccess(IntEnum):
    READ = 1
    WRITE = 2


class GrantState(IntEnum):
    ACTIVE = 1
    EXPIRED = 2
    REVOKED = 3


@dataclass(frozen=True, slots=True)
class Grant:
    """`memories` is None when only blocks are lent; `blocks` holds ids."""

    bot: str
    id: str
    grantee: str
    access: GrantAccess
    memories: Slice | None
    blocks: tuple[str, ...]
    expire_time: datetime
    reason: str
    create_time: datetime
    principal: str
    revoke_time: datetime | None = None
    access_count: int = 0
    access_time: datetime | None = None
    key: int = 0

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/grants/{self.id}"

    def state(self, now: datetime) -> GrantState:
        if self.revoke_time is not None:
            return GrantState.REVOKED
        return GrantState.EXPIRED if self.expire_time <= now else GrantState.ACTIVE


@dataclass(frozen=True, slots=True)
class Access:
    """What was done through a grant once. `resources` are names, the first of them; `count` is how many there were."""

    bot: str
    id: str
    grant: str
    grantee: str
    method: str
    resources: tuple[str, ...]
    count: int
    time: datetime
    trace_id: str


def check_revocable(grant: Grant, now: datetime) -> None:
    state = grant.state(now)
    if state is not GrantState.ACTIVE:
        raise GrantEnded(grant.name, state.name)


@dataclass(frozen=True, slots=True)
class Reach:
    """What of the memory of `bot` a call reaches: everything (`grants` is None), or what the grants in force lend it.

    A bot whose caller has no grant is NOBODY, whose namespace is always empty. Made by the caller of the store with the
    grants that allow what the call does; `method` and `trace_id` are for the audit.
    """

    bot: str
    grants: tuple[Grant, ...] | None = None
    method: str = ""
    trace_id: str = ""

    @property
    def is_lent(self) -> bool:
        return self.grants is not None

    @property
    def slices(self) -> tuple[Slice, ...] | None:
        """Of which one must hold each memory; None when every memory may be seen."""
        if self.grants is None:
            return None
        return tuple(grant.memories for grant in self.grants if grant.memories is not None)

    def grant_of(self, memory: Memory) -> Grant | None:
        """The first grant that lends the memory; always None for one's own."""
        for grant in self.grants or ():
            if grant.memories is not None and grant.memories.holds(memory):
                return grant
        return None

    def admits(self, memory: Memory) -> bool:
        return self.grants is None or self.grant_of(memory) is not None

    def check(self, memory: Memory) -> None:
        """Raises: MemoryNotFound, as if there were none."""
        if not self.admits(memory):
            raise MemoryNotFound(memory.name)

    def check_written(self, field: str, memory: Memory) -> None:
        """What is written through a grant must be lent by it."""
        if not self.admits(memory):
            raise field_invalid(field, "must lie in the slice of the grant: its kinds, tags and sessions")

    def grant_of_block(self, block_id: str) -> Grant | None:
        return next((grant for grant in self.grants or () if block_id in grant.blocks), None)

    def check_block(self, block_id: str) -> None:
        """Raises: BlockNotFound, as if there were none."""
        if self.grants is not None and self.grant_of_block(block_id) is None:
            raise BlockNotFound(f"bots/{self.bot}/blocks/{block_id}")

    def by_grant(self, memories: Iterable[Memory], block_ids: Iterable[str] = ()) -> list[tuple[Grant, list[str]]]:
        """The names of what was seen or changed, by the grant that lends it; of nothing, the first grant."""
        if not self.grants:
            return []
        found: dict[int, tuple[Grant, list[str]]] = {}
        for memory in memories:
            grant = self.grant_of(memory)
            if grant is not None:
                found.setdefault(grant.key, (grant, []))[1].append(memory.name)
        for block_id in block_ids:
            grant = self.grant_of_block(block_id)
            if grant is not None:
                found.setdefault(grant.key, (grant, []))[1].append(f"bots/{self.bot}/blocks/{block_id}")
        return list(found.values()) or [(self.grants[0], [])]


NO_REACH = Reach(NOBODY)
"""Of a caller to whom the bot looks as if nothing had ever been remembered."""
