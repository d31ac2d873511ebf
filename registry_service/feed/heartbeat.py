"""One heartbeat stream: the reports of one process's workers in, answers and unasked notices out."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry_service.domain.bot import Bot
from registry_service.domain.change import BotChanged, BotRemoved, Change, WorkerChanged
from registry_service.domain.errors import SlowConsumer
from registry_service.domain.worker import Ack, Report, ReportOutcome, Worker
from registry_service.feed.tail import Tail
from registry_service.store.registry import RegistryStore
from registry_service.store.reports import LEASE_LOST_DETAIL, Renewal

FIRST_CREDIT = 256
_MAX_ACKS = 1_000
_MAX_UNREAD = 4_096
_PAGE = 1_024
_IDLE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class ReportFrame:
    """`credit` is how many more acks the process takes."""

    reports: tuple[Report, ...]
    credit: int


@dataclass(frozen=True, slots=True)
class AckFrame:
    """`credit` is how many more reports we take."""

    acks: tuple[Ack, ...]
    credit: int


@dataclass(slots=True)
class _Known:
    """What a worker on this stream was told: revisions by bot, and whether it drains. `stale` asks for a new look."""

    lease_id: str
    uid: str = ""
    sequence: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    drain: bool = False
    lost: bool = False
    stale: bool = True


class Heartbeat:
    """Made for one stream. Three parts: reports are read and written, the log is followed, answers are sent."""

    def __init__(self, store: RegistryStore, tail: Tail) -> None:
        self._store = store
        self._tail = tail
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, Ack] = {}
        self._unread = 0
        self._credit = 0
        self._to_return = 0
        self._first = True
        self._ended = False
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()

    async def answers(self, frames: AsyncIterator[ReportFrame]) -> AsyncGenerator[AckFrame, None]:
        """Ends when `frames` has ended and everything is answered.

        Raises:
            SlowConsumer: answers stay unread beyond what the process gave credit for.
            Unavailable: DRAINING.
        """
        position = self._tail.position
        tasks = [asyncio.ensure_future(self._listen(frames)), asyncio.ensure_future(self._follow(position))]
        for task in tasks:
            task.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for task in tasks:
                    if task.done():
                        task.result()
                while (frame := self._next_frame()) is not None:
                    yield frame
                if self._ended:
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _next_frame(self) -> AckFrame | None:
        count = min(len(self._pending), self._credit, _MAX_ACKS)
        if not count and not self._to_return:
            return None
        acks = tuple(self._pending.pop(worker) for worker in list(self._pending)[:count])
        self._credit -= count
        credit, self._to_return = self._to_return, 0
        if not self._pending:
            self._unread = 0
        return AckFrame(acks, credit)

    async def _listen(self, frames: AsyncIterator[ReportFrame]) -> None:
        async for frame in frames:
            self._credit += FIRST_CREDIT if self._first and not frame.credit else frame.credit
            self._first = False
            if frame.reports:
                await self._answer(frame.reports)
            self._wake.set()
        self._ended = True

    async def _answer(self, reports: Sequence[Report]) -> None:
        renewals = await self._store.report(reports)
        answered = []
        for report, renewal in zip(reports, renewals, strict=True):
            known = self._known.get(renewal.worker)
            if known is None or known.lease_id != report.lease_id:
                known = self._known[renewal.worker] = _Known(report.lease_id)
            known.sequence = max(known.sequence, report.sequence)
            known.lost = renewal.outcome is not ReportOutcome.RENEWED
            known.drain = renewal.drain
            known.stale = not known.lost and (known.stale or report.served is not None)
            answered.append(_ack(renewal, known))
        # Both at once, so that the first ack of a stream has all the bots with it.
        for ack in (*answered, *await self._look_again()):
            self._put(ack)
        self._unread += len(reports)
        self._to_return += len(reports)
        if self._unread > _MAX_UNREAD:
            raise SlowConsumer(self._unread)

    async def _follow(self, position: int) -> None:
        """Marks the workers that a change concerns and tells them of it unasked."""
        while True:
            await self._tail.wait(position, _IDLE_S)
            changes = self._tail.changes(position, _PAGE)
            if changes is None:  # too much happened at once to follow it; look at everybody
                position = self._tail.position
                for known in self._known.values():
                    known.stale = not known.lost
            elif changes:
                position = changes[-1].position
                for change in changes:
                    self._mark(change)
            if any(known.stale for known in self._known.values()):
                for ack in await self._look_again():
                    self._put(ack)

    def _mark(self, change: Change) -> None:
        match change.what:
            case BotChanged(bot):
                for known in self._known.values():
                    known.stale |= not known.lost and known.revisions.get(bot.id, bot.revision) < bot.revision
            case BotRemoved(bot):
                for known in self._known.values():
                    known.stale |= not known.lost and bot in known.revisions
            case WorkerChanged(worker):
                concerned = self._known.get(worker.id)
                if concerned is not None and not concerned.lost:
                    same = worker.uid == concerned.uid and worker.drain == concerned.drain and worker.holds_lease
                    concerned.stale |= not same or set(worker.bots) != concerned.revisions.keys()
            case _:
                pass

    async def _look_again(self) -> list[Ack]:
        """Notices of the difference between what the stale workers were told and what is so now."""
        async with self._looking:  # an older look must not come after a newer one
            stale = [worker for worker, known in self._known.items() if known.stale]
            if not stale:
                return []
            for worker_id in stale:
                self._known[worker_id].stale = False
            workers = await self._store.find_workers(stale)
            bots = await self._store.find_bots([bot for worker in workers.values() for bot in worker.bots])
            notices = (_compare(worker, self._known[worker], workers.get(worker), bots) for worker in stale)
            return [notice for notice in notices if notice is not None]

    def _put(self, ack: Ack) -> None:
        """Queues an ack; several for one worker become one that says all of it."""
        earlier = self._pending.get(ack.worker)
        if earlier is not None and ack.outcome is ReportOutcome.RENEWED:
            newer = {bot.id: bot for bot in (*earlier.changed_bots, *ack.changed_bots)}
            removed = {*earlier.removed_bots, *ack.removed_bots} - {bot.id for bot in ack.changed_bots}
            ack = replace(
                ack,
                sequence=max(earlier.sequence, ack.sequence),
                lease_s=ack.lease_s if ack.lease_s is not None else earlier.lease_s,
                changed_bots=tuple(bot for bot in newer.values() if bot.id not in ack.removed_bots),
                removed_bots=tuple(sorted(removed)),
            )
        self._pending[ack.worker] = ack
        self._wake.set()


def _ack(renewal: Renewal, known: _Known) -> Ack:
    return Ack(
        worker=renewal.worker,
        sequence=known.sequence,
        outcome=renewal.outcome,
        lease_s=renewal.lease_s,
        drain=renewal.drain,
        drain_deadline=renewal.drain_deadline,
        removed_bots=renewal.refused,
        detail=renewal.detail,
    )


def _compare(worker_id: str, known: _Known, worker: Worker | None, bots: Mapping[str, Bot]) -> Ack | None:
    """What the worker has to be told; `known` is brought up to date with it."""
    if worker is None or not worker.holds_lease or worker.lease.id != known.lease_id:
        known.lost = True
        return Ack(worker_id, known.sequence, ReportOutcome.LEASE_LOST, detail=LEASE_LOST_DETAIL)
    served = {bot: bots[bot] for bot in worker.bots if bot in bots}
    changed = tuple(bot for bot in served.values() if known.revisions.get(bot.id) != bot.revision)
    removed = tuple(sorted(known.revisions.keys() - served.keys()))
    known.uid = worker.uid
    known.revisions = {bot.id: bot.revision for bot in served.values()}
    if not changed and not removed and worker.drain == known.drain:
        return None
    known.drain = worker.drain
    return Ack(
        worker=worker_id,
        sequence=known.sequence,
        outcome=ReportOutcome.RENEWED,
        drain=worker.drain,
        drain_deadline=worker.drain_deadline,
        changed_bots=changed,
        removed_bots=removed,
        detail=worker.drain_reason,
    )
