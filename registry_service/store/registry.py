"""The registry's store: every read and every write that the service makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

from sqlalchemy import Connection

from chassis import idempotency
from chassis.clock import Clock, IdFactory
from chassis.database import Database
from chassis.errors import PermissionDenied
from chassis.idempotency import RequestKey
from registry_service.domain import bot as rules
from registry_service.domain.bot import Bot, BotSettings, Lifecycle, NewBot
from registry_service.domain.change import Change
from registry_service.domain.declaration import Action, Applied, Declaration, Step, plan
from registry_service.domain.errors import BotAlreadyExists, BotDeleted, BotLimitReached, BotNotFound
from registry_service.domain.selection import BotFilter, WorkerFilter
from registry_service.domain.worker import (
    Registration,
    Report,
    Worker,
    WorkerState,
    ask_to_drain,
    check_version,
    may_serve,
    new_lease,
)
from registry_service.models import LEDGER
from registry_service.store import bots, lists, liveness, log, reports, workers
from registry_service.store.lists import Page, Position, Snapshot
from registry_service.store.log import Head, Transaction
from registry_service.store.reports import Renewal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ticket(RequestKey, Generic[T]):
    """A request, and how to keep its answer."""

    encode: Callable[[T], bytes]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer that the same request got before, as it was kept."""

    response: bytes


Outcome: TypeAlias = T | Recorded


