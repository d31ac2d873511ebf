"""The registry's calls: each converts in, asks the store, and converts out."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from chassis import resource_names
from chassis.clock import Clock, IdFactory
from chassis.identity import caller
from chassis.paging import clamp_page_size
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from registry_service.convert import checks
from registry_service.convert.bots import from_proto_filter, to_proto_bot
from registry_service.convert.brains import to_proto_seconds
from registry_service.convert.cards import Publisher, to_proto_card
from registry_service.convert.declarations import from_proto_declaration, to_proto_diff
from registry_service.convert.requests import (
    MAX_DRAIN,
    from_proto_drain,
    from_proto_new_bot,
    from_proto_order,
    from_proto_reason,
    from_proto_registration,
    from_proto_suspension,
    from_proto_update,
    to_ticket,
)
from registry_service.convert.tokens import Tokens
from registry_service.convert.watches import from_proto_watch, to_proto_frame
from registry_service.convert.workers import (
    from_proto_report,
    from_proto_worker_filter,
    to_proto_ack,
    to_proto_worker,
)
from registry_service.domain import access
from registry_service.domain.bot import Bot, BotSettings, Lifecycle
from registry_service.domain.declaration import Applied
from registry_service.domain.errors import BotNotFound
from registry_service.domain.selection import BotFilter
from registry_service.domain.worker import Worker
from registry_service.feed.heartbeat import Heartbeat, ReportFrame
from registry_service.feed.tail import Tail
from registry_service.feed.watch import Watch
from registry_service.settings import RegistrySettings
from registry_service.store.registry import Outcome, Recorded, Registered, RegistryStore, Ticket

pb = registry_service_pb2
T = TypeVar("T")
Response = TypeVar("Response", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_PAGE = 100
_MAX_PAGE = 1_000
_MAX_REPORTS = 1_000


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Everything it needs comes in through the constructor."""

    def __init__(
        self,
        *,
        store: RegistryStore,
        tail: Tail,
        tokens: Tokens,
        clock: Clock,
        new_id: IdFactory,
        settings: RegistrySettings,
    ) -> None:
        self._store = store
        self._tail = tail
        self._tokens = tokens
        self._clock = clock
        self._new_id = new_id
        self._settings = settings
        self._publisher = Publisher(settings.public_url, settings.organization)

    async def CreateBot(self, request: pb.CreateBotRequest, context: Context) -> pb.CreateBotResponse:
        who = caller()
        access.check_edit(who.actor)
        draft = from_proto_new_bot(request, owner=who.actor)
        access.check_owner(who.actor, root=who.root, owner=draft.settings.owner, present=who.actor)
        return await self._once(
            request,
            request.request_id,
            pb.CreateBotResponse,
            lambda bot: pb.CreateBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.create_bot(draft, ticket),
        )

    async def GetBot(self, request: pb.GetBotRequest, context: Context) -> pb.GetBotResponse:
        bot = await self._store.get_bot(resource_names.parse_bot(request.name))
        return pb.GetBotResponse(bot=to_proto_bot(bot))

    async def ListBots(self, request: pb.ListBotsRequest, context: Context) -> pb.ListBotsResponse:
        order, descending = from_proto_order(request.order_by)
        as_of, place = self._tokens.page(request, request.page_token)
        page = await self._store.list_bots(
            from_proto_filter("filter", request.filter) if request.HasField("filter") else BotFilter(),
            order=order,
            descending=descending,
            size=clamp_page_size(request.page_size, default=_DEFAULT_PAGE, maximum=_MAX_PAGE),
            after=place,
        )
        began = page.position if as_of is None else as_of
        return pb.ListBotsResponse(
            bots=[to_proto_bot(bot) for bot in page.items],
            next_page_token=self._tokens.next_page(request, began, page.next),
            as_of=self._tokens.resume(began),
            total_count=page.total_count,
        )

    async def UpdateBot(self, request: pb.UpdateBotRequest, context: Context) -> pb.UpdateBotResponse:
        who = caller()
        access.check_edit(who.actor)
        bot_id = resource_names.parse_bot(request.bot.name, field="bot.name")
        make = from_proto_update(request)

        def change(stored: Bot) -> BotSettings:
            settings = make(stored)
            access.check_owner(who.actor, root=who.root, owner=settings.owner, present=stored.settings.owner)
            return settings

        return await self._once(
            request,
            request.request_id,
            pb.UpdateBotResponse,
            lambda bot: pb.UpdateBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.update_bot(bot_id, request.bot.etag, change, ticket),
        )

    async def DeleteBot(self, request: pb.DeleteBotRequest, context: Context) -> pb.DeleteBotResponse:
        access.check_edit(caller().actor)
        bot_id = resource_names.parse_bot(request.name)
        drain, retention = from_proto_drain(request)
        return await self._once(
            request,
            request.request_id,
            pb.DeleteBotResponse,
            lambda bot: pb.DeleteBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.delete_bot(
                bot_id, request.etag, uid=request.expected_uid, drain=drain, retention=retention, ticket=ticket
            ),
        )

    async def UndeleteBot(self, request: pb.UndeleteBotRequest, context: Context) -> pb.UndeleteBotResponse:
        access.check_edit(caller().actor)
        bot_id = resource_names.parse_bot(request.name)
        return await self._once(
            request,
            request.request_id,
            pb.UndeleteBotResponse,
            lambda bot: pb.UndeleteBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.undelete_bot(bot_id, ticket),
        )

    async def EnableBot(self, request: pb.EnableBotRequest, context: Context) -> pb.EnableBotResponse:
        access.check_edit(caller().actor)
        bot_id = resource_names.parse_bot(request.name)
        return await self._once(
            request,
            request.request_id,
            pb.EnableBotResponse,
            lambda bot: pb.EnableBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.enable_bot(bot_id, request.etag, ticket),
        )

    async def DisableBot(self, request: pb.DisableBotRequest, context: Context) -> pb.DisableBotResponse:
        access.check_edit(caller().actor)
        bot_id = resource_names.parse_bot(request.name)
        reason = from_proto_reason(request.reason)
        return await self._once(
            request,
            request.request_id,
            pb.DisableBotResponse,
            lambda bot: pb.DisableBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.disable_bot(bot_id, request.etag, reason, ticket),
        )

    async def SuspendBot(self, request: pb.SuspendBotRequest, context: Context) -> pb.SuspendBotResponse:
        access.check_edit(caller().actor)
        bot_id = resource_names.parse_bot(request.name)
        until = from_proto_suspension(request, self._clock.now())
        reason = from_proto_reason(request.reason)
        return await self._once(
            request,
            request.request_id,
            pb.SuspendBotResponse,
            lambda bot: pb.SuspendBotResponse(bot=to_proto_bot(bot)),
            lambda ticket: self._store.suspend_bot(bot_id, request.etag, until=until, reason=reason, ticket=ticket),
        )

    async def ApplyBots(self, request: pb.ApplyBotsRequest, context: Context) -> pb.ApplyBotsResponse:
        who = caller()
        access.check_edit(who.actor)
        declaration = from_proto_declaration(request, owner=who.actor)
        for declared in declaration.bots:
            owner = declared.bot.settings.owner
            access.check_owner(who.actor, root=who.root, owner=owner or who.actor, present=who.actor)
        if request.dry_run:
            return self._applied(await self._store.plan_bots(declaration), planned=True)
        return await self._once(
            request,
            request.request_id,
            pb.ApplyBotsResponse,
            lambda applied: self._applied(applied, planned=False),
            lambda ticket: self._store.apply_bots(declaration, ticket),
        )

    async def GetAgentCard(self, request: pb.GetAgentCardRequest, context: Context) -> pb.GetAgentCardResponse:
        bot = await self._store.get_bot(resource_names.parse_bot(request.name))
        if bot.lifecycle is Lifecycle.DELETED:
            raise BotNotFound(bot.id)
        return pb.GetAgentCardResponse(agent_card=to_proto_card(bot, self._publisher))

    async def RegisterWorker(self, request: pb.RegisterWorkerRequest, context: Context) -> pb.RegisterWorkerResponse:
        who = caller()
        registration = from_proto_registration(
            request,
            new_id=self._new_id(),
            lease_s=self._settings.lease_s,
            max_lease_s=self._settings.max_lease_s,
            registrant=who.actor,
            trusted=access.is_editor(who.actor) or (who.root and not who.actor.startswith("bots/")),
        )
        access.check_register(who.actor, root=who.root, worker=registration.id, bots=registration.bots)
        return await self._once(
            request,
            request.request_id,
            pb.RegisterWorkerResponse,
            _registered,
            lambda ticket: self._store.register_worker(registration, ticket),
        )

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Context) -> pb.ListWorkersResponse:
        access.check_read_workers(caller().actor)
        as_of, place = self._tokens.page(request, request.page_token)
        page = await self._store.list_workers(
            from_proto_worker_filter(request.bot, request.states, request.labels),
            size=clamp_page_size(request.page_size, default=_DEFAULT_PAGE, maximum=_MAX_PAGE),
            after=place,
        )
        began = page.position if as_of is None else as_of
        return pb.ListWorkersResponse(
            workers=[to_proto_worker(worker) for worker in page.items],
            next_page_token=self._tokens.next_page(request, began, page.next),
            as_of=self._tokens.resume(began),
        )

    async def GetWorker(self, request: pb.GetWorkerRequest, context: Context) -> pb.GetWorkerResponse:
        access.check_read_workers(caller().actor)
        worker = await self._store.get_worker(resource_names.parse_worker(request.name))
        return pb.GetWorkerResponse(worker=to_proto_worker(worker))

    async def DrainWorker(self, request: pb.DrainWorkerRequest, context: Context) -> pb.DrainWorkerResponse:
        access.check_drain(caller().actor)
        worker_id = resource_names.parse_worker(request.name)
        timeout = checks.span("drain_timeout", request, "drain_timeout", MAX_DRAIN)
        reason = from_proto_reason(request.reason)

        def answer(worker: Worker) -> pb.DrainWorkerResponse:
            return pb.DrainWorkerResponse(worker=to_proto_worker(worker))

        return await self._once(
            request,
            request.request_id,
            pb.DrainWorkerResponse,
            answer,
            lambda ticket: self._store.drain_worker(worker_id, timeout=timeout, reason=reason, ticket=ticket),
        )

    async def Heartbeat(
        self, request_iterator: AsyncIterator[pb.HeartbeatRequest], context: Context
    ) -> AsyncGenerator[pb.HeartbeatResponse, None]:
        access.check_report(caller().actor)
        answers = Heartbeat(self._store, self._tail).answers(_report_frames(request_iterator))
        try:
            async for frame in answers:
                yield pb.HeartbeatResponse(acks=[to_proto_ack(ack) for ack in frame.acks], credit=frame.credit)
        finally:
            await answers.aclose()

    async def WatchBots(
        self, request: pb.WatchBotsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchBotsResponse, None]:
        if request.include_workers:
            access.check_read_workers(caller().actor)
        order = from_proto_watch(request, self._tokens)
        async for frame in Watch(self._store, self._tail, order, self._tokens.resume).frames():
            yield to_proto_frame(frame, self._tokens.resume)

    async def _once(
        self,
        request: Message,
        request_id: str,
        kind: type[Response],
        answer: Callable[[T], Response],
        act: Callable[[Ticket[T]], Awaitable[Outcome[T]]],
    ) -> Response:
        """The answer to a write; to one that was made before under the same request id, the answer it got then."""
        outcome = await act(to_ticket(request, request_id, caller().actor, answer))
        if isinstance(outcome, Recorded):
            return kind.FromString(outcome.response)
        return answer(outcome)

    def _applied(self, applied: Applied, *, planned: bool) -> pb.ApplyBotsResponse:
        return pb.ApplyBotsResponse(
            diffs=[to_proto_diff(step, planned=planned) for step in applied.steps],
            applied=not planned,
            as_of=self._tokens.resume(applied.position),
        )


def _registered(registered: Registered) -> pb.RegisterWorkerResponse:
    lease = registered.worker.lease
    return pb.RegisterWorkerResponse(
        worker=to_proto_worker(registered.worker),
        lease_id=lease.id,
        lease_duration=to_proto_seconds(lease.duration_s),
        heartbeat_interval=to_proto_seconds(lease.heartbeat_interval_s),
        bots=[to_proto_bot(bot) for bot in registered.bots],
    )


async def _report_frames(requests: AsyncIterator[pb.HeartbeatRequest]) -> AsyncIterator[ReportFrame]:
    async for request in requests:
        checks.at_most("reports", request.reports, _MAX_REPORTS)
        checks.not_negative("credit", request.credit)
        reports = (from_proto_report(f"reports[{index}]", report) for index, report in enumerate(request.reports))
        yield ReportFrame(tuple(reports), request.credit)
