"""Workers, their reports and the answers to them, both ways."""

from collections.abc import Collection, Iterable, Mapping

from chassis import resource_names
from chassis.errors import field_invalid
from mobot.registry.v1 import worker_pb2
from registry_service.convert import checks
from registry_service.convert.bots import HEALTHS, to_proto_bot, to_proto_time
from registry_service.convert.brains import to_proto_seconds
from registry_service.domain.selection import WorkerFilter
from registry_service.domain.status import BrainHealth
from registry_service.domain.worker import (
    Ack,
    BotReport,
    Report,
    ReportOutcome,
    Worker,
    WorkerSettings,
    WorkerState,
)

STATES: Mapping[WorkerState, worker_pb2.WorkerState.ValueType] = {
    each: worker_pb2.WorkerState.Value(f"WORKER_STATE_{each.value}") for each in WorkerState
}
_STATE_OF: Mapping[int, WorkerState] = {number: state for state, number in STATES.items()}
_HEALTH_OF: Mapping[int, BrainHealth] = {number: health for health, number in HEALTHS.items()}
_OUTCOMES: Mapping[ReportOutcome, worker_pb2.ReportOutcome.ValueType] = {
    each: worker_pb2.ReportOutcome.Value(f"REPORT_OUTCOME_{each.value}") for each in ReportOutcome
}
_MAX_BOTS = 1_000


def to_proto_worker(worker: Worker) -> worker_pb2.Worker:
    settings = worker.settings
    return worker_pb2.Worker(
        name=worker.name,
        uid=worker.uid,
        bots=[f"bots/{bot}" for bot in worker.bots],
        state=STATES[worker.state],
        in_flight_count=worker.in_flight_count,
        capacity=settings.capacity,
        expire_time=to_proto_time(worker.lease.expire_time),
        drain=worker.drain,
        contract_major_version=settings.contract_major_version,
        contract_minor_version=settings.contract_minor_version,
        host=settings.host,
        process_id=settings.process_id,
        software_version=settings.software_version,
        labels=settings.labels,
        display_name=settings.display_name,
        create_time=to_proto_time(worker.create_time),
        report_time=to_proto_time(worker.report_time),
        drain_time=to_proto_time(worker.drain_time),
        drain_reason=worker.drain_reason,
    )


def from_proto_worker(field: str, worker: worker_pb2.Worker, worker_id: str) -> tuple[WorkerSettings, tuple[str, ...]]:
    """What the worker says of itself, and the ids of the bots it serves."""
    if worker.contract_major_version < 1:
        raise field_invalid(f"{field}.contract_major_version", "is required and must be 1 or more")
    settings = WorkerSettings(
        contract_major_version=worker.contract_major_version,
        contract_minor_version=checks.not_negative(f"{field}.contract_minor_version", worker.contract_minor_version),
        capacity=checks.between(f"{field}.capacity", worker.capacity, 0, 100_000),
        host=checks.text(f"{field}.host", worker.host, 255),
        process_id=checks.not_negative(f"{field}.process_id", worker.process_id),
        software_version=checks.text(f"{field}.software_version", worker.software_version, 128),
        labels=checks.labels(f"{field}.labels", worker.labels),
        display_name=checks.printable(f"{field}.display_name", worker.display_name, 128) or worker_id,
    )
    return settings, _bots(f"{field}.bots", worker.bots)


def from_proto_worker_filter(bot: str, states: Collection[int], labels: Mapping[str, str]) -> WorkerFilter:
    return WorkerFilter(
        bot=resource_names.parse_bot(bot, field="bot") if bot else "",
        states=frozenset(_state(number) for number in states),
        labels=checks.labels("labels", labels, count=16),
    )


def from_proto_report(field: str, report: worker_pb2.WorkerReport) -> Report:
    checks.at_most(f"{field}.bots", report.bots, _MAX_BOTS)
    served = None
    if report.HasField("served_bots"):
        served = _bots(f"{field}.served_bots.bots", report.served_bots.bots)
    return Report(
        worker=resource_names.parse_worker(report.worker, field=f"{field}.worker"),
        lease_id=report.lease_id,
        sequence=checks.not_negative(f"{field}.sequence", report.sequence),
        in_flight_count=checks.not_negative(f"{field}.in_flight_count", report.in_flight_count),
        bots=tuple(_bot_report(f"{field}.bots[{index}]", each) for index, each in enumerate(report.bots)),
        served=served,
        draining=report.draining,
        leaving=report.leaving,
    )


def to_proto_ack(ack: Ack) -> worker_pb2.ReportAck:
    return worker_pb2.ReportAck(
        worker=f"workers/{ack.worker}",
        sequence=ack.sequence,
        outcome=_OUTCOMES[ack.outcome],
        lease_duration=to_proto_seconds(ack.lease_s),
        drain=ack.drain,
        drain_deadline=to_proto_time(ack.drain_deadline),
        changed_bots=[to_proto_bot(bot) for bot in ack.changed_bots],
        removed_bots=[f"bots/{bot}" for bot in ack.removed_bots],
        detail=ack.detail[:512],
    )


def _bots(field: str, names: Iterable[str]) -> tuple[str, ...]:
    values = list(names)
    checks.at_most(field, values, _MAX_BOTS)
    ids = [resource_names.parse_bot(name, field=f"{field}[{index}]") for index, name in enumerate(values)]
    return checks.unique(field, ids)


def _bot_report(field: str, report: worker_pb2.BotReport) -> BotReport:
    return BotReport(
        bot=resource_names.parse_bot(report.bot, field=f"{field}.bot"),
        in_flight_count=checks.not_negative(f"{field}.in_flight_count", report.in_flight_count),
        brain_health=_HEALTH_OF.get(report.brain_health, BrainHealth.UNSPECIFIED),
        detail=checks.text(f"{field}.detail", report.detail, 512),
    )


def _state(number: int) -> WorkerState:
    state = _STATE_OF.get(number)
    if state is None:
        raise field_invalid("states", f"holds {number}, which names nothing to select")
    return state
