"""Blocks: the small texts that are always in a bot's context."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from chassis.telemetry import current_trace_id
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.blocks import from_proto_block, to_proto_block, to_proto_block_version
from memory_service.convert.checks import MAX_ETAG, required, text
from memory_service.convert.requests import page_size, to_ticket
from memory_service.domain import access
from memory_service.domain.errors import BlockNotFound
from memory_service.domain.grant import GrantAccess
from memory_service.servicer.calls import Calls, Context, own_block
from mobot.memory.v1 import memory_service_pb2 as pb


class BlockCalls(Calls):
    async def GetBlock(self, request: pb.GetBlockRequest, context: Context) -> pb.GetBlockResponse:
        reach, block_id = await self._reach_block(request.name, GrantAccess.READ, "GetBlock")
        if reach.is_lent and request.version:
            raise BlockNotFound(request.name)  # what a block once said is not lent
        block = await self._store.get_block(reach.bot, block_id, request.version)
        await self._grants.record(reach, (), [block_id])
        return pb.GetBlockResponse(block=to_proto_block(block, reach))

    async def ListBlocks(self, request: pb.ListBlocksRequest, context: Context) -> pb.ListBlocksResponse:
        bot = resource_names.parse_bot(request.parent, field="parent")
        size, place = page_size(request.page_size), self._pages.place(request, request.page_token)
        reach = await self._reach(bot, GrantAccess.READ, "ListBlocks")
        lent = [reach] if reach.is_lent else []
        if request.include_granted and not reach.is_lent:
            lent = await self._grants.lent_to(reach.bot, method="ListBlocks", trace_id=current_trace_id())
        page = await self._store.list_blocks(reach, lent, size, place)
        for each, blocks in page.by_reach:
            await self._grants.record(each, (), [block.id for block in blocks])
        return pb.ListBlocksResponse(
            blocks=[to_proto_block(block, each) for each, blocks in page.by_reach for block in blocks],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def PutBlock(self, request: pb.PutBlockRequest, context: Context) -> pb.PutBlockResponse:
        who = caller().actor
        required("block", request.HasField("block"))
        reach, block_id = await self._reach_block(request.block.name, GrantAccess.WRITE, "PutBlock", "block.name")
        patch, whole = from_proto_block(request.block, request.update_mask)
        block, created = await self._store.put_block(
            reach,
            block_id,
            patch,
            to_ticket(request, request.request_id, who),
            whole=whole,
            etag=text("block.etag", request.block.etag, MAX_ETAG),
            must_be_new=request.must_be_new,
            trusted=access.is_trusted(who),
            by=who,
        )
        return pb.PutBlockResponse(block=to_proto_block(block, reach), created=created)

    async def DeleteBlock(self, request: pb.DeleteBlockRequest, context: Context) -> pb.DeleteBlockResponse:
        who = caller().actor
        bot, block_id = own_block(who, request.name)
        etag = text("etag", request.etag, MAX_ETAG)
        ticket = to_ticket(request, request.request_id, who)
        block = await self._store.delete_block(bot, block_id, etag, ticket, trusted=access.is_trusted(who))
        return pb.DeleteBlockResponse(block=to_proto_block(block))

    async def ListBlockVersions(
        self, request: pb.ListBlockVersionsRequest, context: Context
    ) -> pb.ListBlockVersionsResponse:
        bot, block_id = own_block(caller().actor, request.parent, "parent")
        place = self._pages.place(request, request.page_token)
        page = await self._store.list_block_versions(bot, block_id, page_size(request.page_size), place)
        return pb.ListBlockVersionsResponse(
            versions=[to_proto_block_version(block) for block in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )
