"""Chores: what must be done at some time although nobody calls for it. Schedules that are due, children that need
looking after."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from chassis.errors import AppError
from chassis.identity import Caller
from chassis.waiting import within
from mobot.router.v1 import message_pb2
from router_service.convert.drafts import DraftReader
from router_service.convert.publications import read_publication
from router_service.convert.schedules import content, times, timing_of
from router_service.convert.spawns import SpawnReader
from router_service.delivery.meters import MailMeters
from router_service.delivery.spawner import Spawner
from router_service.domain.mail import NewMessage
from router_service.domain.scheduling import due_times
from router_service.domain.spawning import NewSpawn
from router_service.store import schedules
from router_service.store.fan_items import Fire, Publish
from router_service.store.router_store import RouterStore
from router_service.store.schedules import StoredSchedule
from router_service.store.ticket import Ticket

_PAGE = 100
_RETRY_S = 1.0

_log = logging.getLogger(__name__)


class Chores:
    """Several replicas may do the same chore at once: the store lets one of them."""

    def __init__(
        self,
        store: RouterStore,
        spawner: Spawner,
        drafts: DraftReader,
        spawns: SpawnReader,
        meters: MailMeters,
        *,
        poll_s: float,
    ) -> None:
        self._store = store
        self._spawner = spawner
        self._drafts = drafts
        self._spawns = spawns
        self._meters = meters
        self._poll_s = poll_s
        self._schedule_bell = asyncio.Event()
        self._spawn_bell = asyncio.Event()
        self._closing = False

    def wake(self) -> None:
        """Something changed about what is due."""
        self._schedule_bell.set()
        self._spawn_bell.set()

    async def run(self) -> None:
        # Apart, because children wait for the session service and schedules wait for nobody.
        async with asyncio.TaskGroup() as chores:
            chores.create_task(self._repeat(self._fire_due, self._schedule_bell))
            chores.create_task(self._repeat(self._spawner.tick, self._spawn_bell))

    def close(self) -> None:
        self._closing = True
        self.wake()

    async def tick(self) -> None:
        """Does all that is due now."""
        await self._fire_due()
        await self._spawner.tick()

    async def _repeat(self, chore: Callable[[], Awaitable[int]], bell: asyncio.Event) -> None:
        """Does a chore again and again, at the time in microseconds that it answers or earlier (0: nothing is due)."""
        while not self._closing:
            try:
                next_us = await chore()
            except AppError as error:
                _log.warning("a chore cannot be done", extra={"reason": error.reason or error.code})
                wait_s = _RETRY_S
            else:
                wait_s = self._poll_s
                if next_us:
                    wait_s = min(wait_s, max(0.0, (next_us - self._store.now_us()) / 1e6))
            await within(wait_s, bell.wait())
            bell.clear()

    async def _fire_due(self) -> int:
        while True:
            now_us = self._store.now_us()
            due, next_us = await self._store.read(lambda conn: schedules.due(conn, now_us, _PAGE))  # noqa: B023
            if not due:
                return next_us
            ticket = Ticket(len(due))
            fires = [self._fire(schedule, now_us, ticket) for schedule in due]
            for fire in fires:
                self._store.mail.post(fire)
            await ticket.wait()
            for fire in fires:
                for reason in fire.refused:
                    self._left_out(fire.schedule, reason)
            if any(fire.spawns for fire in fires):
                self._spawn_bell.set()

    def _fire(self, schedule: StoredSchedule, now_us: int, ticket: Ticket) -> Fire:
        timing = timing_of(schedule)
        expected_us = schedule.next_us or 0
        coming = times(timing, anchor_us=schedule.create_us, from_us=expected_us, now_us=now_us)
        due = due_times(coming, now_us, timing.missed)
        sends: list[NewMessage] = []
        publications: list[Publish] = []
        wishes: list[NewSpawn] = []
        for at_us in due.sent:
            key = f"schedule/{schedule.id}/{schedule.uid}/{at_us}"
            try:
                made = self.mail_of(schedule, key)
            except AppError as error:  # what can be sent no more must not hold up the others
                self._left_out(schedule.id, error.reason)
                continue
            if isinstance(made, NewSpawn):
                wishes.append(made)
            elif isinstance(made, Publish):
                publications.append(made)
            else:
                sends.append(made)
        return Fire(
            schedule=schedule.id,
            version=schedule.version,
            expected_us=expected_us,
            next_us=due.next_us,
            sends=tuple(sends),
            publications=tuple(publications),
            spawns=tuple(wishes),
            ticket=ticket,
        )

    def _left_out(self, schedule: str, reason: str) -> None:
        self._meters.schedules_refused[reason] += 1
        _log.warning("a time of a schedule is left out", extra={"schedule": f"schedules/{schedule}", "reason": reason})

    def mail_of(self, schedule: StoredSchedule, key: str) -> NewMessage | Publish | NewSpawn:
        """What one sending of the schedule is."""
        what = content(schedule)
        creator = Caller(principal=schedule.creator, root=True, actor=schedule.creator)
        if what.HasField("spawn"):
            return self._spawns.read(what.spawn, creator, own_bot="", key=key, field="schedule.spawn")
        draft = message_pb2.MessageDraft()
        draft.CopyFrom(what.draft)
        if draft.WhichOneof("destination") == "topic":
            draft.idempotency_key = key
            return read_publication(self._drafts, draft, creator)
        return self._drafts.read(draft, creator, internal_key=key).message
