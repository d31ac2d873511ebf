"""Looking at messages and mailboxes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from chassis.errors import field_invalid
from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue, clamp_page_size
from chassis.resource_names import parse_bot, parse_session
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.filters import message_id_of, query_of
from router_service.convert.messages import to_proto_message, to_proto_stats
from router_service.convert.times import span_us
from router_service.delivery.dispatcher import Dispatcher
from router_service.domain import limits
from router_service.domain.state import TERMINAL, WAITING, MessageState
from router_service.servicer.access import check_message, check_session, own_bot
from router_service.servicer.guarding import Guard
from router_service.servicer.waiting import Waiting
from router_service.store import messages
from router_service.store.messages import MessageQuery
from router_service.store.router_store import RouterStore

_PAGE = 100
_MAX_PAGE = 1_000
_BATCH = 500

Response = TypeVar("Response", bound=Message)


# Gives the token of a watch that begins now, for a filter and what the caller may see of it.
AsOf = Callable[[router_service_pb2.MessageFilter, MessageQuery], Awaitable[str]]


class Mailboxes:
    """What operators and clients ask about mail that was accepted."""

    def __init__(
        self,
        store: RouterStore,
        dispatcher: Dispatcher,
        waiting: Waiting,
        guard: Guard,
        tokens: PageTokens,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._waiting = waiting
        self._guard = guard
        self._tokens = tokens

    async def get(self, request: router_service_pb2.GetMessageRequest, caller: Caller) -> message_pb2.Message:
        kind = request.WhichOneof("reference")
        if kind is None:
            raise field_invalid("reference", "must be set: a name or a run")
        if kind == "name":
            stored = await self._waiting.find(message_id=message_id_of(request.name, "name"))
        else:
            stored = await self._waiting.find(run=request.run)
        if stored.row["sender"] != caller.actor:
            await self._guard.require_read(caller, stored.row["session"], request.name or request.run)
        return to_proto_message(stored, with_reply=True)

    async def list_messages(
        self, request: router_service_pb2.ListMessagesRequest, caller: Caller, as_of: AsOf
    ) -> router_service_pb2.ListMessagesResponse:
        query = await self.visible(query_of(request.filter, caller), caller)
        token_as_of = await as_of(request.filter, query)
        if query.session and await self._nothing_waits(query):
            return router_service_pb2.ListMessagesResponse(as_of=token_as_of)
        found, token = await self._page(
            query, request.filter, request.page_size, request.page_token, ascending=request.ascending
        )
        return router_service_pb2.ListMessagesResponse(messages=found, next_page_token=token, as_of=token_as_of)

    async def list_dead_letters(
        self, request: router_service_pb2.ListDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.ListDeadLettersResponse:
        query = query_of(request.filter, caller, states=(MessageState.DEAD_LETTERED,))
        query = await self.visible(query, caller)
        found, token = await self._page(query, request.filter, request.page_size, request.page_token, ascending=False)
        return router_service_pb2.ListDeadLettersResponse(messages=found, next_page_token=token)

    async def visible(self, query: MessageQuery, caller: Caller) -> MessageQuery:
        """Widens a bot's look to another bot that it names, where the policy opens that one to it."""
        target = query.session or query.bot
        if query.visible_to and target and await self._guard.may_read(caller, target):
            return replace(query, visible_to="")
        return query

    async def wait(
        self, request: router_service_pb2.WaitRunRequest, caller: Caller
    ) -> router_service_pb2.WaitRunResponse:
        if not request.run:
            raise field_invalid("run", "must be set")
        wait_us = span_us(request.timeout, "timeout", maximum_s=limits.MAX_WAIT_S)
        timeout_s = wait_us / 1e6 if request.HasField("timeout") and wait_us else limits.DEFAULT_WAIT_S
        event = self._waiting.watch(request.run)
        try:
            stored = await self._waiting.find(run=request.run)
            check_message(caller, stored.row["session"], stored.row["sender"], request.run)
            ended = await self._waiting.until_ended(request.run, event, timeout_s)
        finally:
            self._waiting.unwatch(request.run, event)
        if ended is not None:
            return router_service_pb2.WaitRunResponse(message=ended, done=True)
        stored = await self._waiting.find(run=request.run)
        return router_service_pb2.WaitRunResponse(
            message=to_proto_message(stored, with_reply=True), done=stored.row["state"] in TERMINAL
        )

    async def stats(
        self, request: router_service_pb2.GetMailboxStatsRequest, caller: Caller
    ) -> router_service_pb2.GetMailboxStatsResponse:
        own = own_bot(caller)
        if request.session:
            parse_session(request.session, field="session")
            check_session(caller, request.session, request.session)
        if request.bot:
            parse_bot(request.bot, field="bot")
        bot = request.bot
        if own and not request.session:
            if bot not in ("", own):
                return router_service_pb2.GetMailboxStatsResponse()
            bot = own
        found = await self._store.read(partial(messages.mailbox_stats, session=request.session, bot=bot))
        response = router_service_pb2.GetMailboxStatsResponse()
        for stats in found:
            response.mailboxes.append(to_proto_stats(stats, workers=self._dispatcher.room.worker_count(stats.bot)))
        return response

    async def _nothing_waits(self, query: MessageQuery) -> bool:
        """Whether only waiting messages are asked for, and there are none.

        Clients ask so whenever they show a session; to look through its messages would take longer with each one.
        """
        if not query.states or not WAITING.issuperset(query.states):
            return False
        return not await self._store.glance(partial(messages.anything_waits, session=query.session))

    async def _page(
        self, query: MessageQuery, given: message_pb2.Message | Message, size: int, token: str, *, ascending: bool
    ) -> tuple[list[message_pb2.Message], str]:
        limit = clamp_page_size(size, default=_PAGE, maximum=_MAX_PAGE)
        bound: dict[str, QueryValue] = {
            "filter": given.SerializeToString(deterministic=True).hex(),
            "ascending": ascending,
            "states": ",".join(map(str, query.states)),
            "visible_to": query.visible_to,
        }
        after = str(self._tokens.decode(bound, token)[0]) if token else ""
        found = await self._store.read(
            partial(messages.list_messages, query=query, after=after, limit=limit + 1, ascending=ascending)
        )
        more = len(found) > limit
        page = found[:limit]
        return (
            [to_proto_message(stored) for stored in page],
            self._tokens.encode(bound, (page[-1].row["id"],)) if more else "",
        )
