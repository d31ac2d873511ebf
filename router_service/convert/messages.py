"""Stored messages and leases as the contract shows them."""

from collections.abc import Sequence

from mobot.router.v1 import message_pb2
from mobot.session.v1 import event_pb2
from router_service.convert.times import set_time
from router_service.domain.mail import JoinedMessage, Lease
from router_service.domain.state import TERMINAL, MessageState
from router_service.store.fan_items import Publish
from router_service.store.items import Send
from router_service.store.messages import Stats, StoredMessage
from router_service.store.steps import RunMemory


def to_proto_message(stored: StoredMessage, *, with_reply: bool = False) -> message_pb2.Message:
    row = stored.row
    message = message_pb2.Message(
        name=f"messages/{row['id']}",
        run=row["run"],
        session=row["session"],
        state=row["state"],
        attempts=row["attempts"],
        worker=row["worker"] if row["attempts"] else "",
        epoch=row["epoch"],
        sender=row["sender"],
        stop_reason=row["stop_reason"] or "",
        queue_position=stored.queue_position,
    )
    message.draft.ParseFromString(row["draft"])
    if row["error_reason"] or row["error_message"]:
        message.last_error.reason = row["error_reason"] or ""
        message.last_error.message = row["error_message"] or ""
    if row["joined_run"]:
        message.joined_run = row["joined_run"]
    if row["request"]:
        message.decision_request.ParseFromString(row["request"])
    if row["decision"]:
        message.decision.ParseFromString(row["decision"])
    if row["usage"]:
        message.usage.ParseFromString(row["usage"])
    if row["reply_message"]:
        message.reply_message = f"messages/{row['reply_message']}"
    if with_reply:
        message.reply_text = row["reply_text"] or ""
    set_time(message.create_time, row["create_time"])
    if row["attempts"]:
        set_time(message.start_time, row["start_time"])
    if row["state"] in TERMINAL:
        set_time(message.end_time, row["end_time"])
    if row["next_attempt_time"]:
        set_time(message.next_attempt_time, row["next_attempt_time"])
    if stored.lease_expire_us:
        set_time(message.lease_expire_time, stored.lease_expire_us)
    return message


def fill_delivery(
    delivery: message_pb2.Delivery,
    lease: Lease,
    draft: message_pb2.MessageDraft,
    *,
    sequence: int,
    lease_expire_us: int,
    joined: Sequence[tuple[JoinedMessage, message_pb2.MessageDraft]] = (),
    memory: RunMemory | None = None,
) -> None:
    """Fills a delivery in place, which spares a copy of the content."""
    message = delivery.message
    message.name = f"messages/{lease.message_id}"
    message.run = lease.run
    message.session = delivery.session = lease.session
    message.state = message_pb2.MESSAGE_STATE_LEASED
    message.draft.CopyFrom(draft)
    message.attempts = delivery.attempt = lease.attempt
    message.worker = lease.worker
    message.epoch = delivery.epoch = lease.epoch
    message.sender = lease.sender
    set_time(message.create_time, lease.create_us)
    set_time(message.start_time, lease.start_us)
    set_time(delivery.lease_expire_time, lease_expire_us)
    delivery.sequence = sequence
    delivery.bot = lease.bot
    for one, content in joined:
        fill_joined(delivery.collected.add(), one, content, lease.run, epoch=lease.epoch)
    if memory is not None:
        for step, epoch, effect, result in memory.steps:
            delivery.steps.add(
                run=lease.run, epoch=epoch, step=step, result=result, effect=event_pb2.ToolEffect.ValueType(effect)
            )
        if memory.decision:
            delivery.decision.ParseFromString(memory.decision)


def fill_joined(
    message: message_pb2.Message, joined: JoinedMessage, draft: message_pb2.MessageDraft, run: str, *, epoch: int
) -> None:
    """A message that the turn of `run` takes in, or may; `epoch` is 0 while it only may."""
    message.name = f"messages/{joined.message_id}"
    message.run = joined.run
    message.session = joined.session
    message.state = message_pb2.MESSAGE_STATE_RUNNING if epoch else message_pb2.MESSAGE_STATE_QUEUED
    message.joined_run = run if epoch else ""
    message.epoch = epoch
    message.sender = joined.sender
    message.draft.CopyFrom(draft)
    set_time(message.create_time, joined.create_us)


def fill_receipt(receipt: message_pb2.Receipt, item: Send | Publish) -> None:
    receipt.message = f"messages/{item.id}"
    receipt.run = item.run
    receipt.session = item.session
    receipt.state = _STATES[item.state]
    receipt.duplicate = item.duplicate
    receipt.queue_position = item.queue_position
    if isinstance(item, Publish):
        receipt.fan_out_count = item.fan_out


def to_proto_stats(stats: Stats, *, workers: int) -> message_pb2.MailboxStats:
    found = message_pb2.MailboxStats(
        session=stats.session,
        bot=stats.bot,
        queued_count=stats.queued,
        in_flight_count=stats.in_flight,
        dead_letter_count=stats.dead_letters,
        worker_count=workers,
    )
    if stats.oldest_us:
        set_time(found.oldest_time, stats.oldest_us)
    return found


_STATES = {state: message_pb2.MessageState.ValueType(state.value) for state in MessageState}
