"""How much is remembered."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert.answers import to_proto_stats
from memory_service.domain import access
from memory_service.servicer.calls import Calls, Context
from mobot.memory.v1 import memory_service_pb2 as pb

_EVERY_BOT = "bots/-"


class StatsCalls(Calls):
    async def GetMemoryStats(self, request: pb.GetMemoryStatsRequest, context: Context) -> pb.GetMemoryStatsResponse:
        who = caller().actor
        bot: str | None = None
        if request.name == _EVERY_BOT:
            access.check_operator(who, "see the figures of every bot")
        else:
            bot = access.readable(who, resource_names.parse_bot(request.name))
        stats, vectors = await self._store.stats(bot), await self._recall.vectors.stats(bot)
        configured = self._recall.embedders.default
        return pb.GetMemoryStatsResponse(
            stats=to_proto_stats(
                stats,
                vectors,
                configured=None if configured is None else configured.model,
                cache_bytes=self._recall.held_bytes,
            )
        )
