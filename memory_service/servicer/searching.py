"""Search."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from chassis import resource_names
from chassis.identity import caller
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.requests import page_size
from memory_service.convert.searches import Mode, from_proto_search, to_proto_hit, to_proto_report
from memory_service.domain import access
from memory_service.domain.errors import EmbedderUnavailable
from memory_service.servicer.calls import Calls, Context, own_memory
from mobot.memory.v1 import memory_service_pb2 as pb

_DEFAULT_HITS = 10
_MAX_HITS = 200


class SearchCalls(Calls):
    async def SearchMemories(self, request: pb.SearchMemoriesRequest, context: Context) -> pb.SearchMemoriesResponse:
        who = caller().actor
        bot = access.readable(who, resource_names.parse_bot(request.parent, field="parent"))
        place = self._pages.place(request, request.page_token)
        size = page_size(request.page_size, default=_DEFAULT_HITS, maximum=_MAX_HITS)
        skip = int(place[0]) if place else 0
        search = from_proto_search(request, size=size, skip=skip)
        if search.similar_to is not None:
            await self._store.get_memory(own_memory(who, search.similar_to))
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
