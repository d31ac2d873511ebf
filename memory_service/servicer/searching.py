"""Search, in a bot's own memory and in what grants lend."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import Sequence
from dataclasses import replace

from chassis import resource_names
from chassis.telemetry import current_trace_id
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.requests import page_size
from memory_service.convert.searches import Search, from_proto_search, to_proto_hit, to_proto_report
from memory_service.domain.errors import MemoryNotFound
from memory_service.domain.grant import GrantAccess, Reach
from memory_service.domain.search import Found, Scope
from memory_service.servicer.calls import Calls, Context
from mobot.memory.v1 import memory_service_pb2 as pb

_DEFAULT_HITS = 10
_MAX_HITS = 200
_METHOD = "SearchMemories"
_NO_RERANKER = "No reranker is configured, so the hits are in order of score."


class SearchCalls(Calls):
    async def SearchMemories(self, request: pb.SearchMemoriesRequest, context: Context) -> pb.SearchMemoriesResponse:
        bot = resource_names.parse_bot(request.parent, field="parent")
        place = self._pages.place(request, request.page_token)
        size = page_size(request.page_size, default=_DEFAULT_HITS, maximum=_MAX_HITS)
        skip = int(place[0]) if place else 0
        search = from_proto_search(request, size=size, skip=skip)
        if request.rerank and not self._recall.searcher.can_rerank:
            search = replace(search, notes=(*search.notes, _NO_RERANKER))
        reaches = await self._reaches(bot, include_granted=request.include_granted)
        if search.similar_to is not None:
            await self._check_similar(bot, search)
        found = await self._search(reaches, search)
        onward = (skip + len(found.hits),) if found.more else ()
        return pb.SearchMemoriesResponse(
            hits=[to_proto_hit(hit, search, reaches[hit.scope]) for hit in found.hits],
            next_page_token=self._pages.next(request, onward),
            as_of=to_proto_mark(found.revision),
            report=to_proto_report(found, search),
        )

    async def _reaches(self, bot: str, *, include_granted: bool) -> list[Reach]:
        """The bot's memory as far as the caller reaches it, and what is lent to the bot."""
        reach = await self._reach(bot, GrantAccess.READ, _METHOD)
        if reach.is_lent or not include_granted:
            return [reach]
        return [reach, *await self._grants.lent_to(reach.bot, method=_METHOD, trace_id=current_trace_id())]

    async def _check_similar(self, bot: str, search: Search) -> None:
        """Raises: MemoryNotFound, when the caller does not reach the memory or it is another bot's than is searched."""
        assert search.similar_to is not None
        reach = await self._reach_memory(search.similar_to, GrantAccess.READ, _METHOD)
        reach.check(await self._store.get_memory(search.similar_to))
        if search.similar_to.bot != bot:
            raise MemoryNotFound(search.similar_to.name)

    async def _search(self, reaches: Sequence[Reach], search: Search) -> Found:
        """What is seen through a grant is on record first."""
        scopes = [Scope(reach.bot, replace(search.query.selected, slices=reach.slices)) for reach in reaches]
        found = await self._recall.searcher.search(scopes, search.query)
        for number, reach in enumerate(reaches):
            await self._grants.record(reach, [hit.memory for hit in found.hits if hit.scope == number])
        if search.record_use and not reaches[0].is_lent:
            # A grant to read is none to change the counters of use.
            await self._recall.searcher.record_use(scopes[:1], found)
        return found
