"""Short ways to a store, for tests."""

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from memory_service.domain.grant import Reach
from memory_service.domain.memory import Content, Dedupe, Memory, NewMemory, Provenance
from memory_service.domain.search import Scope, SearchQuery
from memory_service.domain.selection import MemoryFilter
from memory_service.domain.words import query_words
from memory_service.store.ledger import PutShown, Ticket
from memory_service.store.lists import ListQuery
from memory_service.store.memories import MemoryRef
from memory_service.store.search_store import Probe, SearchStore
from memory_service.store.store import MemoryStore

ME = "operators/root"
_SEARCHING: "WeakKeyDictionary[MemoryStore, SearchStore]" = WeakKeyDictionary()


def ticket(method: str = "Test", request_id: str = "") -> Ticket:
    return Ticket(ME, method, request_id, fingerprint="f")


def new(text: str, *, id: str = "", dedupe: Dedupe = Dedupe.TOUCH, **content: Any) -> NewMemory:
    return NewMemory(Content(text, **content), Provenance(principal=ME), id, dedupe)


async def put(store: MemoryStore, text: str, *, bot: str = "main", request_id: str = "", **fields: Any) -> Memory:
    shown = await store.put_memory(Reach(bot), new(text, **fields), ticket("PutMemory", request_id))
    assert isinstance(shown.memory, Memory)
    return shown.memory


async def put_all(store: MemoryStore, texts: list[str], *, bot: str = "main") -> list[Memory]:
    answers = await store.put_memories(Reach(bot), [new(text) for text in texts], ticket("Batch"), atomic=True)
    found = [answer.memory for answer in answers if isinstance(answer, PutShown)]
    return [memory for memory in found if isinstance(memory, Memory)]


def ref(memory: Memory) -> MemoryRef:
    return MemoryRef(memory.bot, memory.id)


async def change(store: MemoryStore, memory: Memory, **fields: Any) -> Memory:
    shown = await store.update_memory(
        ref(memory), "", lambda content: replace(content, **fields), ME, ticket(), Reach(memory.bot)
    )
    assert isinstance(shown, Memory)
    return shown


async def delete(store: MemoryStore, memory: Memory, *, purge: bool = False) -> None:
    await store.delete_memory(ref(memory), "", ME, ticket(), Reach(memory.bot), purge=purge)


async def undelete(store: MemoryStore, memory: Memory) -> None:
    await store.undelete_memory(ref(memory), ME, ticket())


async def found(
    store: MemoryStore, query: str, *, bot: str = "main", selected: MemoryFilter | None = None, size: int = 100
) -> list[str]:
    """The texts of the hits, the best first."""
    scope = Scope(bot, selected or MemoryFilter())
    search = SearchQuery(tuple(query_words(query)), scope.selected, size, text=query)
    return [hit.memory.content.text for hit in (await searching(store).search([scope], [Probe()], search)).hits]


def searching(store: MemoryStore) -> SearchStore:
    """The one of the store, with the indexes that it holds."""
    known = _SEARCHING.get(store)
    if known is None:
        known = _SEARCHING[store] = SearchStore(store.transactions, cache_bytes=1 << 26, exact_limit=20_000)
    return known


async def listed(store: MemoryStore, *, bot: str = "main", order: str = "name", size: int = 1_000) -> list[Memory]:
    query = ListQuery(MemoryFilter(), order, descending=False, size=size, show_deleted=True)
    return list((await store.list_memories(bot, query)).items)
