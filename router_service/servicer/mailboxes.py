"""Looking at messages and mailboxes, cancelling, and dead letters."""

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from chassis import idempotency
from chassis.clock import Clock
from chassis.errors import InvalidArgument, field_invalid
from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue, clamp_page_size
from chassis.resource_names import parse_bot, parse_session
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.drafts import DraftReader, check_text
from router_service.convert.messages import to_proto_message, to_proto_stats
from router_service.convert.times import span_us, to_us
from router_service.delivery.dispatcher import Dispatcher
from router_service.domain import limits
from router_service.domain.errors import NotDeadLettered
from router_service.domain.state import LIVE, TERMINAL, WAITING, MessageState
from router_service.servicer.access import check_message, check_operator, check_session, own_bot
from router_service.servicer.waiting import Waiting
from router_service.store import reads
from router_service.store.items import Cancel, GiveUp
from router_service.store.reads import MessageQuery
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket

_PAGE = 100
_MAX_PAGE = 1_000
_MAX_CANCELLED = 10_000
_BATCH = 500

Response = TypeVar("Response", bound=Message)


class Mailboxes:
    """What operators and clients ask about mail that was accepted."""

    def __init__(
        self,
        store: RouterStore,
        dispatcher: Dispatcher,
        reader: DraftReader,
        waiting: Waiting,
        clock: Clock,
        tokens: PageTokens,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._reader = reader
        self._waiting = waiting
        self._clock = clock
        self._tokens = tokens

    async def get(self, request: router_service_pb2.GetMessageRequest, caller: Caller) -> message_pb2.Message:
        kind = request.WhichOneof("reference")
        if kind is None:
            raise field_invalid("reference", "must be set: a name or a run")
        if kind == "name":
            stored = await self._waiting.find(message_id=_message_id(request.name, "name"))
        else:
            stored = await self._waiting.find(run=request.run)
        check_message(caller, stored.row["session"], stored.row["sender"], request.name or request.run)
        return to_proto_message(stored, with_reply=True)

    async def list_messages(
        self, request: router_service_pb2.ListMessagesRequest, caller: Caller
    ) -> router_service_pb2.ListMessagesResponse:
        query = _query(request.filter, caller)
        messages, token = await self._page(
            query, request.filter, request.page_size, request.page_token, ascending=request.ascending
        )
        return router_service_pb2.ListMessagesResponse(messages=messages, next_page_token=token)

    async def list_dead_letters(
        self, request: router_service_pb2.ListDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.ListDeadLettersResponse:
        query = _query(request.filter, caller, states=(MessageState.DEAD_LETTERED,))
        messages, token = await self._page(
            query, request.filter, request.page_size, request.page_token, ascending=False
        )
        return router_service_pb2.ListDeadLettersResponse(messages=messages, next_page_token=token)

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

    async def cancel(
        self, request: router_service_pb2.CancelRunRequest, caller: Caller
    ) -> router_service_pb2.CancelRunResponse:
        remembered = await self._remembered(request, caller, router_service_pb2.CancelRunResponse)
        if remembered is not None:
            return remembered
        if request.reason:
            check_text(request.reason, "reason", limits.MAX_REASON)
        targets = await self._targets(request, caller)
        ticket = Ticket(len(targets))
        items = [
            Cancel(session=session, message_id=message_id, reason=request.reason or "cancelled", ticket=ticket)
            for message_id, _, session in targets
        ]
        for item in items:
            self._store.mail.post(item)
        await ticket.wait()
        response = router_service_pb2.CancelRunResponse(
            cancelled_runs=[run for (_, run, _), item in zip(targets, items, strict=True) if item.done]
        )
        await self._remember(request, caller, response)
        return response

    async def redrive(
        self, request: router_service_pb2.RedriveDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.RedriveDeadLettersResponse:
        check_operator(caller)
        remembered = await self._remembered(request, caller, router_service_pb2.RedriveDeadLettersResponse)
        if remembered is not None:
            return remembered
        count = await self._give_up(request.messages, request.filter, caller, redrive=True)
        response = router_service_pb2.RedriveDeadLettersResponse(redriven_count=count)
        await self._remember(request, caller, response)
        return response

    async def discard(
        self, request: router_service_pb2.DiscardDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.DiscardDeadLettersResponse:
        check_operator(caller)
        remembered = await self._remembered(request, caller, router_service_pb2.DiscardDeadLettersResponse)
        if remembered is not None:
            return remembered
        count = await self._give_up(request.messages, request.filter, caller, redrive=False)
        response = router_service_pb2.DiscardDeadLettersResponse(discarded_count=count)
        await self._remember(request, caller, response)
        return response

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
        found = await self._store.read(partial(reads.mailbox_stats, session=request.session, bot=bot))
        response = router_service_pb2.GetMailboxStatsResponse()
        for stats in found:
            response.mailboxes.append(to_proto_stats(stats, workers=self._dispatcher.room.worker_count(stats.bot)))
        return response

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
            partial(reads.list_messages, query=query, after=after, limit=limit + 1, ascending=ascending)
        )
        more = len(found) > limit
        page = found[:limit]
        return (
            [to_proto_message(stored) for stored in page],
            self._tokens.encode(bound, (page[-1].row["id"],)) if more else "",
        )

    async def _targets(
        self, request: router_service_pb2.CancelRunRequest, caller: Caller
    ) -> Sequence[tuple[str, str, str]]:
        """(message id, run, session) of what shall be cancelled."""
        kind = request.WhichOneof("target")
        if kind == "run":
            stored = await self._waiting.find(run=request.run)
            check_message(caller, stored.row["session"], stored.row["sender"], request.run)
            return [(stored.row["id"], request.run, stored.row["session"])]
        if kind == "session":
            parse_session(request.session, field="session")
            check_session(caller, request.session, request.session)
            states = LIVE | WAITING if request.include_queued else LIVE
            query = MessageQuery(session=request.session, states=tuple(sorted(states)))
            return await self._store.read(partial(reads.select_ids, query=query, limit=_MAX_CANCELLED))
        raise field_invalid("target", "must be set: a run or a session")

    async def _give_up(
        self, names: Sequence[str], given: message_pb2.Message | Message, caller: Caller, *, redrive: bool
    ) -> int:
        if names:
            return await self._give_up_named(names, redrive=redrive)
        if not given.ByteSize():
            raise field_invalid("messages", "must name messages, or the filter must say which")
        if not isinstance(given, router_service_pb2.MessageFilter):
            raise field_invalid("filter", "must be a filter")
        query = _query(given, caller, states=(MessageState.DEAD_LETTERED,))
        done, after = 0, ""
        while page := await self._store.read(partial(reads.select_ids, query=query, limit=_BATCH, after=after)):
            ids = [message_id for message_id, _, _ in page]
            done += sum(item.refusal is None for item in await self._post_give_up(ids, redrive=redrive))
            after = ids[-1]
        return done

    async def _give_up_named(self, names: Sequence[str], *, redrive: bool) -> int:
        if len(names) > limits.MAX_NAMED_MESSAGES:
            raise field_invalid("messages", f"must name at most {limits.MAX_NAMED_MESSAGES} messages")
        ids = list(dict.fromkeys(_message_id(name, f"messages[{number}]") for number, name in enumerate(names)))
        for message_id in ids:
            stored = await self._waiting.find(message_id=message_id)
            if stored.row["state"] != MessageState.DEAD_LETTERED:
                raise NotDeadLettered(message_id)
        return sum(item.refusal is None for item in await self._post_give_up(ids, redrive=redrive))

    async def _post_give_up(self, ids: Sequence[str], *, redrive: bool) -> list[GiveUp]:
        items: list[GiveUp] = []
        ticket = Ticket(len(ids))
        for message_id in ids:
            stored = await self._waiting.find(message_id=message_id)
            row = stored.row
            successor = None
            if redrive:
                successor = self._reader.redriven(
                    row["draft"],
                    origin_id=row["origin_id"] or row["id"],
                    origin_run=row["origin_run"] or row["run"],
                    sender=row["sender"],
                )
            items.append(GiveUp(session=row["session"], message_id=message_id, successor=successor, ticket=ticket))
        for item in items:
            if item.successor is not None:
                item.offer = self._dispatcher.offer(item.session, item.successor.bot)
            self._store.mail.post(item)
        await ticket.wait()
        return items

    async def _remembered(self, request: Message, caller: Caller, kind: type[Response]) -> Response | None:
        request_id: str = getattr(request, "request_id", "")
        if not request_id:
            return None
        response = await self._store.read(
            partial(
                idempotency.find,
                table=self._store.ledger,
                principal=caller.actor,
                method=kind.DESCRIPTOR.name,
                request_id=request_id,
                fingerprint=idempotency.fingerprint(request),
            )
        )
        return None if response is None else kind.FromString(response)

    async def _remember(self, request: Message, caller: Caller, response: Message) -> None:
        request_id: str = getattr(request, "request_id", "")
        if request_id:
            await self._store.write(
                partial(
                    idempotency.remember,
                    table=self._store.ledger,
                    principal=caller.actor,
                    method=response.DESCRIPTOR.name,
                    request_id=request_id,
                    fingerprint=idempotency.fingerprint(request),
                    response=response.SerializeToString(),
                    now=self._clock.now(),
                )
            )


def _message_id(name: str, field: str) -> str:
    prefix, _, message_id = name.partition("/")
    if prefix != "messages" or not message_id or "/" in message_id or len(message_id) > 64:
        raise InvalidArgument(
            f"{field}: must look like messages/{{message}}",
            reason="RESOURCE_NAME_INVALID",
            metadata={"field": field, "value": ascii(name[:80])},
        )
    return message_id


def _query(
    given: router_service_pb2.MessageFilter, caller: Caller, *, states: Sequence[MessageState] = ()
) -> MessageQuery:
    if given.session:
        parse_session(given.session, field="filter.session")
    if given.bot:
        parse_bot(given.bot, field="filter.bot")
    return MessageQuery(
        session=given.session,
        bot=given.bot,
        states=tuple(int(state) for state in (states or given.states)),
        source=given.source,
        correlation_id=given.correlation_id,
        start_us=to_us(given.start_time, "filter.start_time") if given.HasField("start_time") else 0,
        end_us=to_us(given.end_time, "filter.end_time") if given.HasField("end_time") else 0,
        visible_to=own_bot(caller),
    )
