"""Operations: the long works on a bot's memory, seen and cancelled."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.operations import (
    from_proto_operation_filter,
    from_proto_reindex,
    parse_operation,
    to_proto_operation,
)
from memory_service.convert.requests import page_size, to_ticket
from memory_service.domain import access
from memory_service.domain.errors import EraseNotConfirmed, MemoryNotFound, OperationNotFound
from memory_service.servicer.calls import Calls, Context
from mobot.memory.v1 import memory_service_pb2 as pb

_EVERY_BOT = "bots/-"


class OperationCalls(Calls):
    async def EraseNamespace(self, request: pb.EraseNamespaceRequest, context: Context) -> pb.EraseNamespaceResponse:
        who = caller().actor
        bot = resource_names.parse_bot(request.name)
        if not access.owns(who, bot):
            raise MemoryNotFound(request.name)
        if request.confirm != request.name:
            raise EraseNotConfirmed(request.name)
        operation = await self._erasures.start(
            bot,
            who,
            to_ticket(request, request.request_id, who),
            keep_blocks=request.keep_blocks,
            keep_accesses=request.keep_accesses,
        )
        self._ring()
        return pb.EraseNamespaceResponse(operation=to_proto_operation(operation))

    async def ReindexNamespace(
        self, request: pb.ReindexNamespaceRequest, context: Context
    ) -> pb.ReindexNamespaceResponse:
        who = caller().actor
        bot = resource_names.parse_bot(request.name)
        if not access.owns(who, bot):
            raise MemoryNotFound(request.name)
        arguments = from_proto_reindex(request)
        self._recall.embedders.by_name(arguments["embedder"])
        operation = await self._recall.reindexes.start(bot, who, to_ticket(request, request.request_id, who), arguments)
        self._ring()
        return pb.ReindexNamespaceResponse(operation=to_proto_operation(operation))

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.GetOperationResponse:
        operation = await self._operations.get(*_own_operation(caller().actor, request.name))
        return pb.GetOperationResponse(operation=to_proto_operation(operation))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        who = caller().actor
        bot: str | None = None
        if request.parent == _EVERY_BOT:
            access.check_operator(who, "see the operations of every bot")
        else:
            bot = access.readable(who, resource_names.parse_bot(request.parent, field="parent"))
        kinds, states = from_proto_operation_filter(request)
        place = self._pages.place(request, request.page_token)
        page = await self._operations.list(bot, kinds, states, page_size(request.page_size), place)
        return pb.ListOperationsResponse(
            operations=[to_proto_operation(operation) for operation in page.items],
            next_page_token=self._pages.next(request, page.next),
            as_of=to_proto_mark(page.revision),
        )

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> pb.CancelOperationResponse:
        who = caller().actor
        bot, operation_id = _own_operation(who, request.name)
        operation = await self._operations.cancel(bot, operation_id, to_ticket(request, request.request_id, who))
        return pb.CancelOperationResponse(operation=to_proto_operation(operation))


def _own_operation(actor: str, name: str) -> tuple[str, str]:
    bot, operation_id = parse_operation(name)
    if not access.owns(actor, bot):
        raise OperationNotFound(name)
    return bot, operation_id
