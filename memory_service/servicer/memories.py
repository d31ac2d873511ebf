"""Memories: put, read, changed, forgotten and brought back."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert.answers import to_proto_mark, to_proto_put
from memory_service.convert.checks import MAX_ETAG, required, text
from memory_service.convert.filters import from_proto_filter, from_proto_order
from memory_service.convert.memories import (
    from_proto_change,
    from_proto_draft,
    from_proto_drafts,
    to_proto_memory,
    to_proto_version,
)
from memory_service.convert.names import parse_memory, parse_memory_version
from memory_service.convert.requests import page_size, to_ticket
from memory_service.domain import access
from memory_service.servicer.calls import Calls, Context, own_memory, writable_bot
from memory_service.store.lists import ListQuery
from mobot.memory.v1 import memory_service_pb2 as pb


class MemoryCalls(Calls):
    async def PutMemory(self, request: pb.PutMemoryRequest, context: Context) -> pb.PutMemoryResponse:
        who = caller().actor
        bot = writable_bot(who, request.parent)
        draft = from_proto_draft("draft", request.draft, principal=who, now=self._clock.now())
        put = await self._store.put_memory(bot, draft, to_ticket(request, request.request_id, who))
        return pb.PutMemoryResponse(result=to_proto_put(put))

    async def BatchPutMemories(
        self, request: pb.BatchPutMemoriesRequest, context: Context
    ) -> pb.BatchPutMemoriesResponse:
        who = caller().actor
        bot = writable_bot(who, request.parent)
        drafts = from_proto_drafts(request.drafts, principal=who, now=self._clock.now(), atomic=request.atomic)
        ticket = to_ticket(request, request.request_id, who)
        answers = await self._store.put_memories(bot, drafts, ticket, atomic=request.atomic)
        return pb.BatchPutMemoriesResponse(results=[to_proto_put(answer) for answer in answers])

    async def GetMemory(self, request: pb.GetMemoryRequest, context: Context) -> pb.GetMemoryResponse:
        memory = await self._store.get_memory(own_memory(caller().actor, parse_memory(request.name)))
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
        ref = own_memory(who, parse_memory(request.memory.name, "memory.name"))
        etag = text("memory.etag", request.memory.etag, MAX_ETAG)
        change = from_proto_change(request.memory, request.update_mask, now=self._clock.now())
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.update_memory(ref, etag, change, who, ticket)
        return pb.UpdateMemoryResponse(memory=to_proto_memory(memory))

    async def DeleteMemory(self, request: pb.DeleteMemoryRequest, context: Context) -> pb.DeleteMemoryResponse:
        who = caller().actor
        ref = own_memory(who, parse_memory(request.name))
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.delete_memory(ref, etag, who, ticket, purge=request.purge)
        return pb.DeleteMemoryResponse(memory=to_proto_memory(memory))

    async def UndeleteMemory(self, request: pb.UndeleteMemoryRequest, context: Context) -> pb.UndeleteMemoryResponse:
        who = caller().actor
        ref = own_memory(who, parse_memory(request.name))
        memory = await self._store.undelete_memory(ref, who, to_ticket(request, request.request_id, who))
        return pb.UndeleteMemoryResponse(memory=to_proto_memory(memory))

    async def ListMemoryVersions(
        self, request: pb.ListMemoryVersionsRequest, context: Context
    ) -> pb.ListMemoryVersionsResponse:
        ref = own_memory(caller().actor, parse_memory(request.parent, "parent"))
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
        memory = await self._store.restore_version(own_memory(who, ref), version, etag, who, ticket)
        return pb.RestoreMemoryVersionResponse(memory=to_proto_memory(memory))
