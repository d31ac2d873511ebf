"""Watches: the request, and frames of changes."""

from collections.abc import Callable, Mapping

from mobot.registry.v1 import registry_service_pb2
from registry_service.convert import checks
from registry_service.convert.bots import from_proto_filter, to_proto_bot, to_proto_status, to_proto_time
from registry_service.convert.tokens import Tokens
from registry_service.convert.workers import to_proto_worker
from registry_service.domain.change import (
    BotChanged,
    BotRemoved,
    Change,
    Frame,
    Phase,
    StatusChanged,
    WatchOrder,
    WorkerChanged,
    WorkerRemoved,
)
from registry_service.domain.selection import BotFilter

_PHASES: Mapping[Phase, registry_service_pb2.WatchPhase.ValueType] = {
    each: registry_service_pb2.WatchPhase.Value(f"WATCH_PHASE_{each.value}") for each in Phase
}
_WINDOW = 4_096
_MAX_BATCH = 256
_CHECKPOINT_S = 15.0


def from_proto_watch(request: registry_service_pb2.WatchBotsRequest, tokens: Tokens) -> WatchOrder:
    checkpoint_s = checks.seconds("checkpoint_interval", request, "checkpoint_interval", 1, 600)
    return WatchOrder(
        selected=from_proto_filter("filter", request.filter) if request.HasField("filter") else BotFilter(),
        after=tokens.position(request.resume_token) if request.resume_token else None,
        workers=request.include_workers,
        window=checks.between("window", request.window or _WINDOW, 1, 100_000),
        max_batch=checks.between("max_batch_size", request.max_batch_size or _MAX_BATCH, 1, 1_000),
        checkpoint_s=_CHECKPOINT_S if checkpoint_s is None else checkpoint_s,
        fail_when_too_old=request.fail_when_too_old,
    )


def to_proto_frame(frame: Frame, token: Callable[[int], str]) -> registry_service_pb2.WatchBotsResponse:
    return registry_service_pb2.WatchBotsResponse(
        changes=[to_proto_change(change) for change in frame.changes],
        resume_token="" if frame.position is None else token(frame.position),
        phase=_PHASES[frame.phase],
    )


def to_proto_change(change: Change) -> registry_service_pb2.RegistryChange:
    message = registry_service_pb2.RegistryChange(revision=change.position, change_time=to_proto_time(change.time))
    match change.what:
        case BotChanged(bot):
            message.bot.CopyFrom(to_proto_bot(bot))
        case StatusChanged(bot_id, status):
            message.bot_status.bot = f"bots/{bot_id}"
            message.bot_status.status.CopyFrom(to_proto_status(status))
        case BotRemoved(bot_id):
            message.removed_bot = f"bots/{bot_id}"
        case WorkerChanged(worker):
            message.worker.CopyFrom(to_proto_worker(worker))
        case WorkerRemoved(worker_id):
            message.removed_worker = f"workers/{worker_id}"
    return message
