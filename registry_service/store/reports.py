"""Heartbeats: the reports of many workers in one transaction, at the cost of one row for each that says nothing new."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from registry_service.domain.bot import Lifecycle
from registry_service.domain.worker import (
    BotReport,
    Report,
    ReportOutcome,
    Worker,
    WorkerState,
    end,
    may_begin_to_serve,
    may_serve,
    renew,
)
from registry_service.store.bots import find_bots
from registry_service.store.liveness import refresh_statuses, settle_draining
from registry_service.store.log import Transaction
from registry_service.store.workers import (
    add_servings,
    drop_servings,
    find_workers,
    save_workers,
    write_bot_reports,
)

LEASE_LOST_DETAIL = "The lease ended or belongs to a newer registration; register again."


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of a report. `lease_s` is None unless the lease was renewed; `refused` are bots not to be served."""

    worker: str
    sequence: int
    outcome: ReportOutcome
    lease_s: float | None = None
    drain: bool = False
    drain_deadline: datetime | None = None
    refused: tuple[str, ...] = ()
    detail: str = ""


class ReportBatch:
    """Applies reports to the workers they come from, and remembers which bots' status may have moved."""

    def __init__(self, tx: Transaction, reports: Sequence[Report]) -> None:
        self._tx = tx
        self._before = find_workers(tx.conn, [report.worker for report in reports])
        self._now = dict(self._before)
        self._bot_reports: list[tuple[str, BotReport]] = []
        self._touched: set[str] = set()

    def apply(self, report: Report) -> Renewal:
        worker = self._now.get(report.worker)
        if worker is None or not _holds(worker, report, self._tx.now):
            return Renewal(report.worker, report.sequence, ReportOutcome.LEASE_LOST, detail=LEASE_LOST_DETAIL)
        if report.leaving:
            self._now[worker.id] = end(worker, self._tx.now)
            self._touched.update(worker.bots)
            return Renewal(worker.id, report.sequence, ReportOutcome.LEFT)
        after = renew(worker, report, self._tx.now)
        refused: set[str] = set()
        if report.served is not None:
            after, refused = self._serve(after, report.served)
        served = frozenset(after.bots)
        for each in report.bots:
            if each.bot in served:
                self._bot_reports.append((worker.id, each))
                self._touched.add(each.bot)
            else:
                refused.add(each.bot)
        if worker.state is WorkerState.SUSPECT:
            self._touched.update(after.bots)
        self._now[worker.id] = after
        return Renewal(
            worker.id,
            report.sequence,
            ReportOutcome.RENEWED,
            after.lease.duration_s,
            after.drain,
            after.drain_deadline,
            tuple(sorted(refused)),
            after.drain_reason if after.drain else "",
        )

    def finish(self) -> None:
        save_workers(self._tx, [(before, self._now[worker]) for worker, before in self._before.items()])
        write_bot_reports(self._tx, self._bot_reports)
        refresh_statuses(self._tx, self._touched)
        settle_draining(self._tx)

    def _serve(self, worker: Worker, wanted: Sequence[str]) -> tuple[Worker, set[str]]:
        served = frozenset(worker.bots)
        bots = find_bots(self._tx.conn, wanted)
        labels = worker.settings.labels
        allowed = {
            bot.id
            for bot in bots.values()
            if may_begin_to_serve(worker, bot)
            # A draining bot's runs in flight end where they are.
            or (bot.id in served and bot.lifecycle is Lifecycle.DRAINING and may_serve(labels, bot.settings))
        }
        drop_servings(self._tx, worker.id, served - allowed)
        add_servings(self._tx, worker.id, sorted(allowed - served))
        self._touched.update(served ^ allowed)
        return replace(worker, bots=tuple(sorted(allowed))), set(wanted) - allowed


def write_reports(conn: Connection, reports: Sequence[Report], now: datetime) -> Sequence[Renewal]:
    tx = Transaction(conn, now)
    batch = ReportBatch(tx, reports)
    renewals = [batch.apply(report) for report in reports]
    batch.finish()
    tx.finish()
    return renewals


def _holds(worker: Worker, report: Report, now: datetime) -> bool:
    return worker.holds_lease and worker.lease.id == report.lease_id and worker.lease.expire_time > now
