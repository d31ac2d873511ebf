"""Blocks: the small texts that are always in a bot's context."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.blocks import from_proto_block, to_proto_block, to_proto_block_version
from memory_service.convert.checks import MAX_ETAG, required, text
from memory_service.convert.requests import page_size, to_ticket
from memory_service.domain import access
from memory_service.servicer.calls import Calls, Context, own_block
from mobot.memory.v1 import memory_service_pb2 as pb


class BlockCalls(Calls):
    async def GetBlock(self, request: pb.GetBlockRequest, context: Context) -> pb.GetBlockResponse:
        bot, block_id = own_block(caller().actor, request.name)
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
        bot, block_id = own_block(who, request.block.name, "block.name")
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
