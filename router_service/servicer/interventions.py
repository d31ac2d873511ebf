"""What people do to mail that was accepted: cancelling, deciding, and dead letters.

Each request is one item of the mail: its effects and the record of its request id are committed together or not at all.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message

from chassis import idempotency
from chassis.errors import field_invalid
from chassis.identity import Caller
from chassis.resource_names import parse_session
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.convert.drafts import DraftReader, check_text
from router_service.convert.filters import message_id_of, query_of
from router_service.convert.messages import to_proto_message
from router_service.delivery.dispatcher import Dispatcher
from router_service.domain import limits
from router_service.domain.errors import NoDecisionPending
from router_service.domain.state import LIVE, WAITING, MessageState
from router_service.servicer.access import check_message, check_operator, check_session
from router_service.servicer.guarding import Guard
from router_service.servicer.requests import key_of
from router_service.servicer.waiting import Waiting
from router_service.store import messages
from router_service.store.fan_items import Record
from router_service.store.items import Cancel, GiveUp, Item, Operation, Resolve
from router_service.store.messages import MessageQuery, StoredMessage
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket

Response = TypeVar("Response", bound=Message)


class Interventions:
    """Ends, brings back and decides."""

    def __init__(
        self, store: RouterStore, dispatcher: Dispatcher, reader: DraftReader, waiting: Waiting, guard: Guard
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._reader = reader
        self._waiting = waiting
        self._guard = guard

    async def cancel(
        self, request: router_service_pb2.CancelRunRequest, caller: Caller
    ) -> router_service_pb2.CancelRunResponse:
        if request.reason:
            check_text(request.reason, "reason", limits.MAX_REASON)
        remembered = await self._remembered(request, caller, router_service_pb2.CancelRunResponse)
        if remembered is not None:
            return remembered
        targets = await self._targets(request, caller)
        parts = [
            Cancel(session=session, message_id=message_id, reason=request.reason or "cancelled")
            for message_id, _, session in targets
        ]

        def conclude(_parts: Sequence[Item]) -> router_service_pb2.CancelRunResponse:
            done = [run for (_, run, _), part in zip(targets, parts, strict=True) if part.done]
            return router_service_pb2.CancelRunResponse(cancelled_runs=done)

        return await self._operate(request, caller, "cancel", parts, conclude)

    async def resolve(
        self, request: router_service_pb2.ResolveRunRequest, caller: Caller
    ) -> router_service_pb2.ResolveRunResponse:
        """Operators decide, and services for them; a bot does not decide about its own doubts."""
        check_operator(caller)
        if not request.run:
            raise field_invalid("run", "must be set")
        stored = await self._waiting.find(run=request.run)
        remembered = await self._remembered(request, caller, router_service_pb2.ResolveRunResponse)
        if remembered is None:
            await self._resolve(request, caller, stored)
            stored = await self._waiting.find(run=request.run)
        return router_service_pb2.ResolveRunResponse(message=to_proto_message(stored, with_reply=True))

    async def redrive(
        self, request: router_service_pb2.RedriveDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.RedriveDeadLettersResponse:
        kind = router_service_pb2.RedriveDeadLettersResponse
        check_operator(caller)
        remembered = await self._remembered(request, caller, kind)
        if remembered is not None:
            return remembered
        parts: list[GiveUp] = []
        for message_id in await self._dead_letters(request.messages, request.filter, caller):
            row = (await self._waiting.find(message_id=message_id)).row
            successor = self._reader.redriven(
                row["draft"],
                origin_id=row["origin_id"] or row["id"],
                origin_run=row["origin_run"] or row["run"],
                sender=row["sender"],
            )
            parts.append(GiveUp(session=row["session"], message_id=message_id, successor=successor))
        for part in parts:
            if part.successor is not None:
                # Last, because room that is set aside must be carried by an item that is posted.
                part.offer = self._dispatcher.offer(part.session, part.successor.bot)
        return await self._operate(
            request,
            caller,
            "redrive",
            parts,
            lambda done: kind(redriven_count=_count(done)),
            strict=bool(request.messages),
        )

    async def discard(
        self, request: router_service_pb2.DiscardDeadLettersRequest, caller: Caller
    ) -> router_service_pb2.DiscardDeadLettersResponse:
        kind = router_service_pb2.DiscardDeadLettersResponse
        check_operator(caller)
        remembered = await self._remembered(request, caller, kind)
        if remembered is not None:
            return remembered
        parts: list[GiveUp] = []
        for message_id in await self._dead_letters(request.messages, request.filter, caller):
            session = (await self._waiting.find(message_id=message_id)).row["session"]
            parts.append(GiveUp(session=session, message_id=message_id))
        return await self._operate(
            request,
            caller,
            "discard",
            parts,
            lambda done: kind(discarded_count=_count(done)),
            strict=bool(request.messages),
        )

    async def _resolve(
        self, request: router_service_pb2.ResolveRunRequest, caller: Caller, stored: StoredMessage
    ) -> None:
        given, row = request.decision, stored.row
        found = await self._store.read(partial(messages.find_question, message_id=row["id"]))
        if row["state"] != MessageState.NEEDS_DECISION or found is None:
            raise NoDecisionPending(request.run)
        asked_us, question = found
        decision = _decision(given, message_pb2.DecisionRequest.FromString(question), caller)
        part = Resolve(
            session=row["session"],
            message_id=row["id"],
            run=request.run,
            asked_us=asked_us,
            decision=decision.SerializeToString(),
            explanation=f"{caller.actor} decided: {decision.answer}"[: limits.MAX_ERROR_MESSAGE],
        )
        bot = part.session[: part.session.index("/sessions/")]
        part.offer = self._dispatcher.offer(part.session, bot)
        # The answer is the message as it is then; the record says only that it was given.
        await self._operate(request, caller, "resolve", [part], lambda _parts: router_service_pb2.ResolveRunResponse())

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
            states = LIVE | WAITING | {MessageState.NEEDS_DECISION} if request.include_queued else LIVE
            query = MessageQuery(session=request.session, states=tuple(sorted(states)))
            return await self._store.read(partial(messages.select_ids, query=query, limit=limits.MAX_AT_ONCE))
        raise field_invalid("target", "must be set: a run or a session")

    async def _dead_letters(
        self, names: Sequence[str], given: router_service_pb2.MessageFilter, caller: Caller
    ) -> Sequence[str]:
        """Ids of the messages that are named, or that fit the filter."""
        if names:
            if len(names) > limits.MAX_NAMED_MESSAGES:
                raise field_invalid("messages", f"must name at most {limits.MAX_NAMED_MESSAGES} messages")
            return list(dict.fromkeys(message_id_of(name, f"messages[{n}]") for n, name in enumerate(names)))
        if not given.ByteSize():
            raise field_invalid("messages", "must name messages, or the filter must say which")
        query = query_of(given, caller, states=(MessageState.DEAD_LETTERED,))
        found = await self._store.read(partial(messages.select_ids, query=query, limit=limits.MAX_AT_ONCE))
        return [message_id for message_id, _, _ in found]

    async def _operate(
        self,
        request: Message,
        caller: Caller,
        action: str,
        parts: Sequence[Cancel | GiveUp | Resolve],
        conclude: Callable[[Sequence[Item]], Response],
        *,
        strict: bool = False,
    ) -> Response:
        """Does the parts and puts each on record, all in one transaction."""
        ticket = Ticket()
        empty = conclude(())
        records = [
            Record(entry=self._guard.entry(caller, action, part.session, message=part.message_id), about=part)
            for part in parts
        ]
        item = Operation(
            key=key_of(request, caller, type(empty)),
            parts=(*parts, *records),
            conclude=lambda done: conclude(done[: len(parts)]).SerializeToString(),
            strict=strict,
            ticket=ticket,
        )
        self._store.mail.post(item)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        return type(empty).FromString(item.response)

    async def _remembered(self, request: Message, caller: Caller, kind: type[Response]) -> Response | None:
        """The answer that this request got before. Looked at first, because what it was about may be gone by now."""
        key = key_of(request, caller, kind)
        if not key.request_id:
            return None
        response = await self._store.read(partial(idempotency.find, table=self._store.ledger, key=key))
        return None if response is None else kind.FromString(response)


def _count(parts: Sequence[Item]) -> int:
    return sum(part.refusal is None for part in parts)


def _decision(
    given: message_pb2.Decision, question: message_pb2.DecisionRequest, caller: Caller
) -> message_pb2.Decision:
    if not given.answer or len(given.answer) > limits.MAX_ERROR_MESSAGE or "\x00" in given.answer:
        raise field_invalid("decision.answer", f"must be 1 to {limits.MAX_ERROR_MESSAGE} characters, no U+0000")
    if question.choices and given.answer not in question.choices:
        raise field_invalid("decision.answer", f"must be one of: {', '.join(question.choices)}")
    if given.call_id and given.call_id != question.call_id:
        raise field_invalid("decision.call_id", "must be the call that the question is about", value=given.call_id)
    return message_pb2.Decision(answer=given.answer, call_id=question.call_id, actor=caller.actor)
