"""Runs that stop until a person decides, and go on with the answer."""

from typing import Final

from sqlalchemy import delete, insert, select, update

from router_service.domain.errors import NoDecisionPending
from router_service.domain.limits import RETRY_RANK
from router_service.domain.mail import AskedRun, RetryingRun
from router_service.domain.state import MessageState
from router_service.models import DECISION
from router_service.store import joining
from router_service.store.ending import LOG_QUESTION, LOG_RETRY
from router_service.store.items import Resolve, Settle
from router_service.store.work import Box, Known, Work

_ASK: Final = (
    "id",
    "state",
    "error_reason",
    "error_message",
    "usage",
    "next_attempt_time",
    "lease_expire_time",
    "due_time",
    "log_flags",
)
_RESOLVE: Final = (
    "id",
    "state",
    "rank",
    "max_attempts",
    "error_reason",
    "error_message",
    "next_attempt_time",
    "due_time",
    "log_flags",
)
_D: Final = DECISION.c


def ask(work: Work, box: Box, message: Known, item: Settle) -> None:
    """Stops the run, whose lease is released already; its mailbox goes on."""
    if box.joining:
        joining.put_back(work, box, message.run, release=True)
    work.update(
        _ASK,
        (
            message.message_id,
            int(MessageState.NEEDS_DECISION),
            item.error_reason or None,
            item.error_message or None,
            item.usage or None,
            None,
            None,
            message.expire_us or None,
            LOG_QUESTION,
        ),
    )
    work.due(message.expire_us)
    row = work.rows.get(message.message_id)
    if row is not None:
        row.state = MessageState.NEEDS_DECISION
    work.conn.execute(delete(DECISION).where(_D.message_id == message.message_id))
    asked = {"message_id": message.message_id, "request_time": work.now_us, "request": item.question, "decision": None}
    work.conn.execute(insert(DECISION).values(asked))
    work.batch.effects.append(
        AskedRun(
            message_id=message.message_id,
            run=message.run,
            session=box.session,
            bot=box.bot,
            attempt=message.attempt,
            sender=message.sender,
            request=item.question,
        )
    )


def resolve(work: Work, item: Resolve, _rules: object) -> None:
    """Puts the run back at the head of its mailbox, with one attempt at least."""
    row = work.facts(item.message_id)
    asked = select(_D.request_time).where(_D.message_id == item.message_id)
    if (
        row is None
        or row.state is not MessageState.NEEDS_DECISION
        or work.conn.execute(asked).scalar() != item.asked_us
    ):
        item.refusal = NoDecisionPending(item.run)
        return
    box = work.boxes[item.session]
    work.conn.execute(update(DECISION).where(_D.message_id == item.message_id).values(decision=item.decision))
    work.update(
        _RESOLVE,
        (
            item.message_id,
            int(MessageState.QUEUED),
            RETRY_RANK,
            max(row.max_attempts, row.attempt + 1),
            "DECIDED",
            item.explanation,
            None,
            row.expire_us or None,
            LOG_RETRY,
        ),
    )
    row.state = MessageState.QUEUED
    box.queued += 1
    box.changed = True
    work.batch.effects.append(
        RetryingRun(
            message_id=row.message_id,
            run=row.run,
            session=box.session,
            bot=box.bot,
            attempt=row.attempt,
            epoch=0,
            next_attempt_us=work.now_us,
            error_reason="DECIDED",
            error_message=item.explanation,
        )
    )
    work.offer(item.session, item.offer)