@dataclass(frozen=True, slots=True)
class Registered:
    """A new registration, with the bots it serves."""

    worker: Worker
    bots: tuple[Bot, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """`kept_changes` is how many log entries stay for watchers that resume."""

    max_bots: int
    kept_changes: int


class RegistryStore:
    """Made with an open database; `prepare` comes before anything else, `close` last.

    `on_change` is called on the loop after each commit that may have changed something; it must not block.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        new_id: IdFactory,
        new_secret: IdFactory,
        limits: Limits,
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._limits = limits
        self._on_change = on_change
        self._reports = database.writer.kind("reports", self._write_reports)

    async def prepare(self) -> Head:
        """Begins the log of a new database, forgives leases for our absence, and makes true what is due."""
        log_id = self._new_id()
        await self._database.writer.run(lambda conn: log.ensure_head(conn, log_id))
        await self._write(liveness.forgive_absence)
        await self.sweep()
        await self.clean()
        return await self.head()

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()

    # Reads.

    async def head(self) -> Head:
        return await self._database.read(log.read_head)

    async def changes(self, after: int, limit: int) -> Sequence[Change]:
        return await self._database.read(lambda conn: log.read_changes(conn, after, limit))

    async def snapshot(self, selected: BotFilter, *, workers: bool) -> Snapshot:
        return await self._database.read(lambda conn: lists.read_snapshot(conn, selected, workers=workers))

    async def next_due(self) -> datetime | None:
        return await self._database.read(liveness.next_due)

    async def get_bot(self, bot: str) -> Bot:
        return await self._database.read(lambda conn: bots.get_bot(conn, bot))

    async def find_bots(self, ids: Sequence[str]) -> dict[str, Bot]:
        return await self._database.read(lambda conn: bots.find_bots(conn, ids))

    async def list_bots(
        self, selected: BotFilter, *, order: str, descending: bool, size: int, after: Position
    ) -> Page[Bot]:
        return await self._database.read(
            lambda conn: lists.list_bots(conn, selected, order=order, descending=descending, size=size, after=after)
        )

    async def get_worker(self, worker: str) -> Worker:
        return await self._database.read(lambda conn: workers.get_worker(conn, worker))

    async def find_workers(self, ids: Sequence[str]) -> dict[str, Worker]:
        return await self._database.read(lambda conn: workers.find_workers(conn, ids))

    async def list_workers(self, selected: WorkerFilter, *, size: int, after: Position) -> Page[Worker]:
        return await self._database.read(lambda conn: lists.list_workers(conn, selected, size=size, after=after))

    # Writes of bots.

    async def create_bot(self, draft: NewBot, ticket: Ticket[Bot]) -> Outcome[Bot]:
        uid = self._new_id()

        def create(tx: Transaction) -> Bot:
            taken = bots.find_bot(tx.conn, draft.id)
            if taken is not None:
                raise BotAlreadyExists(taken.id, taken.lifecycle.value, taken.settings.set_name)
            self._check_room(tx, 1)
            return bots.add_bot(tx, rules.create(draft, uid=uid, now=tx.now))

        return await self._once(create, ticket)

    async def update_bot(
        self, bot: str, etag: str, change: Callable[[Bot], BotSettings], ticket: Ticket[Bot]
    ) -> Outcome[Bot]:
        """`change` makes the new settings from the bot as it is; it may refuse by raising, and may be called again."""

        def update(before: Bot, tx: Transaction) -> Bot:
            rules.check_live(before)
            after = rules.update(before, change(before), tx.now)
            return after if after is before else liveness.release_misfits(tx, after)

        return await self._change_bot(bot, etag, update, ticket)

    async def enable_bot(self, bot: str, etag: str, ticket: Ticket[Bot]) -> Outcome[Bot]:
        return await self._change_bot(bot, etag, lambda before, tx: rules.enable(before, tx.now), ticket)

    async def disable_bot(self, bot: str, etag: str, reason: str, ticket: Ticket[Bot]) -> Outcome[Bot]:
        return await self._change_bot(bot, etag, lambda before, tx: rules.disable(before, reason, tx.now), ticket)

    async def suspend_bot(
        self, bot: str, etag: str, *, until: datetime | None, reason: str, ticket: Ticket[Bot]
    ) -> Outcome[Bot]:
        def suspend(before: Bot, tx: Transaction) -> Bot:
            return rules.suspend(before, until=until, reason=reason, now=tx.now)

        return await self._change_bot(bot, etag, suspend, ticket)

    async def delete_bot(
        self, bot: str, etag: str, *, uid: str, drain: timedelta, retention: timedelta, ticket: Ticket[Bot]
    ) -> Outcome[Bot]:
        def remove(tx: Transaction) -> Bot:
            before = bots.get_bot(tx.conn, bot)
            rules.check_uid(before, uid)
            rules.check_etag(before, etag)
            after = rules.begin_removal(before, drain=drain, retention=retention, now=tx.now)
            return self._remove(tx, before, after)

        return await self._once(remove, ticket)

    async def undelete_bot(self, bot: str, ticket: Ticket[Bot]) -> Outcome[Bot]:
        return await self._change_bot(bot, "", lambda before, tx: rules.undelete(before, tx.now), ticket)

    async def plan_bots(self, declaration: Declaration) -> Applied:
        """What `apply_bots` would do."""

        def look(conn: Connection) -> Applied:
            steps = self._plan(conn, declaration, self._clock.now())
            return Applied(tuple(steps), log.read_position(conn))

        return await self._database.read(look)

    async def apply_bots(self, declaration: Declaration, ticket: Ticket[Applied]) -> Outcome[Applied]:
        def apply(tx: Transaction) -> Applied:
            steps = self._plan(tx.conn, declaration, tx.now)
            done = tuple(self._take(tx, step) for step in steps)
            return Applied(done, tx.position)

        return await self._once(apply, ticket)

    # Writes of workers.

    async def register_worker(self, registration: Registration, ticket: Ticket[Registered]) -> Outcome[Registered]:
        uid, lease_id = self._new_id(), self._new_secret()

        def register(tx: Transaction) -> Registered:
            check_version(registration.id, registration.settings)
            before = workers.find_worker(tx.conn, registration.id)
            _check_takeover(before, registration)
            served = _servable(tx, registration)
            worker = Worker(
                id=registration.id,
                uid=uid,
                settings=registration.settings,
                bots=tuple(sorted(served)),
                lease=new_lease(lease_id, registration.lease_s, tx.now),
                registrant=registration.registrant,
                create_time=tx.now,
                state=WorkerState.ACTIVE,
            )
            workers.replace_worker(tx, before, worker)
            liveness.refresh_statuses(tx, {*served, *(before.bots if before else ())})
            liveness.settle_draining(tx)
            current = bots.find_bots(tx.conn, served)
            return Registered(worker, tuple(current[bot] for bot in worker.bots))

        return await self._once(register, ticket)

    async def drain_worker(
        self, worker: str, *, timeout: timedelta | None, reason: str, ticket: Ticket[Worker]
    ) -> Outcome[Worker]:
        def drain(tx: Transaction) -> Worker:
            before = workers.get_worker(tx.conn, worker)
            after = ask_to_drain(before, timeout=timeout, reason=reason, now=tx.now)
            workers.save_workers(tx, [(before, after)])
            return after

        return await self._once(drain, ticket)

    async def report(self, frame: Sequence[Report]) -> Sequence[Renewal]:
        """Renews leases and notes what the workers said; one renewal for each report, in order."""
        outcomes = await self._database.writer.submit_many(self._reports, frame)
        self._on_change()
        return [outcome for outcome in outcomes if isinstance(outcome, Renewal)]

    # What time alone changes.

    async def sweep(self) -> None:
        await self._write(liveness.sweep)

    async def clean(self) -> None:
        """Drops log entries and remembered requests that are past their keeping."""

        def clean(tx: Transaction) -> None:
            log.compact(tx, self._limits.kept_changes)
            idempotency.sweep(tx.conn, LEDGER, tx.now)

        await self._write(clean)

    def _write_reports(self, conn: Connection, frame: Sequence[Report]) -> Sequence[Renewal]:
        return reports.write_reports(conn, frame, self._clock.now())

    async def _write(self, act: Callable[[Transaction], T]) -> T:
        def write(conn: Connection) -> T:
            tx = Transaction(conn, self._clock.now())
            result = act(tx)
            tx.finish()
            return result

        result = await self._database.writer.run(write)
        self._on_change()
        return result

    async def _once(self, act: Callable[[Transaction], T], ticket: Ticket[T]) -> Outcome[T]:
        """Writes unless the same request was answered before; the answer is kept in the same commit."""

        def write(tx: Transaction) -> Outcome[T]:
            known = idempotency.find(tx.conn, LEDGER, ticket)
            if known is not None:
                return Recorded(known)
            result = act(tx)
            if ticket.request_id:
                idempotency.remember(tx.conn, LEDGER, ticket, response=ticket.encode(result), now=tx.now)
            return result

        return await self._write(write)

    async def _change_bot(
        self, bot: str, etag: str, change: Callable[[Bot, Transaction], Bot], ticket: Ticket[Bot]
    ) -> Outcome[Bot]:
        def write(tx: Transaction) -> Bot:
            before = bots.get_bot(tx.conn, bot)
            rules.check_etag(before, etag)
            return bots.save_bot(tx, before, change(before, tx))

        return await self._once(write, ticket)

    def _remove(self, tx: Transaction, before: Bot, after: Bot) -> Bot:
        if after is before:
            return before
        if liveness.is_drained(tx.conn, after, tx.now):
            return liveness.entomb(tx, after)
        return bots.save_bot(tx, before, after)

    def _plan(self, conn: Connection, declaration: Declaration, now: datetime) -> Sequence[Step]:
        stored = bots.find_bots(conn, [each.bot.id for each in declaration.bots])
        if declaration.prune:
            stored |= bots.bots_of_set(conn, declaration.set_name)
        uids = {each.bot.id: self._new_id() for each in declaration.bots}
        steps = plan(declaration, stored, uids, now)
        created = sum(step.action is Action.CREATE for step in steps)
        if created and bots.count_bots(conn) + created > self._limits.max_bots:
            raise BotLimitReached(self._limits.max_bots)
        return steps

    def _take(self, tx: Transaction, step: Step) -> Step:
        if step.before is None:
            return replace(step, after=bots.add_bot(tx, step.after))
        match step.action:
            case Action.DELETE:
                return replace(step, after=self._remove(tx, step.before, step.after))
            case Action.UNCHANGED:
                return step
            case _:
                after = liveness.release_misfits(tx, step.after)
                return replace(step, after=bots.save_bot(tx, step.before, after))

    def _check_room(self, tx: Transaction, wanted: int) -> None:
        if bots.count_bots(tx.conn) + wanted > self._limits.max_bots:
            raise BotLimitReached(self._limits.max_bots)


def _servable(tx: Transaction, registration: Registration) -> list[str]:
    """The bots of a registration that it may serve; those whose brain demands other labels are left out."""
    found = bots.find_bots(tx.conn, registration.bots)
    for bot in registration.bots:
        if bot not in found:
            raise BotNotFound(bot)
        if found[bot].lifecycle is not Lifecycle.ACTIVE:
            raise BotDeleted(bot, found[bot].lifecycle.value)
    return [bot for bot in registration.bots if may_serve(registration.settings.labels, found[bot].settings)]


def _check_takeover(before: Worker | None, registration: Registration) -> None:
    """The newest process wins, but a bot's own worker may not push aside a worker that somebody else registered."""
    if before is None or registration.trusted or before.registrant == registration.registrant:
        return
    if before.holds_lease:
        raise PermissionDenied(
            f"workers/{before.id} is registered by somebody else",
            metadata={"worker": before.name, "actor": registration.registrant},
        )
