"""What all calls stand on: the store they ask, and whose memory the caller may name."""

from typing import Any

import grpc.aio

from chassis import resource_names
from chassis.clock import Clock
from memory_service.convert.names import parse_block
from memory_service.convert.requests import Pages
from memory_service.domain import access
from memory_service.domain.errors import BlockNotFound, MemoryNotFound
from memory_service.store.memories import MemoryRef
from memory_service.store.operation_store import OperationStore
from memory_service.store.store import MemoryStore

Context = grpc.aio.ServicerContext[Any, Any]


class Calls:
    """Everything that calls need comes in through the constructor."""

    def __init__(self, *, store: MemoryStore, operations: OperationStore, pages: Pages, clock: Clock) -> None:
        self._store = store
        self._operations = operations
        self._pages = pages
        self._clock = clock


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
