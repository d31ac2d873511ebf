"""The calls that find and count: search and usage."""

# ruff: noqa: ARG002 - gRPC gives every method a context

from functools import partial

from chassis.identity import bot_of, caller
from chassis.paging import clamp_page_size
from chassis.resource_names import parse_bot
from mobot.session.v1 import session_service_pb2
from session_service.convert import queries, reports
from session_service.convert.derived import derive
from session_service.domain.errors import BotNotFound
from session_service.servicer.calls import Calls
from session_service.store import searching, usage


class ReportCalls(Calls):
    """Search, usage."""

    async def SearchEvents(
        self, request: session_service_pb2.SearchEventsRequest, context: object
    ) -> session_service_pb2.SearchEventsResponse:
        what = reports.from_proto_search(request)
        own_bot = bot_of(caller())
        if own_bot is not None:
            given = what.sessions.bots
            bots = [own_bot] if given is None or own_bot in given else []
            what = what._replace(sessions=what.sessions._replace(bots=bots))
        query = queries.page_query(request, bot=own_bot, paging=("page_token", "page_size"))
        offset = int(self._page_tokens.decode(query, request.page_token)[0]) if request.page_token else 0
        size = clamp_page_size(request.page_size, default=25, maximum=100)
        page = await self._store.read(partial(searching.search, what=what, size=size, offset=offset))
        return session_service_pb2.SearchEventsResponse(
            hits=[reports.to_proto_hit(hit, what.words) for hit in page.hits],
            next_page_token=self._page_tokens.encode(query, (offset + len(page.hits),)) if page.more else "",
            backlog_count=page.backlog,
        )

    async def GetSessionUsage(
        self, request: session_service_pb2.GetSessionUsageRequest, context: object
    ) -> session_service_pb2.GetSessionUsageResponse:
        name = self._visible(request.name)
        days = reports.from_proto_days(request)
        report = await self._store.read(partial(usage.session_usage, name=name, days=days, derive=derive))
        return reports.to_proto_session_usage(report)

    async def GetUsageSummary(
        self, request: session_service_pb2.GetUsageSummaryRequest, context: object
    ) -> session_service_pb2.GetUsageSummaryResponse:
        bot = parse_bot(request.bot, field="bot") if request.bot else None
        own_bot = bot_of(caller())
        if own_bot is not None and bot not in (None, own_bot):
            raise BotNotFound(f"bots/{bot}")
        bot = own_bot or bot
        days = reports.from_proto_days(request)
        bots = None if bot is None else [bot]
        report = await self._store.read(partial(usage.usage_summary, bots=bots, days=days, derive=derive))
        return reports.to_proto_usage_summary(report)
