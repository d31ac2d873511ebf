"""The worker: a process that serves bots for as long as it renews its lease."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from registry_service.domain.bot import Bot, BotSettings, Lifecycle
from registry_service.domain.brain import WorkerBrain
from registry_service.domain.errors import WorkerLeaseLost, WorkerVersionUnsupported
from registry_service.domain.status import BrainHealth

CONTRACT_MAJOR_VERSION = 1
HEARTBEATS_PER_LEASE = 3
# One interval and a half: a report that is a little late is not yet a missed one.
MISSED_AFTER_INTERVALS = 1.5
LISTED_AFTER_END = timedelta(hours=24)


class WorkerState(StrEnum):
    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    SUSPECT = "SUSPECT"
    OFFLINE = "OFFLINE"


class ReportOutcome(StrEnum):
    RENEWED = "RENEWED"
    LEASE_LOST = "LEASE_LOST"
    LEFT = "LEFT"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker says of itself when it registers."""

    contract_major_version: int
    contract_minor_version: int = 0
    capacity: int = 0
    host: str = ""
    process_id: int = 0
    software_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """`id` is the secret of one registration. `suspect_time` is when silence begins to count as a missed heartbeat."""

    id: str
    duration_s: float
    suspect_time: datetime
    expire_time: datetime

    @property
    def heartbeat_interval_s(self) -> float:
        return self.duration_s / HEARTBEATS_PER_LEASE


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as stored. `registrant` is the principal it was registered for; `end_time` is when its lease ended."""

    id: str
    uid: str
    settings: WorkerSettings
    bots: tuple[str, ...]
    lease: Lease
    registrant: str
    create_time: datetime
    state: WorkerState = WorkerState.ACTIVE
    in_flight_count: int = 0
    report_time: datetime | None = None
    drain: bool = False
    drain_time: datetime | None = None
    drain_deadline: datetime | None = None
    drain_reason: str = ""
    end_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"workers/{self.id}"

    @property
    def holds_lease(self) -> bool:
        return self.state is not WorkerState.OFFLINE


@dataclass(frozen=True, slots=True)
class Registration:
    """What RegisterWorker asks for."""

    id: str
    settings: WorkerSettings
    bots: tuple[str, ...]
    lease_s: float
    registrant: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class BotReport:
    """What a worker says about one bot it serves."""

    bot: str
    in_flight_count: int
    brain_health: BrainHealth
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """One heartbeat. `served` replaces the set of bots when it is not None."""

    worker: str
    lease_id: str
    sequence: int
    in_flight_count: int
    bots: tuple[BotReport, ...] = ()
    served: tuple[str, ...] | None = None
    draining: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a report, or a notice. `lease_s` is None unless the lease was renewed; `removed_bots` are ids."""

    worker: str
    sequence: int
    outcome: ReportOutcome
    lease_s: float | None = None
    drain: bool = False
    drain_deadline: datetime | None = None
    changed_bots: tuple[Bot, ...] = ()
    removed_bots: tuple[str, ...] = ()
    detail: str = ""


def check_version(worker: str, settings: WorkerSettings) -> None:
    if settings.contract_major_version != CONTRACT_MAJOR_VERSION:
        raise WorkerVersionUnsupported(worker, settings.contract_major_version, CONTRACT_MAJOR_VERSION)


def new_lease(lease_id: str, duration_s: float, now: datetime) -> Lease:
    missed_s = duration_s / HEARTBEATS_PER_LEASE * MISSED_AFTER_INTERVALS
    return Lease(lease_id, duration_s, now + timedelta(seconds=missed_s), now + timedelta(seconds=duration_s))


def may_serve(labels: Mapping[str, str], bot: BotSettings) -> bool:
    """Whether a worker with `labels` carries what the bot's brain demands of its workers."""
    if not isinstance(bot.brain, WorkerBrain):
        return True
    return all(labels.get(key) == value for key, value in bot.brain.worker_labels.items())


def may_begin_to_serve(worker: Worker, bot: Bot | None) -> bool:
    """Whether `worker` may add `bot` (None if there is no such bot) to what it serves.

    A worker that a bot registered for itself serves nobody else.
    """
    if bot is None or bot.lifecycle is not Lifecycle.ACTIVE or not may_serve(worker.settings.labels, bot.settings):
        return False
    return not worker.registrant.startswith("bots/") or worker.registrant == bot.name


def renew(worker: Worker, report: Report, now: datetime) -> Worker:
    """The worker after a report that carried the right lease id in time."""
    drain = worker.drain or report.draining
    return replace(
        worker,
        lease=new_lease(worker.lease.id, worker.lease.duration_s, now),
        state=WorkerState.DRAINING if drain else WorkerState.ACTIVE,
        in_flight_count=report.in_flight_count,
        report_time=now,
        drain=drain,
        drain_time=worker.drain_time or (now if drain else None),
    )


def ask_to_drain(worker: Worker, *, timeout: timedelta | None, reason: str, now: datetime) -> Worker:
    if not worker.holds_lease or worker.lease.expire_time <= now:
        raise WorkerLeaseLost(worker.id)
    return replace(
        worker,
        drain=True,
        state=WorkerState.DRAINING if worker.state is WorkerState.ACTIVE else worker.state,
        drain_time=worker.drain_time or now,
        drain_deadline=None if timeout is None else now + timeout,
        drain_reason=reason,
    )


def end(worker: Worker, now: datetime) -> Worker:
    """The worker without its lease. What it had in flight is no longer its own."""
    return replace(worker, state=WorkerState.OFFLINE, in_flight_count=0, end_time=now)


def after_silence(worker: Worker, now: datetime) -> Worker:
    """What time alone makes of a worker: suspect after a missed heartbeat, offline after its lease or its drain."""
    if not worker.holds_lease:
        return worker
    drained_out = worker.drain_deadline is not None and worker.drain_deadline <= now
    if worker.lease.expire_time <= now or drained_out:
        return end(worker, now)
    if worker.lease.suspect_time <= now:
        return replace(worker, state=WorkerState.SUSPECT)
    return worker


def differs_visibly(before: Worker, after: Worker) -> bool:
    """Whether a watcher shall hear of the change: a renewed lease and a newer report time alone are not worth it."""
    return replace(before, lease=after.lease, report_time=after.report_time) != after or before.uid != after.uid
