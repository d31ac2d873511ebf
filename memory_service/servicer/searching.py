"""Search, in a bot's own memory and in what grants lend."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import Sequence
from dataclasses import replace

from chassis import resource_names
from chassis.telemetry import current_trace_id
from memory_service.convert.answers import to_proto_mark
from memory_service.convert.requests import page_size
from memory_service.convert.searches import Mode, Search, from_proto_search, to_proto_hit, to_proto_report
from memory_service.domain.errors import EmbedderUnavailable
from memory_service.domain.grant import GrantAccess, Reach
from memory_service.domain.search import Found, Hit
from memory_service.servicer.calls import Calls, Context
from mobot.memory.v1 import memory_service_pb2 as pb

_DEFAULT_HITS = 10
_MAX_HITS = 200
_METHOD = "SearchMemories"


class SearchCalls(Calls):
    async def SearchMemories(self, request: pb.SearchMemoriesRequest, context: Context) -> pb.SearchMemoriesResponse:
        bot = resource_names.parse_bot(request.parent, field="parent")
        place = self._pages.place(request, request.page_token)
        size = page_size(request.page_size, default=_DEFAULT_HITS, maximum=_MAX_HITS)
        skip = int(place[0]) if place else 0
        search = from_proto_search(request, size=size, skip=skip)
        reaches = await self._reaches(bot, include_granted=request.include_granted)
        if search.similar_to is not None:
            reach = await self._reach_memory(search.similar_to, GrantAccess.READ, _METHOD)
            reach.check(await self._store.get_memory(search.similar_to))
        if search.mode in (Mode.VECTOR, Mode.SIMILAR):
            raise EmbedderUnavailable(search.mode.name)
        hits, found = await self._search_all(reaches, search)
        onward = (skip + len(hits),) if found.more else ()
        return pb.SearchMemoriesResponse(
            hits=[to_proto_hit(hit, search, reach) for reach, hit in hits],
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

    async def _search_all(self, reaches: Sequence[Reach], search: Search) -> tuple[list[tuple[Reach, Hit]], Found]:
        """The hits of one page, each with the reach it came by; what is seen through a grant is on record first."""
        if len(reaches) == 1:
            found = await self._search_one(reaches[0], search)
            await self._grants.record(reaches[0], [hit.memory for hit in found.hits])
            return [(reaches[0], hit) for hit in found.hits], found
        query = search.query
        deep = replace(search, query=replace(query, skip=0, size=query.skip + query.size))
        each = [(reach, await self._search_one(reach, deep)) for reach in reaches]
        hits = [(reach, hit) for reach, found in each for hit in found.hits]
        hits.sort(key=lambda pair: pair[1].memory.name)
        hits.sort(key=lambda pair: (pair[1].score, pair[1].memory.update_time), reverse=True)
        page = hits[query.skip : query.skip + query.size]
        for reach in reaches:
            await self._grants.record(reach, [hit.memory for holder, hit in page if holder is reach])
        whole = replace(
            each[0][1],
            hits=tuple(hit for _, hit in page),
            more=len(hits) > query.skip + query.size or any(found.more for _, found in each),
            candidates=sum(found.candidates for _, found in each),
            vector_backlog=sum(found.vector_backlog for _, found in each),
        )
        return page, whole

    async def _search_one(self, reach: Reach, search: Search) -> Found:
        query = replace(search.query, selected=replace(search.query.selected, slices=reach.slices))
        # A grant to read is none to change the counters of use.
        return await self._store.search(reach.bot, query, record_use=search.record_use and not reach.is_lent)
