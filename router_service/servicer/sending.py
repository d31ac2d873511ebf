"""SendMessage, Send and AskMessage."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial

from chassis.errors import AppError, Draining
from chassis.identity import Caller
from chassis.open_streams import FrameQueue, OpenStreams
from chassis.telemetry import CURRENT_TRACEPARENT
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.bots import Bots
from router_service.convert.drafts import CheckedDraft, DraftReader
from router_service.convert.messages import fill_receipt
from router_service.convert.publications import read_publication
from router_service.convert.refusals import fill_refusal
from router_service.convert.times import span_us
from router_service.delivery.dispatcher import Dispatcher
from router_service.domain.errors import ReplyTimeout
from router_service.domain.limits import DEFAULT_WAIT_S, MAX_WAIT_S
from router_service.domain.policy import Action
from router_service.servicer.exchange import Exchange
from router_service.servicer.guarding import Guard
from router_service.servicer.waiting import Waiting
from router_service.store.fan_items import Publish
from router_service.store.items import Send, StopAsking
from router_service.store.ticket import Ticket

# Outcomes in one frame; more that are ready wait for the next one.
_MAX_OUTCOMES = 1_024


@dataclass(slots=True, eq=False)
class _Frame:
    """The messages of one frame: items that were posted, or why they were not."""

    first_number: int
    items: list[Send | Publish | AppError]
    ticket: Ticket


class Sending:
    """Accepts mail. `window` is how many messages a stream may have unanswered."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        reader: DraftReader,
        bots: Bots,
        guard: Guard,
        waiting: Waiting,
        exchange: Exchange,
        *,
        window: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._reader = reader
        self._bots = bots
        self._guard = guard
        self._waiting = waiting
        self._exchange = exchange
        self._window = window
        self._streams = OpenStreams()

    def drain(self) -> None:
        """Ends the streams when what they sent so far is answered."""
        self._streams.drain()

    async def send_one(self, draft: message_pb2.MessageDraft, caller: Caller) -> message_pb2.Receipt:
        if draft.in_reply_to or draft.turn_count:
            draft = await self._exchange.counted(draft, caller)
        checked = self._reader.read(draft, caller, traceparent=CURRENT_TRACEPARENT.get())
        if not self._takes_mail(checked.message.bot):
            await self._bots.require(checked.message.bot)
        await self._guard.require(caller, Action.SEND, checked.message.session)
        item = await self._post(checked)
        receipt = message_pb2.Receipt()
        fill_receipt(receipt, item)
        return receipt

    async def ask(
        self, request: router_service_pb2.AskMessageRequest, caller: Caller
    ) -> router_service_pb2.AskMessageResponse:
        """Sends and waits; nobody who asked gets the reply as mail too, unless the wait was given up first."""
        wait_us = span_us(request.timeout, "timeout", maximum_s=MAX_WAIT_S) or int(DEFAULT_WAIT_S * 1e6)
        draft = message_pb2.MessageDraft()
        draft.CopyFrom(request.message)
        draft.reply_to = draft.reply_to or draft.source or caller.actor
        draft = await self._exchange.counted(draft, caller)
        checked = self._reader.read(draft, caller, traceparent=CURRENT_TRACEPARENT.get())
        await self._bots.require(checked.message.bot)
        await self._guard.require(caller, Action.SEND, checked.message.session)
        checked.message.ask_until_us = self._waiting.now_us() + wait_us + 1_000_000
        event = self._waiting.watch(checked.message.run)
        answered = True
        try:
            item = await self._post(checked)
            answered = False
            found = await self._waiting.until_ended(item.run, event, wait_us / 1e6)
            if found is None:
                stop = StopAsking(session=item.session, message_id=item.id, ticket=Ticket())
                answered = True
                self._waiting.post(stop)
                await self._wait(stop.ticket)
                found = await self._waiting.until_ended(item.run, event, 0.0)
            if found is None:
                raise ReplyTimeout(item.run)
            answered = True
        finally:
            self._waiting.unwatch(checked.message.run, event)
            if not answered:  # the caller went away
                self._waiting.post(StopAsking(session=checked.message.session, message_id=checked.message.id))
        response = router_service_pb2.AskMessageResponse(message=found)
        fill_receipt(response.receipt, item)
        return response

    async def stream(
        self, requests: AsyncIterator[router_service_pb2.SendRequest], caller: Caller
    ) -> AsyncGenerator[router_service_pb2.SendResponse, None]:
        """Outcomes in order; the first frame gives the window as credit, each outcome gives its place in it back."""
        room = _Room(2 * self._window)
        async with self._streams.read(partial(self._read_frames, requests, caller, room)) as frames:
            yield router_service_pb2.SendResponse(credit=self._window)
            while (frame := await frames.next()) is not None:
                response = router_service_pb2.SendResponse()
                await self._answer(frame, response)
                while len(response.outcomes) < _MAX_OUTCOMES and (following := frames.take()) is not None:
                    await self._answer(following, response)
                response.credit = len(response.outcomes)
                room.give(len(response.outcomes))
                yield response

    async def _read_frames(
        self,
        requests: AsyncIterator[router_service_pb2.SendRequest],
        caller: Caller,
        room: "_Room",
        frames: FrameQueue[_Frame],
    ) -> None:
        traceparent = CURRENT_TRACEPARENT.get()
        async for request in requests:
            if frames.ended:
                raise Draining
            drafts = request.messages
            if not drafts:  # asks for the credit, which the stream began with; it would take a place in no bound
                continue
            await room.take(len(drafts))
            items: list[Send | Publish | AppError] = []
            accepted: list[Send | Publish] = []
            for draft in drafts:
                item = await self._checked(draft, caller, traceparent)
                items.append(item)
                if not isinstance(item, AppError):
                    accepted.append(item)
            ticket = Ticket(len(accepted))
            for item in accepted:
                item.ticket = ticket
                if isinstance(item, Publish):
                    self._waiting.post(item)
                else:
                    self._dispatcher.send(item)
            frames.put(_Frame(request.first_number, items, ticket))

    async def _checked(
        self, draft: message_pb2.MessageDraft, caller: Caller, traceparent: str
    ) -> Send | Publish | AppError:
        try:
            if draft.topic:
                return read_publication(self._reader, draft, caller, traceparent=traceparent)
            if draft.in_reply_to or draft.turn_count:
                draft = await self._exchange.counted(draft, caller)
            checked = self._reader.read(draft, caller, traceparent=traceparent)
            if not self._takes_mail(checked.message.bot):
                await self._bots.require(checked.message.bot)
            if caller.actor.startswith("bots/"):  # asked for each message, and most are not a bot's
                await self._guard.require(caller, Action.SEND, checked.message.session)
        except AppError as error:  # the refusal of this one message, which does not hinder the others
            return error
        return Send(message=checked.message, draft=checked.draft)

    async def _answer(self, frame: _Frame, response: router_service_pb2.SendResponse) -> None:
        failure: AppError | None = None
        try:
            await frame.ticket.wait()
        except AppError as error:
            failure = error
        for number, item in enumerate(frame.items, frame.first_number):
            outcome = response.outcomes.add()
            outcome.number = number
            if isinstance(item, AppError):
                fill_refusal(outcome.refusal, item)
                continue
            refusal = failure or item.refusal
            if refusal is not None:
                fill_refusal(outcome.refusal, refusal)
            else:
                fill_receipt(outcome.receipt, item)

    async def _post(self, checked: CheckedDraft) -> Send:
        ticket = Ticket()
        item = Send(message=checked.message, draft=checked.draft, ticket=ticket)
        self._dispatcher.send(item)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        return item

    def _takes_mail(self, bot: str) -> bool:
        info = self._bots.fresh(bot)
        return info is not None and not info.deleted

    async def _wait(self, ticket: Ticket | None) -> None:
        if ticket is not None:
            await ticket.wait()


class _Room:
    """Places for messages that were read and are not answered: a caller that ignores its credit is read more slowly."""

    def __init__(self, places: int) -> None:
        self._left = places
        self._bell = asyncio.Event()

    async def take(self, count: int) -> None:
        while self._left <= 0:
            self._bell.clear()
            await self._bell.wait()
        self._left -= count

    def give(self, count: int) -> None:
        self._left += count
        self._bell.set()
