"""Completions and failures: the ends that workers report."""

from collections.abc import Callable

from sqlalchemy import select

from router_service.domain.errors import LeaseLost, MessageNotFound, RunEnded
from router_service.domain.retry import FailedAttempt, judge
from router_service.domain.state import TERMINAL, MessageState
from router_service.models import MESSAGE
from router_service.store import deciding, joining
from router_service.store.accepting import Rules, put_internal
from router_service.store.ending import end, retry
from router_service.store.items import Settle
from router_service.store.work import Box, Known, Work

_FAILED = frozenset(
    {
        MessageState.FAILED,
        MessageState.CANCELLED,
        MessageState.DEAD_LETTERED,
        MessageState.EXPIRED,
        MessageState.NEEDS_DECISION,
    }
)


def settle(work: Work, item: Settle, rules: Rules, random: Callable[[], float]) -> None:
    """Ends the attempt if its lease lives; answers again what was answered before; refuses everything else."""
    box = work.boxes[item.session]
    if not box.holds(item.run, item.epoch):
        _answer_late(work, item)
        return
    message: Known | None = item.lease or work.facts(box.lease_message or "")
    if message is None:
        item.refusal = MessageNotFound(item.run)
        return
    cancelled = box.cancel_time is not None
    box.release()
    if item.succeeded:
        _complete(work, box, item, message)
    else:
        _fail(work, box, item, message, rules, random, cancel_requested=cancelled)
    work.offer(item.session, item.offer)


def _complete(work: Work, box: Box, item: Settle, message: Known) -> None:
    joined_replies: dict[str, str] = {}
    if item.joined_replies and box.joining:
        for message_id, answer in item.joined_replies:
            joined_here = joining.host_of(work, box, message_id) == message.run
            if joined_here and not _still_asked(work, message_id) and put_internal(work, answer):
                joined_replies[message_id] = answer.id
    reply = item.reply
    if reply is not None and message.asked and _still_asked(work, message.message_id):
        reply = None  # whoever asked gets the answer itself
    if reply is not None and put_internal(work, reply):
        work.offer(reply.session, item.reply_offer)
    for mail in item.outbox:
        put_internal(work, mail)
    item.state = MessageState.SUCCEEDED
    end(
        work,
        box,
        message,
        MessageState.SUCCEEDED,
        usage=item.usage,
        stop_reason=item.stop_reason,
        reply_text=item.reply_text,
        reply_message=reply.id if reply is not None else "",
        joined_replies=joined_replies,
    )


def _fail(
    work: Work,
    box: Box,
    item: Settle,
    message: Known,
    rules: Rules,
    random: Callable[[], float],
    *,
    cancel_requested: bool,
) -> None:
    attempt = FailedAttempt(
        attempts=message.attempt,
        max_attempts=message.max_attempts,
        retryable=item.retryable,
        cancelled=item.cancelled,
        retry_delay_us=item.retry_delay_us,
    )
    if item.question and not item.cancelled and not cancel_requested:
        item.state = MessageState.NEEDS_DECISION
        deciding.ask(work, box, message, item)
        return
    verdict = judge(attempt, cancel_requested=cancel_requested, backoff=rules.backoff, random=random)
    item.state = verdict.state
    if verdict.state is MessageState.QUEUED:
        retry(
            work,
            box,
            message,
            verdict.delay_us,
            error_reason=item.error_reason,
            error_message=item.error_message,
            usage=item.usage,
        )
    else:
        end(
            work,
            box,
            message,
            verdict.state,
            error_reason=item.error_reason,
            error_message=item.error_message,
            usage=item.usage,
            stop_reason="aborted" if verdict.state is MessageState.CANCELLED else "",
        )


def _answer_late(work: Work, item: Settle) -> None:
    row = work.facts_of_run(item.run)
    if row is None:
        item.refusal = MessageNotFound(item.run)
        return
    item.state = row.state
    # A worker that did not hear the answer says it again.
    repeated = (row.state is MessageState.SUCCEEDED) if item.succeeded else (row.state in _FAILED)
    if row.epoch == item.epoch and repeated:
        return
    if row.state in TERMINAL:
        item.refusal = RunEnded(item.run, row.state)
    else:
        item.refusal = LeaseLost(item.run, item.epoch)


def _still_asked(work: Work, message_id: str) -> bool:
    columns = MESSAGE.c
    asked = select(columns.id).where(columns.id == message_id, columns.ask_until > work.now_us)
    return work.conn.execute(asked).first() is not None
