"""Putting messages into mailboxes."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select

from router_service.domain.errors import BacklogFull, IdempotencyKeyReused, MailboxFull, SessionBusy
from router_service.domain.limits import INTERRUPT_RANK
from router_service.domain.mail import NewMessage
from router_service.domain.retry import Backoff
from router_service.domain.state import BusyMode, MessageState
from router_service.models import MESSAGE
from router_service.store import joining
from router_service.store.ending import LOG_NOTHING, end, request_cancel
from router_service.store.items import Send
from router_service.store.work import Box, Work

# As long as workers' names are, so that the row does not grow when it is leased; it means nothing before that.
_NO_WORKER: Final = " " * 32
_JOINING: Final = frozenset({BusyMode.STEER, BusyMode.COLLECT})


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers that an installation may set; times in microseconds."""

    mailbox_limit: int = 10_000
    backlog_limit: int = 100_000
    cancel_grace_us: int = 5_000_000
    lease_us: int = 15_000_000
    backoff: Backoff = Backoff()  # noqa: RUF009 - immutable


def send(work: Work, item: Send, rules: Rules) -> None:
    """Accepts the item's message, or finds it accepted before, or refuses it."""
    message = item.message
    known = work.known.get(message.run)
    if known is not None:
        message_id, content_hash, state, session = known
        if content_hash != message.content_hash:
            item.refusal = IdempotencyKeyReused(message.run, message_id)
            return
        item.id, item.run, item.session = message_id, message.run, session
        item.state, item.duplicate, item.queue_position = MessageState(state), True, 0
        return
    box = work.boxes[message.session]
    if message.mode is BusyMode.REJECT and (box.lease_run is not None or box.queued):
        item.refusal = SessionBusy(message.session, box.lease_run or "")
        return
    if box.queued + box.waiting >= rules.mailbox_limit:
        item.refusal = MailboxFull(message.session, rules.mailbox_limit)
        return
    if work.backlogs[message.bot] >= rules.backlog_limit:
        item.refusal = BacklogFull(message.bot, rules.backlog_limit)
        return
    work.backlogs[message.bot] += 1
    if message.mode is BusyMode.INTERRUPT:
        _interrupt(work, box, rules)
    item.id, item.run, item.session, item.duplicate = message.id, message.run, message.session, False
    item.queue_position = _messages_before(work, box, message)
    item.state = put(work, box, message)
    if message.mode in _JOINING:
        joining.enlist(work, box, message, item.state)
    work.offer(message.session, item.offer)


def put(work: Work, box: Box, message: NewMessage) -> MessageState:
    """Inserts a message that is known to be new."""
    now_us = work.now_us
    delayed = message.not_before_us > now_us
    due_us = message.expire_us
    if delayed:
        box.waiting += 1
        due_us = min(message.not_before_us, due_us) if due_us else message.not_before_us
    else:
        box.queued += 1
    state = MessageState.ACCEPTED if delayed else MessageState.QUEUED
    position = box.next_position
    box.next_position = position + 1
    box.changed = True
    row: list[Any] = [
        message.id,
        message.run,
        message.session,
        position,
        message.rank,
        int(state),
        message.sender,
        message.source,
        message.correlation_id or None,
        message.content_hash or None,
        message.max_attempts,
        0,
        0,
        _NO_WORKER,
        now_us,
        now_us,
        now_us,
        message.not_before_us if delayed else None,
        message.expire_us or None,
        None,
        message.ask_until_us or None,
        due_us or None,
        LOG_NOTHING,
        bool(message.ask_until_us),
        message.origin_id or None,
        message.origin_run or None,
        box.last_message,
        message.draft,
    ]
    box.last_message = message.id
    work.insert(row)
    if message.run != message.id:
        work.known[message.run] = (message.id, message.content_hash, int(state), message.session)
    if due_us:
        work.due(due_us)
    return state


def put_internal(work: Work, message: NewMessage) -> bool:
    """Inserts a reply or a message of an outbox, unless its run exists; a full mailbox does not hinder it."""
    if message.run in work.known:
        return False
    put(work, work.boxes[message.session], message)
    return True


def _interrupt(work: Work, box: Box, rules: Rules) -> None:
    if box.lease_run is not None:
        request_cancel(work, box, "interrupted by a newer message", rules.cancel_grace_us)
    elif box.wait_until is not None and box.queued:
        # The turn to interrupt is between two attempts.
        head = work.heads((box.session,)).get(box.session)
        if head is not None and head.attempt:
            box.queued -= 1
            box.wait_until = None
            end(work, box, head, MessageState.CANCELLED, error_message="interrupted by a newer message")


def _messages_before(work: Work, box: Box, message: NewMessage) -> int:
    live = 0 if box.lease_run is None else 1
    if not box.queued or message.rank == 0:
        return box.queued + live
    if message.rank == INTERRUPT_RANK:
        return live
    columns = MESSAGE.c
    fresh = sum(row[4] <= message.rank for row in work.fresh.get(box.session, ()))
    stored = select(func.count()).where(
        columns.session == box.session, columns.state == int(MessageState.QUEUED), columns.rank <= message.rank
    )
    before: int = fresh + live + work.conn.execute(stored).scalar_one()
    return before
