"""Domain objects as rows and as JSON, and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from registry_service.domain.bot import Bot, BotSettings, Capability, Lifecycle, MemorySettings, Removal
from registry_service.domain.brain import BrainKind, EchoBrain, OpenaiBrain, OpenclawBrain, WorkerBrain, kind_of
from registry_service.domain.change import (
    BotChanged,
    BotRemoved,
    Change,
    ChangeKind,
    StatusChanged,
    What,
    WorkerChanged,
    WorkerRemoved,
)
from registry_service.domain.selection import searched_text
from registry_service.domain.status import BotState, BotStatus, BrainHealth, Serving
from registry_service.domain.worker import Lease, Worker, WorkerSettings, WorkerState

Row = Mapping[Any, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BRAINS: Mapping[str, type[EchoBrain] | type[OpenaiBrain] | type[WorkerBrain] | type[OpenclawBrain]] = {
    BrainKind.ECHO: EchoBrain,
    BrainKind.OPENAI: OpenaiBrain,
    BrainKind.WORKER: WorkerBrain,
    BrainKind.OPENCLAW: OpenclawBrain,
}


def micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def micros_or_none(time: datetime | None) -> int | None:
    return None if time is None else micros(time)


def moment(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def bot_to_row(bot: Bot) -> dict[str, Any]:
    """All columns of the bot's row."""
    settings, removal = bot.settings, bot.removal
    return {
        "id": bot.id,
        "uid": bot.uid,
        "revision": bot.revision,
        "settings": _dump({"kind": kind_of(settings.brain), "settings": settings}),
        "display_name": settings.display_name,
        "search_text": searched_text(bot),
        "owner": settings.owner,
        "set_name": settings.set_name,
        "brain_kind": kind_of(settings.brain).value,
        "enabled": bot.enabled,
        "suspended": bot.suspended,
        "state_reason": bot.state_reason,
        "resume_time": micros_or_none(bot.resume_time),
        "lifecycle": bot.lifecycle.value,
        "drain_ask_time": micros(removal.ask_time) if removal else None,
        "drain_deadline": micros(removal.drain_deadline) if removal else None,
        "retention_s": removal.retention_s if removal else None,
        "create_time": micros(bot.create_time),
        "update_time": micros(bot.update_time),
        "delete_time": micros_or_none(bot.delete_time),
        "purge_time": micros_or_none(bot.purge_time),
        "state": bot.status.state.value,
        "status": dump_status(bot.status),
    }


def bot_from_row(row: Row) -> Bot:
    removal = None
    if row["drain_deadline"] is not None:
        removal = Removal(moment(row["drain_ask_time"]), moment(row["drain_deadline"]), row["retention_s"])
    return Bot(
        id=row["id"],
        uid=row["uid"],
        revision=row["revision"],
        settings=_load_settings(row["settings"]),
        enabled=row["enabled"],
        suspended=row["suspended"],
        state_reason=row["state_reason"],
        resume_time=moment_or_none(row["resume_time"]),
        lifecycle=Lifecycle(row["lifecycle"]),
        removal=removal,
        create_time=moment(row["create_time"]),
        update_time=moment(row["update_time"]),
        delete_time=moment_or_none(row["delete_time"]),
        purge_time=moment_or_none(row["purge_time"]),
        status=load_status(row["status"]),
    )


def dump_status(status: BotStatus) -> str:
    return _dump(status)


def load_status(text: str) -> BotStatus:
    raw = orjson.loads(text)
    raw["state"] = BotState(raw["state"])
    raw["brain_health"] = BrainHealth(raw["brain_health"])
    raw["workers"] = tuple(raw["workers"])
    for name in ("since", "report_time"):
        raw[name] = datetime.fromisoformat(raw[name]) if raw[name] else None
    return BotStatus(**raw)


