"""The requests of the unary calls that need more than a field or two taken out of them."""

from collections.abc import Callable
from datetime import datetime, timedelta

from google.protobuf.message import Message

from chassis import resource_names
from chassis.errors import field_invalid
from chassis.idempotency import MAX_REQUEST_ID_LENGTH, fingerprint
from mobot.registry.v1 import registry_service_pb2
from registry_service.convert import checks
from registry_service.convert.bots import from_proto_settings, to_proto_bot
from registry_service.convert.masks import merged, writable_paths
from registry_service.convert.workers import from_proto_worker
from registry_service.domain.bot import Bot, BotSettings, NewBot
from registry_service.domain.worker import Registration
from registry_service.store.lists import ORDERS
from registry_service.store.registry import T, Ticket

MAX_DRAIN = timedelta(hours=24)
MAX_RETENTION = timedelta(days=3650)
_DRAIN = timedelta(seconds=60)
_RETENTION = timedelta(days=30)
_REASON = 512


def to_ticket(request: Message, request_id: str, principal: str, encode: Callable[[T], Message]) -> Ticket[T]:
    """What makes the call repeatable; `encode` makes the response that is kept."""
    checks.text("request_id", request_id, MAX_REQUEST_ID_LENGTH)
    return Ticket(
        principal=principal,
        method=request.DESCRIPTOR.name.removesuffix("Request"),
        request_id=request_id,
        fingerprint=fingerprint(request) if request_id else "",
        encode=lambda result: encode(result).SerializeToString(),
    )


def from_proto_new_bot(request: registry_service_pb2.CreateBotRequest, *, owner: str) -> NewBot:
    bot = request.bot
    bot_id = resource_names.check_bot_id(request.bot_id)
    checks.required("bot", request.HasField("bot"))
    settings = from_proto_settings("bot", bot, bot_id=bot_id, owner=owner, system_labels={})
    return NewBot(bot_id, settings, bot.enabled if bot.HasField("enabled") else True)


def from_proto_update(request: registry_service_pb2.UpdateBotRequest) -> Callable[[Bot], BotSettings]:
    """A function that makes the new settings of the bot as it is stored."""
    checks.required("bot", request.HasField("bot"))
    paths = writable_paths(request.bot, request.update_mask if request.HasField("update_mask") else None)

    def change(stored: Bot) -> BotSettings:
        return from_proto_settings(
            "bot",
            merged(to_proto_bot(stored), request.bot, paths),
            bot_id=stored.id,
            owner=stored.settings.owner,
            system_labels=stored.settings.system_labels,
        )

    return change


def from_proto_drain(request: registry_service_pb2.DeleteBotRequest) -> tuple[timedelta, timedelta]:
    """How long the bot drains, and how long its tombstone is kept."""
    drain = checks.span("drain_timeout", request, "drain_timeout", MAX_DRAIN)
    retention = checks.span("retention", request, "retention", MAX_RETENTION)
    return _DRAIN if drain is None else drain, _RETENTION if retention is None else retention


def from_proto_suspension(request: registry_service_pb2.SuspendBotRequest, now: datetime) -> datetime | None:
    until = checks.time("resume_time", request, "resume_time")
    if until is not None and until <= now:
        raise field_invalid("resume_time", "must be in the future")
    return until


def from_proto_reason(reason: str) -> str:
    return checks.text("reason", reason, _REASON)


def from_proto_order(order_by: str) -> tuple[str, bool]:
    """The field to order by, and whether backwards."""
    field, _, direction = (order_by or "name").strip().partition(" ")
    if field not in ORDERS or direction.strip() not in ("", "asc", "desc"):
        raise field_invalid("order_by", f"must be one of {', '.join(ORDERS)}, with ' desc' for the reverse")
    return field, direction.strip() == "desc"


def from_proto_registration(
    request: registry_service_pb2.RegisterWorkerRequest,
    *,
    new_id: str,
    lease_s: float,
    max_lease_s: float,
    registrant: str,
    trusted: bool,
) -> Registration:
    """`new_id` is the id of a worker that chooses none; `lease_s` the lease of one that wishes nothing."""
    worker_id = resource_names.check_worker_id(request.worker_id) if request.worker_id else new_id
    checks.required("worker", request.HasField("worker"))
    wish = checks.seconds("lease_duration", request, "lease_duration", 1, 3600)
    settings, bots = from_proto_worker("worker", request.worker, worker_id)
    return Registration(
        id=worker_id,
        settings=settings,
        bots=bots,
        lease_s=min(lease_s if wish is None else wish, max_lease_s),
        registrant=registrant,
        trusted=trusted,
    )
