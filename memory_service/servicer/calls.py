"""What all calls stand on: the store they ask, and whose memory the caller may name."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc.aio

from chassis import resource_names
from chassis.clock import Clock, IdFactory
from chassis.identity import caller
from chassis.open_streams import OpenStreams
from chassis.telemetry import current_trace_id
from memory_service.convert.exports import ResumeTokens
from memory_service.convert.names import parse_block
from memory_service.convert.requests import Pages
from memory_service.domain import access
from memory_service.domain.errors import BlockNotFound, MemoryNotFound
from memory_service.domain.grant import NO_REACH, GrantAccess, Reach
from memory_service.domain.likeness import NearDuplicate
from memory_service.domain.memory import Memory
from memory_service.recall.recall import Recall
from memory_service.store.erase_store import EraseStore
from memory_service.store.grant_store import GrantStore
from memory_service.store.ledger import PutAnswer, PutShown
from memory_service.store.memories import MemoryRef
from memory_service.store.operation_store import OperationStore
from memory_service.store.portability_store import PortabilityStore
from memory_service.store.store import MemoryStore

Context = grpc.aio.ServicerContext[Any, Any]


class Calls:
    """Everything that calls need comes in through the constructor; `ring` tells that there is an operation to do."""

    def __init__(
        self,
        *,
        store: MemoryStore,
        grants: GrantStore,
        operations: OperationStore,
        erasures: EraseStore,
        recall: Recall,
        ring: Callable[[], None],
        portability: PortabilityStore,
        resume_tokens: ResumeTokens,
        retention: timedelta,
        pages: Pages,
        clock: Clock,
        new_id: IdFactory,
    ) -> None:
        self._store = store
        self._grants = grants
        self._operations = operations
        self._erasures = erasures
        self._recall = recall
        self._ring = ring
        self._portability = portability
        self._resume_tokens = resume_tokens
        self._retention = retention
        self._streams = OpenStreams()
        self._pages = pages
        self._clock = clock
        self._new_id = new_id

    def end_streams(self) -> None:
        """The service stops: streams end with DRAINING."""
        self._streams.drain()

    async def _reach(self, bot: str, needed: GrantAccess, method: str) -> Reach:
        """What the caller reaches of the bot's memory: all that is its own, or what grants lend it."""
        return await self._grants.reach(caller().actor, bot, needed, method=method, trace_id=current_trace_id())

    async def _reach_memory(self, ref: MemoryRef, needed: GrantAccess, method: str) -> Reach:
        """Raises: MemoryNotFound, when the caller reaches nothing of the bot's memory."""
        reach = await self._reach(ref.bot, needed, method)
        if reach is NO_REACH:
            raise MemoryNotFound(ref.name)
        return reach

    async def _reach_to_put(self, parent: str, method: str) -> Reach:
        """Raises: MemoryNotFound, as for a memory that is not there."""
        reach = await self._reach(resource_names.parse_bot(parent, field="parent"), GrantAccess.WRITE, method)
        if reach is NO_REACH:
            raise MemoryNotFound(parent)
        return reach

    async def _near(self, reach: Reach, put: Sequence[tuple[PutAnswer, int]]) -> list[list[NearDuplicate]]:
        """For each answer the near-duplicates of its memory, as many as are wanted; on record when they are lent."""
        asked = [
            (answer.memory, limit)
            for answer, limit in put
            if limit and isinstance(answer, PutShown) and isinstance(answer.memory, Memory)
        ]
        if not asked:
            return [[] for _ in put]
        found = iter(await self._store.near_duplicates(reach, asked))
        shown = [
            next(found) if limit and isinstance(answer, PutShown) and isinstance(answer.memory, Memory) else []
            for answer, limit in put
        ]
        seen = [each.memory for some in shown for each in some]
        if seen:
            await self._grants.record(reach, seen)
        return shown

    async def _reach_block(self, name: str, needed: GrantAccess, method: str, field: str = "name") -> tuple[Reach, str]:
        """The reach and the block's id. Raises: BlockNotFound."""
        bot, block_id = parse_block(name, field)
        reach = await self._reach(bot, needed, method)
        if reach is NO_REACH:
            raise BlockNotFound(name)
        reach.check_block(block_id)
        return reach, block_id


def writable_bot(actor: str, parent: str) -> str:
    bot = resource_names.parse_bot(parent, field="parent")
    if not access.owns(actor, bot):
        raise MemoryNotFound(parent)
    return bot


def own_memory(actor: str, ref: MemoryRef) -> MemoryRef:
    if not access.owns(actor, ref.bot):
        raise MemoryNotFound(ref.name)
    return ref


def own_block(actor: str, name: str, field: str = "name") -> tuple[str, str]:
    bot, block_id = parse_block(name, field)
    if not access.owns(actor, bot):
        raise BlockNotFound(name)
    return bot, block_id