def worker_to_row(worker: Worker) -> dict[str, Any]:
    """All columns of the worker's row; what it serves lies in a table of its own."""
    return {
        "id": worker.id,
        "uid": worker.uid,
        "settings": _dump(worker.settings),
        "registrant": worker.registrant,
        "state": worker.state.value,
        "in_flight_count": worker.in_flight_count,
        "lease_id": worker.lease.id,
        "lease_s": worker.lease.duration_s,
        "suspect_time": micros(worker.lease.suspect_time),
        "expire_time": micros(worker.lease.expire_time),
        "create_time": micros(worker.create_time),
        "report_time": micros_or_none(worker.report_time),
        "drain": worker.drain,
        "drain_time": micros_or_none(worker.drain_time),
        "drain_deadline": micros_or_none(worker.drain_deadline),
        "drain_reason": worker.drain_reason,
        "end_time": micros_or_none(worker.end_time),
    }


def worker_from_row(row: Row, bots: Sequence[str]) -> Worker:
    return Worker(
        id=row["id"],
        uid=row["uid"],
        settings=WorkerSettings(**orjson.loads(row["settings"])),
        bots=tuple(sorted(bots)),
        lease=Lease(row["lease_id"], row["lease_s"], moment(row["suspect_time"]), moment(row["expire_time"])),
        registrant=row["registrant"],
        create_time=moment(row["create_time"]),
        state=WorkerState(row["state"]),
        in_flight_count=row["in_flight_count"],
        report_time=moment_or_none(row["report_time"]),
        drain=row["drain"],
        drain_time=moment_or_none(row["drain_time"]),
        drain_deadline=moment_or_none(row["drain_deadline"]),
        drain_reason=row["drain_reason"],
        end_time=moment_or_none(row["end_time"]),
    )


def serving_from_row(row: Row, *, suspect: bool) -> Serving:
    return Serving(
        worker=row["worker"],
        suspect=suspect,
        in_flight_count=row["in_flight_count"],
        brain_health=BrainHealth(row["brain_health"]),
        detail=row["detail"],
        report_time=moment_or_none(row["report_time"]),
    )


def change_to_row(what: What) -> dict[str, str]:
    """The columns `kind`, `subject` and `payload` of a log entry."""
    match what:
        case BotChanged(bot):
            return {"kind": ChangeKind.BOT, "subject": bot.id, "payload": _dump(bot_to_row(bot))}
        case StatusChanged(bot_id, status):
            return {"kind": ChangeKind.STATUS, "subject": bot_id, "payload": dump_status(status)}
        case BotRemoved(bot_id):
            return {"kind": ChangeKind.BOT_REMOVED, "subject": bot_id, "payload": ""}
        case WorkerChanged(worker):
            # A log entry outlives the lease, whose id is a secret that nobody needs to find there.
            payload = _dump({**worker_to_row(worker), "lease_id": "", "bots": worker.bots})
            return {"kind": ChangeKind.WORKER, "subject": worker.id, "payload": payload}
        case WorkerRemoved(worker_id):
            return {"kind": ChangeKind.WORKER_REMOVED, "subject": worker_id, "payload": ""}


def change_from_row(row: Row) -> Change:
    return Change(row["position"], moment(row["change_time"]), _what(row))


def _what(row: Row) -> What:
    match ChangeKind(row["kind"]):
        case ChangeKind.BOT:
            return BotChanged(bot_from_row(orjson.loads(row["payload"])))
        case ChangeKind.STATUS:
            return StatusChanged(row["subject"], load_status(row["payload"]))
        case ChangeKind.BOT_REMOVED:
            return BotRemoved(row["subject"])
        case ChangeKind.WORKER:
            raw = orjson.loads(row["payload"])
            return WorkerChanged(worker_from_row(raw, raw["bots"]))
        case ChangeKind.WORKER_REMOVED:
            return WorkerRemoved(row["subject"])


def _load_settings(text: str) -> BotSettings:
    document = orjson.loads(text)
    raw = document["settings"]
    raw["brain"] = _BRAINS[document["kind"]](**raw["brain"])
    raw["capabilities"] = tuple(_load_capability(each) for each in raw["capabilities"])
    raw["tools"] = tuple(raw["tools"])
    raw["memory"] = None if raw["memory"] is None else MemorySettings(**raw["memory"])
    return BotSettings(**raw)


def _load_capability(raw: dict[str, Any]) -> Capability:
    for name in ("tags", "examples", "input_modes", "output_modes"):
        raw[name] = tuple(raw[name])
    return Capability(**raw)


def _dump(value: object) -> str:
    return orjson.dumps(value).decode()
