"""Schedules: made, changed, listed, and run by hand."""

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from sqlalchemy import Connection

from chassis.errors import InvalidArgument, field_invalid
from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue, clamp_page_size
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.bots import Bots
from router_service.convert.drafts import DraftReader, check_text
from router_service.convert.messages import fill_receipt
from router_service.convert.publications import read_publication
from router_service.convert.schedules import Timing, content_of, etag, read_timing, times, timing_of, to_proto_schedule
from router_service.convert.spawns import SpawnReader
from router_service.delivery.chores import Chores
from router_service.delivery.dispatcher import Dispatcher
from router_service.domain import limits
from router_service.domain.policy import Action
from router_service.domain.spawning import NewSpawn
from router_service.servicer.access import own_bot
from router_service.servicer.guarding import Guard
from router_service.servicer.requests import Requests
from router_service.servicer.spawning import Spawning
from router_service.store import schedules
from router_service.store.fan_items import Publish
from router_service.store.items import Send
from router_service.store.router_store import RouterStore
from router_service.store.schedules import StoredSchedule
from router_service.store.ticket import Ticket

_PAGE = 100
_MAX_PAGE = 1_000
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PATHS: Final = frozenset({"draft", "spawn", "cron", "interval", "time_zone", "missed_run_policy", "paused"})


class ContentChecks:
    """Refuses what a schedule could not send now, or not for its creator."""

    def __init__(self, drafts: DraftReader, spawns: SpawnReader, bots: Bots, guard: Guard) -> None:
        self._drafts = drafts
        self._spawns = spawns
        self._bots = bots
        self._guard = guard

    async def check(self, given: message_pb2.Schedule, caller: Caller) -> None:
        if given.HasField("spawn"):
            wish = self._spawns.read(given.spawn, caller, own_bot=own_bot(caller), field="schedule.spawn")
            await self._bots.require(wish.session.partition("/sessions/")[0])
            await self._guard.require(caller, Action.SPAWN, wish.session)
        elif given.draft.WhichOneof("destination") == "topic":
            read_publication(self._drafts, given.draft, caller)
        else:
            message = self._drafts.read(given.draft, caller, field="schedule.draft").message
            await self._bots.require(message.bot)
            await self._guard.require(caller, Action.SEND, message.session)


class Schedules:
    """A bot sees and changes the schedules that it made; operators all of them."""

    def __init__(
        self,
        store: RouterStore,
        requests: Requests,
        checks: ContentChecks,
        chores: Chores,
        dispatcher: Dispatcher,
        spawning: Spawning,
        new_id: Callable[[], str],
        tokens: PageTokens,
    ) -> None:
        self._store = store
        self._requests = requests
        self._checks = checks
        self._chores = chores
        self._dispatcher = dispatcher
        self._spawning = spawning
        self._new_id = new_id
        self._tokens = tokens

    async def create(
        self, request: router_service_pb2.CreateScheduleRequest, caller: Caller
    ) -> router_service_pb2.CreateScheduleResponse:
        if not _ID.fullmatch(request.schedule_id):
            raise field_invalid("schedule_id", "must be 1 to 64 characters of a-z 0-9 and -")
        given = request.schedule
        timing, content = read_timing(given), content_of(given)
        await self._checks.check(given, caller)
        now_us = self._store.now_us()
        new = StoredSchedule(
            id=request.schedule_id,
            uid=self._new_id()[-12:],
            version=1,
            cron=timing.cron,
            interval_us=timing.interval_us,
            time_zone=timing.time_zone,
            missed=int(timing.missed),
            paused=given.paused,
            next_us=None if given.paused else _next(timing, now_us, now_us),
            last_us=None,
            create_us=now_us,
            creator=caller.actor,
            content=content,
        )

        def create(conn: Connection) -> router_service_pb2.CreateScheduleResponse:
            schedules.create(conn, new)
            return router_service_pb2.CreateScheduleResponse(schedule=to_proto_schedule(new))

        response = await self._requests.once(request, caller, router_service_pb2.CreateScheduleResponse, create)
        self._chores.wake()
        return response

    async def update(
        self, request: router_service_pb2.UpdateScheduleRequest, caller: Caller
    ) -> router_service_pb2.UpdateScheduleResponse:
        given = request.schedule
        schedule_id = parse_schedule(given.name, "schedule.name")
        paths = _paths(request)
        if paths & {"draft", "spawn"}:
            content_of(given)
            await self._checks.check(given, caller)
        now_us = self._store.now_us()

        def update(conn: Connection) -> router_service_pb2.UpdateScheduleResponse:
            present = schedules.find(conn, schedule_id, own_bot(caller), lock=True)
            changed = _merge(present, given, paths, now_us)
            schedules.replace(conn, changed, given.etag, etag(present.version))
            return router_service_pb2.UpdateScheduleResponse(schedule=to_proto_schedule(changed))

        response = await self._requests.once(request, caller, router_service_pb2.UpdateScheduleResponse, update)
        self._chores.wake()
        return response

    async def delete(
        self, request: router_service_pb2.DeleteScheduleRequest, caller: Caller
    ) -> router_service_pb2.DeleteScheduleResponse:
        schedule_id = parse_schedule(request.name, "name")

        def delete(conn: Connection) -> router_service_pb2.DeleteScheduleResponse:
            present = schedules.find(conn, schedule_id, own_bot(caller), lock=True)
            schedules.remove(conn, schedule_id, request.etag, etag(present.version))
            return router_service_pb2.DeleteScheduleResponse()

        return await self._requests.once(request, caller, router_service_pb2.DeleteScheduleResponse, delete)

    async def list_schedules(
        self, request: router_service_pb2.ListSchedulesRequest, caller: Caller
    ) -> router_service_pb2.ListSchedulesResponse:
        size = clamp_page_size(request.page_size, default=_PAGE, maximum=_MAX_PAGE)
        bound: dict[str, QueryValue] = {"list": "schedules", "of": own_bot(caller)}
        after = str(self._tokens.decode(bound, request.page_token)[0]) if request.page_token else ""
        found = await self._store.read(lambda conn: schedules.page(conn, own_bot(caller), after=after, limit=size + 1))
        token = self._tokens.encode(bound, (found[size - 1].id,)) if len(found) > size else ""
        return router_service_pb2.ListSchedulesResponse(
            schedules=[to_proto_schedule(each) for each in found[:size]], next_page_token=token
        )

    async def run(
        self, request: router_service_pb2.RunScheduleRequest, caller: Caller
    ) -> router_service_pb2.RunScheduleResponse:
        schedule_id = parse_schedule(request.name, "name")
        if request.request_id:
            check_text(request.request_id, "request_id", limits.MAX_REQUEST_ID)
        stored = await self._store.read(lambda conn: schedules.find(conn, schedule_id, own_bot(caller)))
        asked = f"{caller.actor}\n{request.request_id}".encode()
        once = blake2b(asked, digest_size=12).hexdigest() if request.request_id else self._new_id()
        made = self._chores.mail_of(stored, f"schedule/{stored.id}/{stored.uid}/{once}")
        receipt = await self._send(made, stored, caller)
        if not receipt.duplicate:
            await self._store.write(lambda conn: schedules.touch(conn, schedule_id, self._store.now_us()))
        return router_service_pb2.RunScheduleResponse(receipt=receipt)

    async def _send(self, made: object, stored: StoredSchedule, caller: Caller) -> message_pb2.Receipt:
        if isinstance(made, NewSpawn):
            creator = Caller(principal=stored.creator, root=caller.root, actor=stored.creator)
            return (await self._spawning.make(made, creator)).receipt
        ticket = Ticket()
        item: Send | Publish
        if isinstance(made, Publish):
            item = made
            item.ticket = ticket
            self._store.mail.post(item)
        else:
            item = Send(message=made, ticket=ticket)  # type: ignore[arg-type]  # the third of three kinds
            self._dispatcher.send(item)
        await ticket.wait()
        if item.refusal is not None:
            raise item.refusal
        receipt = message_pb2.Receipt()
        fill_receipt(receipt, item)
        return receipt


