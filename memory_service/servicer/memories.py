"""Memories: put, read, changed, forgotten and brought back."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from dataclasses import replace
from itertools import repeat

from chassis import resource_names
from chassis.errors import field_invalid
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
from memory_service.domain.grant import GrantAccess
from memory_service.servicer.calls import Calls, Context, own_memory
from memory_service.store.lists import ListQuery
from mobot.memory.v1 import memory_service_pb2 as pb


class MemoryCalls(Calls):
    async def PutMemory(self, request: pb.PutMemoryRequest, context: Context) -> pb.PutMemoryResponse:
        who = caller().actor
        reach = await self._reach_to_put(request.parent, "PutMemory")
        draft = from_proto_draft("draft", request.draft, principal=who, now=self._clock.now())
        put = await self._store.put_memory(reach, draft, to_ticket(request, request.request_id, who))
        near = await self._near(reach, [(put, request.draft.near_duplicate_limit)])
        return pb.PutMemoryResponse(result=to_proto_put(put, reach, near[0]))

    async def BatchPutMemories(
        self, request: pb.BatchPutMemoriesRequest, context: Context
    ) -> pb.BatchPutMemoriesResponse:
        who = caller().actor
        reach = await self._reach_to_put(request.parent, "BatchPutMemories")
        drafts = from_proto_drafts(request.drafts, principal=who, now=self._clock.now(), atomic=request.atomic)
        ticket = to_ticket(request, request.request_id, who)
        answers = await self._store.put_memories(reach, drafts, ticket, atomic=request.atomic)
        wanted = [draft.near_duplicate_limit for draft in request.drafts]
        near = await self._near(reach, list(zip(answers, wanted, strict=True)))
        return pb.BatchPutMemoriesResponse(results=[to_proto_put(*each) for each in zip(answers, repeat(reach), near)])

    async def GetMemory(self, request: pb.GetMemoryRequest, context: Context) -> pb.GetMemoryResponse:
        ref = parse_memory(request.name)
        reach = await self._reach_memory(ref, GrantAccess.READ, "GetMemory")
        memory = await self._store.get_memory(ref)
        reach.check(memory)
        await self._grants.record(reach, [memory])
        return pb.GetMemoryResponse(memory=to_proto_memory(memory, reach))

    async def ListMemories(self, request: pb.ListMemoriesRequest, context: Context) -> pb.ListMemoriesResponse:
        bot = resource_names.parse_bot(request.parent, field="parent")
        order, descending = from_proto_order(request.order_by)
        reach = await self._reach(bot, GrantAccess.READ, "ListMemories")
        query = ListQuery(
            selected=replace(from_proto_filter(request.filter), slices=reach.slices),
            order=order,
            descending=descending,
            size=page_size(request.page_size),
            after=self._pages.place(request, request.page_token),
            show_deleted=request.show_deleted,
        )
        page = await self._store.list_memories(reach.bot, query)
        await self._grants.record(reach, page.items)
        return pb.ListMemoriesResponse(
            memories=[to_proto_memory(memory, reach) for memory in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def UpdateMemory(self, request: pb.UpdateMemoryRequest, context: Context) -> pb.UpdateMemoryResponse:
        who = caller().actor
        required("memory", request.HasField("memory"))
        ref = parse_memory(request.memory.name, "memory.name")
        reach = await self._reach_memory(ref, GrantAccess.WRITE, "UpdateMemory")
        etag = text("memory.etag", request.memory.etag, MAX_ETAG)
        change = from_proto_change(request.memory, request.update_mask, now=self._clock.now())
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.update_memory(ref, etag, change, who, ticket, reach)
        return pb.UpdateMemoryResponse(memory=to_proto_memory(memory, reach))

    async def DeleteMemory(self, request: pb.DeleteMemoryRequest, context: Context) -> pb.DeleteMemoryResponse:
        who = caller().actor
        ref = parse_memory(request.name)
        reach = await self._reach_memory(ref, GrantAccess.WRITE, "DeleteMemory")
        if reach.is_lent and request.purge:
            raise field_invalid("purge", "must be false through a grant; the owner alone removes for good")
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        memory = await self._store.delete_memory(ref, etag, who, ticket, reach, purge=request.purge)
        return pb.DeleteMemoryResponse(memory=to_proto_memory(memory, reach))

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
