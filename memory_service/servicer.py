"""The memory's calls: each converts in, asks the store, and converts out."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from typing import Any

import grpc.aio

from chassis import resource_names
from chassis.clock import Clock
from chassis.identity import caller
from memory_service.convert.answers import to_proto_mark, to_proto_put, to_proto_stats
from memory_service.convert.blocks import from_proto_block, to_proto_block, to_proto_block_version
from memory_service.convert.checks import MAX_ETAG, required, text
from memory_service.convert.filters import from_proto_filter, from_proto_order
from memory_service.convert.memories import (
    from_proto_change,
    from_proto_draft,
    from_proto_drafts,
    to_proto_memory,
    to_proto_version,
)
from memory_service.convert.names import parse_block, parse_memory, parse_memory_version
from memory_service.convert.requests import Pages, page_size, to_ticket
from memory_service.convert.searches import Mode, from_proto_search, to_proto_hit, to_proto_report
from memory_service.domain import access
from memory_service.domain.errors import BlockNotFound, EmbedderUnavailable, MemoryNotFound
from memory_service.store.lists import ListQuery
from memory_service.store.memories import MemoryRef
from memory_service.store.store import MemoryStore
from mobot.memory.v1 import memory_service_pb2, memory_service_pb2_grpc

pb = memory_service_pb2
Context = grpc.aio.ServicerContext[Any, Any]

_EVERY_BOT = "bots/-"
_DEFAULT_HITS = 10
_MAX_HITS = 200


class MemoryServicer(memory_service_pb2_grpc.MemoryServiceServicer):
    """Everything it needs comes in through the constructor. Calls that it does not have answer UNIMPLEMENTED."""

    def __init__(self, *, store: MemoryStore, pages: Pages, clock: Clock) -> None:
        self._store = store
        self._pages = pages
        self._clock = clock

    async def PutMemory(self, request: pb.PutMemoryRequest, context: Context) -> pb.PutMemoryResponse:
        who = caller().actor
        bot = _writable_bot(who, request.parent)
        draft = from_proto_draft("draft", request.draft, principal=who, now=self._clock.now())
        put = await self._store.put_memory(bot, draft, to_ticket(request, request.request_id, who))
        return pb.PutMemoryResponse(result=to_proto_put(put))

    async def BatchPutMemories(
        self, request: pb.BatchPutMemoriesRequest, context: Context
    ) -> pb.BatchPutMemoriesResponse:
        who = caller().actor
        bot = _writable_bot(who, request.parent)
        drafts = from_proto_drafts(request.drafts, principal=who, now=self._clock.now(), atomic=request.atomic)
        ticket = to_ticket(request, request.request_id, who)
        answers = await self._store.put_memories(bot, drafts, ticket, atomic=request.atomic)
        return pb.BatchPutMemoriesResponse(results=[to_proto_put(answer) for answer in answers])

    async def GetMemory(self, request: pb.GetMemoryRequest, context: Context) -> pb.GetMemoryResponse:
        memory = await self._store.get_memory(_own_memory(caller().actor, parse_memory(request.name)))
        return pb.GetMemoryResponse(memory=to_proto_memory(memory))

    async def ListMemories(self, request: pb.ListMemoriesRequest, context: Context) -> pb.ListMemoriesResponse:
        bot = access.readable(caller().actor, resource_names.parse_bot(request.parent, field="parent"))
        order, descending = from_proto_order(request.order_by)
        query = ListQuery(
            selected=from_proto_filter(request.filter),
            order=order,
            descending=descending,
            size=page_size(request.page_size),
            after=self._pages.place(request, request.page_token),
            show_deleted=request.show_deleted,
        )
        page = await self._store.list_memories(bot, query)
        return pb.ListMemoriesResponse(
            memories=[to_proto_memory(memory) for memory in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def UpdateMemory(self, request: pb.UpdateMemoryRequest, context: Context) -> pb.UpdateMemoryResponse:
        who = caller().actor
        required("memory", request.HasField("memory"))
        ref = _own_memory(who, parse_memory(request.memory.name, "memory.name"))
        etag = text("memory.etag", request.memory.etag, MAX_ETAG)
        change = from_proto_change(request.memory, request.update_mask, now=self._clock.now())
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.update_memory(ref, etag, change, who, ticket)
        return pb.UpdateMemoryResponse(memory=to_proto_memory(memory))

    async def DeleteMemory(self, request: pb.DeleteMemoryRequest, context: Context) -> pb.DeleteMemoryResponse:
        who = caller().actor
        ref = _own_memory(who, parse_memory(request.name))
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.delete_memory(ref, etag, who, ticket, purge=request.purge)
        return pb.DeleteMemoryResponse(memory=to_proto_memory(memory))

    async def UndeleteMemory(self, request: pb.UndeleteMemoryRequest, context: Context) -> pb.UndeleteMemoryResponse:
        who = caller().actor
        ref = _own_memory(who, parse_memory(request.name))
        memory = await self._store.undelete_memory(ref, who, to_ticket(request, request.request_id, who))
        return pb.UndeleteMemoryResponse(memory=to_proto_memory(memory))

    async def ListMemoryVersions(
        self, request: pb.ListMemoryVersionsRequest, context: Context
    ) -> pb.ListMemoryVersionsResponse:
        ref = _own_memory(caller().actor, parse_memory(request.parent, "parent"))
        place = self._pages.place(request, request.page_token)
        page = await self._store.list_versions(ref, page_size(request.page_size), place)
        return pb.ListMemoryVersionsResponse(
            versions=[to_proto_version(memory) for memory in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def RestoreMemoryVersion(
        self, request: pb.RestoreMemoryVersionRequest, context: Context
    ) -> pb.RestoreMemoryVersionResponse:
        who = caller().actor
        ref, version = parse_memory_version(request.name)
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.restore_version(_own_memory(who, ref), version, etag, who, ticket)
        return pb.RestoreMemoryVersionResponse(memory=to_proto_memory(memory))

    async def SearchMemories(self, request: pb.SearchMemoriesRequest, context: Context) -> pb.SearchMemoriesResponse:
        who = caller().actor
        bot = access.readable(who, resource_names.parse_bot(request.parent, field="parent"))
        place = self._pages.place(request, request.page_token)
        size = page_size(request.page_size, default=_DEFAULT_HITS, maximum=_MAX_HITS)
        skip = int(place[0]) if place else 0
        search = from_proto_search(request, size=size, skip=skip)
        if search.similar_to is not None:
            await self._store.get_memory(_own_memory(who, search.similar_to))
        if search.mode in (Mode.VECTOR, Mode.SIMILAR):
            raise EmbedderUnavailable(search.mode.name)
        found = await self._store.search(bot, search.query, record_use=search.record_use)
        onward = (skip + len(found.hits),) if found.more else ()
        return pb.SearchMemoriesResponse(
            hits=[to_proto_hit(hit, search) for hit in found.hits],
            next_page_token=self._pages.next(request, onward),
            as_of=to_proto_mark(found.revision),
            report=to_proto_report(found, search),
        )

    async def GetBlock(self, request: pb.GetBlockRequest, context: Context) -> pb.GetBlockResponse:
        bot, block_id = _own_block(caller().actor, request.name)
        block = await self._store.get_block(bot, block_id, request.version)
        return pb.GetBlockResponse(block=to_proto_block(block))

    async def ListBlocks(self, request: pb.ListBlocksRequest, context: Context) -> pb.ListBlocksResponse:
        bot = access.readable(caller().actor, resource_names.parse_bot(request.parent, field="parent"))
        place = self._pages.place(request, request.page_token)
        page = await self._store.list_blocks(bot, page_size(request.page_size), place)
        return pb.ListBlocksResponse(
            blocks=[to_proto_block(block) for block in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def PutBlock(self, request: pb.PutBlockRequest, context: Context) -> pb.PutBlockResponse:
        who = caller().actor
        required("block", request.HasField("block"))
        bot, block_id = _own_block(who, request.block.name, "block.name")
        patch, whole = from_proto_block(request.block, request.update_mask)
        block, created = await self._store.put_block(
            bot,
            block_id,
            patch,
            to_ticket(request, request.request_id, who),
            whole=whole,
            etag=text("block.etag", request.block.etag, MAX_ETAG),
            must_be_new=request.must_be_new,
            trusted=access.is_trusted(who),
            by=who,
        )
        return pb.PutBlockResponse(block=to_proto_block(block), created=created)

    async def DeleteBlock(self, request: pb.DeleteBlockRequest, context: Context) -> pb.DeleteBlockResponse:
        who = caller().actor
        bot, block_id = _own_block(who, request.name)
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        block = await self._store.delete_block(bot, block_id, etag, ticket, trusted=access.is_trusted(who))
        return pb.DeleteBlockResponse(block=to_proto_block(block))

    async def ListBlockVersions(
        self, request: pb.ListBlockVersionsRequest, context: Context
    ) -> pb.ListBlockVersionsResponse:
        bot, block_id = _own_block(caller().actor, request.parent, "parent")
        place = self._pages.place(request, request.page_token)
        page = await self._store.list_block_versions(bot, block_id, page_size(request.page_size), place)
        return pb.ListBlockVersionsResponse(
            versions=[to_proto_block_version(block) for block in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def GetMemoryStats(self, request: pb.GetMemoryStatsRequest, context: Context) -> pb.GetMemoryStatsResponse:
        who = caller().actor
        bot: str | None = None
        if request.name == _EVERY_BOT:
            access.check_operator(who, "see the figures of every bot")
        else:
            bot = access.readable(who, resource_names.parse_bot(request.name))
        return pb.GetMemoryStatsResponse(stats=to_proto_stats(await self._store.stats(bot)))


def _writable_bot(actor: str, parent: str) -> str:
    bot = resource_names.parse_bot(parent, field="parent")
    if not access.owns(actor, bot):
        raise MemoryNotFound(parent)
    return bot


def _own_memory(actor: str, ref: MemoryRef) -> MemoryRef:
    if not access.owns(actor, ref.bot):
        raise MemoryNotFound(ref.name)
    return ref


def _own_block(actor: str, name: str, field: str = "name") -> tuple[str, str]:
    bot, block_id = parse_block(name, field)
    if not access.owns(actor, bot):
        raise BlockNotFound(name)
    return bot, block_id