def parse_schedule(name: str, field: str) -> str:
    """ "schedules/daily" -> "daily"."""
    prefix, _, schedule = name.partition("/")
    if prefix != "schedules" or not _ID.fullmatch(schedule):
        raise InvalidArgument(
            f"{field}: must look like schedules/{{schedule}}",
            reason="RESOURCE_NAME_INVALID",
            metadata={"field": field, "value": ascii(name[:80])},
        )
    return schedule


def _paths(request: router_service_pb2.UpdateScheduleRequest) -> frozenset[str]:
    given = request.schedule
    if request.HasField("update_mask"):
        paths = frozenset(request.update_mask.paths)
        if not paths or paths - _PATHS:
            raise field_invalid("update_mask", f"must name some of {', '.join(sorted(_PATHS))}")
        return paths
    timing = given.WhichOneof("timing")
    present = {name for name in ("draft", "spawn") if given.HasField(name)} | ({timing} if timing else set())
    present |= {name for name in ("time_zone", "missed_run_policy", "paused") if getattr(given, name)}
    return frozenset(present)


def _merge(present: StoredSchedule, given: message_pb2.Schedule, paths: frozenset[str], now_us: int) -> StoredSchedule:
    merged = to_proto_schedule(present)
    if paths & {"cron", "interval"}:
        kind = given.WhichOneof("timing")
        if kind == "interval":
            merged.interval.CopyFrom(given.interval)
        elif kind == "cron":
            merged.cron = given.cron
        else:
            merged.ClearField("cron")
            merged.ClearField("interval")
    if "time_zone" in paths:
        merged.time_zone = given.time_zone
    if "missed_run_policy" in paths:
        merged.missed_run_policy = given.missed_run_policy
    if "paused" in paths:
        merged.paused = given.paused
    timing = read_timing(merged)
    next_us = present.next_us
    if merged.paused:
        next_us = None
    elif present.paused or timing != timing_of(present):
        # Times that passed while it was paused or was another one are nobody's loss.
        next_us = _next(timing, present.create_us, now_us)
    return replace(
        present,
        version=present.version + 1,
        cron=timing.cron,
        interval_us=timing.interval_us,
        time_zone=timing.time_zone,
        missed=int(timing.missed),
        paused=merged.paused,
        next_us=next_us,
        content=content_of(given) if paths & {"draft", "spawn"} else present.content,
    )


def _next(timing: Timing, anchor_us: int, now_us: int) -> int | None:
    return next(times(timing, anchor_us=anchor_us, from_us=now_us + 1, now_us=now_us), None)
