"""Attach, and the calls of workers that cannot stream."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial

from chassis.delegation import Delegation
from chassis.errors import AppError, field_invalid
from chassis.identity import Caller, caller
from chassis.resource_names import parse_bot, parse_worker
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import part_pb2
from router_service.bots import Bots
from router_service.convert.drafts import DraftReader
from router_service.convert.refusals import fill_refusal
from router_service.convert.settlements import (
    from_completion,
    from_failure,
    from_step,
    to_settlement,
    to_step_receipt,
)
from router_service.convert.times import set_span, set_time, span_us
from router_service.convert.turns import check_turns, next_turn
from router_service.delivery.attachments import Attachment
from router_service.delivery.dispatcher import Dispatcher, Hello
from router_service.delivery.live import LiveLease
from router_service.domain import limits
from router_service.domain.errors import CallerNotAllowed, HelloRequired, MessageNotFound
from router_service.domain.mail import NewMessage
from router_service.domain.policy import Action
from router_service.servicer.access import check_holder, check_worker
from router_service.servicer.guarding import Guard
from router_service.store import messages
from router_service.store.items import Begin, Extend, Settle
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket

_PULL_LINGER_S = 2.0

_log = logging.getLogger(__name__)


class Attaching:
    """Talks to workers."""

    def __init__(
        self,
        store: RouterStore,
        dispatcher: Dispatcher,
        reader: DraftReader,
        bots: Bots,
        guard: Guard,
        delegation: Delegation,
        *,
        lease_us: int,
        max_turns: int,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._reader = reader
        self._bots = bots
        self._guard = guard
        self._delegation = delegation
        self._lease_us = lease_us
        self._max_turns = max_turns

    async def stream(
        self, requests: AsyncIterator[router_service_pb2.AttachRequest], who: Caller
    ) -> AsyncGenerator[router_service_pb2.AttachResponse, None]:
        frames = aiter(requests)
        first = await anext(frames, None)
        if first is None or not first.HasField("hello"):
            raise HelloRequired
        hello = _hello(first.hello)
        check_worker(who, hello.worker, hello.bots)
        await self._check_served(who, hello.bots)
        attachment, confirmed = await self._dispatcher.attach(hello)
        reading = asyncio.create_task(self._read(attachment, first, frames))
        try:
            yield self._welcome(hello, confirmed)
            async for frame in attachment.frames():
                yield frame
        finally:
            # First, because a second cancellation may come while the reader is awaited.
            self._dispatcher.detach(attachment)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def pull(
        self, request: router_service_pb2.PullDeliveriesRequest, who: Caller
    ) -> router_service_pb2.PullDeliveriesResponse:
        worker, bots = _worker(request.worker, "worker"), _bots(request.bots, "bots")
        check_worker(who, worker, bots)
        await self._check_served(who, bots)
        if request.max_deliveries < 0:
            raise field_invalid("max_deliveries", "must not be negative")
        most = min(request.max_deliveries or 1, limits.MAX_PULL)
        wait_us = span_us(request.wait, "wait", maximum_s=limits.MAX_PULL_WAIT_S)
        await self._bots.refresh(bots)
        attachment = self._dispatcher.attach_pull(worker, bots, most)
        try:
            await self._dispatcher.look_for_mail(bots)
            deliveries = await attachment.pull(most, wait_us / 1e6, _PULL_LINGER_S)
        finally:
            self._dispatcher.detach(attachment)
        return router_service_pb2.PullDeliveriesResponse(deliveries=deliveries)

    async def complete(self, completion: message_pb2.Completion) -> message_pb2.Settlement:
        return await self._settle(await self._completion(completion, None))

    async def fail(self, failure: message_pb2.Failure) -> message_pb2.Settlement:
        session = await self._session_of(failure.run)
        return await self._settle(from_failure(failure, session, 0))

    async def extend(
        self, request: router_service_pb2.ExtendDeliveryRequest
    ) -> router_service_pb2.ExtendDeliveryResponse:
        item = await self._extension(request.extension)
        steps = [from_step(step, item.session, 0) for step in request.steps]
        for step in steps:
            if step.run != item.run:
                raise field_invalid("steps.run", "must be the run of the extension")
        ticket = item.ticket = Ticket(1 + len(steps))
        self._store.mail.post(item)
        for step in steps:
            step.ticket = ticket
            self._store.mail.post(step)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        response = router_service_pb2.ExtendDeliveryResponse(
            cancel_requested=item.cancel_requested, step_receipts=[to_step_receipt(step) for step in steps]
        )
        set_time(response.lease_expire_time, item.expire_us)
        return response

    async def _check_served(self, who: Caller, bots: frozenset[str]) -> None:
        """A worker with a token of its own gets the mail of the bots that the registry says it serves."""
        for bot in sorted(bots) if who.worker else ():
            if not await self._delegation.serves(who.worker, bot):
                raise CallerNotAllowed(
                    f"{who.worker} does not serve {bot}", metadata={"principal": who.principal, "bot": bot}
                )

    async def _read(
        self,
        attachment: Attachment,
        first: router_service_pb2.AttachRequest,
        frames: AsyncIterator[router_service_pb2.AttachRequest],
    ) -> None:
        """Takes what the worker says, until it says no more; an error ends the stream with that error."""
        try:
            await self._take(attachment, first)
            async for frame in frames:
                if frame.HasField("hello"):
                    raise HelloRequired
                await self._take(attachment, frame)
        except AppError as error:
            attachment.close(error)
        else:
            attachment.close()

    async def _take(self, attachment: Attachment, frame: router_service_pb2.AttachRequest) -> None:
        if frame.credit:
            attachment.grow(frame.credit)
        if frame.bots:
            bots = _bots(frame.bots, "bots")
            check_worker(caller(), attachment.worker, bots)
            await self._check_served(caller(), bots)
            await self._bots.refresh(bots)
            self._dispatcher.change_bots(attachment, bots)
            await self._dispatcher.look_for_mail(bots)
        for held in frame.begun:
            live = self._dispatcher.find(held.run)
            if live is not None:
                self._store.mail.post(Begin(session=live.lease.session, run=held.run, epoch=held.epoch))
                continue
            join = self._dispatcher.take_in(attachment, held.run, held.epoch)
            if join is None:
                found = await self._store.read(partial(messages.find_run, run=held.run))
                join = found and self._dispatcher.take_in_stored(attachment, found[1], found[0], held.epoch)
            if join is not None:
                self._store.mail.post(join)
        for step in frame.steps:
            await self._post_step(step, attachment)
        for extension in frame.extensions:
            await self._guarded(attachment, extension.run, extension.epoch, partial(self._post_extension, extension))
        for completion in frame.completions:
            await self._guarded(
                attachment, completion.run, completion.epoch, partial(self._post_completion, completion, attachment)
            )
        for failure in frame.failures:
            await self._guarded(
                attachment, failure.run, failure.epoch, partial(self._post_failure, failure, attachment)
            )
        if frame.drain:
            self._dispatcher.drain(attachment)
        if frame.credit:
            self._dispatcher.pump()

    async def _post_step(self, step: message_pb2.RunStep, attachment: Attachment) -> None:
        try:
            session = await self._session_of(step.run)
            self._store.mail.post(from_step(step, session, attachment.number))
        except AppError as error:  # the refusal of this one step
            receipt = message_pb2.StepReceipt(run=step.run, epoch=step.epoch, step=step.step)
            fill_refusal(receipt.refusal, error)
            attachment.remembered(receipt)

    async def _guarded(self, attachment: Attachment, run: str, epoch: int, post: Callable[[], Awaitable[None]]) -> None:
        """Answers a bad item with a refusal of its own; the stream and its other items go on."""
        try:
            await post()
        except AppError as error:
            refused = Settle(session="", run=run, epoch=epoch, succeeded=False, refusal=error)
            attachment.settled(to_settlement(refused))

    async def _post_completion(self, completion: message_pb2.Completion, attachment: Attachment) -> None:
        self._dispatcher.settle(await self._completion(completion, attachment), attachment)

    async def _post_failure(self, failure: message_pb2.Failure, attachment: Attachment) -> None:
        session = await self._session_of(failure.run)
        self._dispatcher.settle(from_failure(failure, session, attachment.number), attachment)

    async def _post_extension(self, extension: message_pb2.Extension) -> None:
        self._store.mail.post(await self._extension(extension))

    async def _settle(self, item: Settle) -> message_pb2.Settlement:
        ticket = item.ticket = Ticket()
        self._dispatcher.settle(item, None)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        return to_settlement(item)

    async def _completion(self, completion: message_pb2.Completion, attachment: Attachment | None) -> Settle:
        session = await self._session_of(completion.run)
        item = from_completion(completion, session, attachment.number if attachment is not None else 0)
        if completion.reply or completion.outbox:
            await self._add_mail(item, completion)
        return item

    async def _add_mail(self, item: Settle, completion: message_pb2.Completion) -> None:
        live = self._dispatcher.find(item.run)
        parts = () if completion.stop_reason == limits.SKIP else completion.reply
        if live is not None and live.plain and not completion.outbox:
            message_id, original = live.lease.message_id, message_pb2.MessageDraft(session=item.session)
        else:
            message_id, original = await self._original(item.run)
        reply = self._reader.reply(original, message_id, item.run, parts)
        if live is None or live.joined is None or live.joined:
            item.joined_replies = await self._joined_replies(item.run, live, parts)
        if completion.outbox:
            item.outbox = await self._outbox(item, original, completion)
        if reply is not None:
            item.reply = reply.message
            # Last, because room that is set aside must be carried by an item that is posted.
            item.reply_offer = self._dispatcher.offer(reply.message.session, reply.message.bot)

    async def _outbox(
        self, item: Settle, original: message_pb2.MessageDraft, completion: message_pb2.Completion
    ) -> tuple[NewMessage, ...]:
        if len(completion.outbox) > limits.MAX_OUTBOX:
            raise field_invalid("completion.outbox", f"must hold at most {limits.MAX_OUTBOX} messages")
        bot = item.session[: item.session.index("/sessions/")]
        sender = Caller(principal=bot, root=False, actor=bot)
        mail: list[NewMessage] = []
        for number, given in enumerate(completion.outbox):
            draft = message_pb2.MessageDraft()
            draft.CopyFrom(given)
            draft.source = given.source or item.session
            draft.hop_count = max(given.hop_count, original.hop_count + 1)
            if given.WhichOneof("destination") == "session":
                draft.turn_count = next_turn(original, draft.source, given.session)
            check_turns(draft.turn_count, self._max_turns)
            checked = self._reader.read(
                draft, sender, field=f"completion.outbox[{number}]", internal_key=f"outbox/{item.run}/{number}"
            )
            await self._bots.require(checked.message.bot)
            await self._guard.require(sender, Action.SEND, checked.message.session)
            checked.message.internal = True
            mail.append(checked.message)
        return tuple(mail)

    async def _joined_replies(
        self, run: str, live: LiveLease | None, parts: Sequence[part_pb2.Part]
    ) -> tuple[tuple[str, NewMessage], ...]:
        """Answers to the messages that the turn took in: each to its own sender."""
        if live is not None and live.joined is not None:
            joined = [(message_id, its_run, draft) for message_id, (its_run, draft) in live.joined.items()]
        else:
            stored = await self._store.read(partial(messages.joined_messages, run=run))
            joined = [(m, its_run, message_pb2.MessageDraft.FromString(draft)) for m, its_run, draft in stored]
        replies = [(m, self._reader.reply(draft, m, its_run, parts)) for m, its_run, draft in joined]
        return tuple((message_id, reply.message) for message_id, reply in replies if reply is not None)

    async def _original(self, run: str) -> tuple[str, message_pb2.MessageDraft]:
        stored = await self._store.read(partial(messages.find_message, run=run))
        if stored is None:
            raise MessageNotFound(run)
        return stored.row["id"], message_pb2.MessageDraft.FromString(stored.row["draft"])

    async def _session_of(self, run: str) -> str:
        """The session of a run that the caller may speak about."""
        who = caller()
        live = self._dispatcher.find(run)
        if live is not None:
            if who.actor != who.principal or not who.root:
                check_holder(who, live.lease.session, live.lease.worker, run)
            return live.lease.session
        found = await self._store.read(partial(messages.find_message, run=run))
        if found is None:
            raise MessageNotFound(run)
        check_holder(who, found.row["session"], found.row["worker"] or "", run)
        return str(found.row["session"])

    async def _extension(self, extension: message_pb2.Extension) -> Extend:
        lease_us = span_us(extension.lease_duration, "extension.lease_duration", maximum_s=limits.MAX_LEASE_S)
        session = await self._session_of(extension.run)
        return Extend(session=session, run=extension.run, epoch=extension.epoch, lease_us=lease_us or self._lease_us)

    def _welcome(self, hello: Hello, confirmed: list[tuple[str, int]]) -> router_service_pb2.AttachResponse:
        frame = router_service_pb2.AttachResponse()
        set_span(frame.welcome.lease_duration, self._lease_us)
        for run, epoch in confirmed:
            frame.welcome.confirmed_leases.add(run=run, epoch=epoch)
        for run, epoch in sorted(hello.held.difference(confirmed)):
            frame.welcome.lost_leases.add(run=run, epoch=epoch)
        return frame


def _hello(hello: router_service_pb2.AttachHello) -> Hello:
    if not 1 <= hello.credit <= limits.MAX_CREDIT:
        raise field_invalid("hello.credit", f"must be from 1 to {limits.MAX_CREDIT}", value=str(hello.credit))
    if hello.contract_version not in ("", "v1"):
        raise field_invalid("hello.contract_version", "must be v1", value=hello.contract_version)
    return Hello(
        worker=_worker(hello.worker, "hello.worker"),
        bots=_bots(hello.bots, "hello.bots"),
        credit=hello.credit,
        held=frozenset((held.run, held.epoch) for held in hello.held_leases),
    )


def _worker(name: str, field: str) -> str:
    parse_worker(name, field=field)
    return name


def _bots(names: Iterable[str], field: str) -> frozenset[str]:
    bots = frozenset(names)
    if not 1 <= len(bots) <= limits.MAX_BOTS:
        raise field_invalid(field, f"must name 1 to {limits.MAX_BOTS} bots")
    for bot in bots:
        parse_bot(bot, field=field)
    return bots
