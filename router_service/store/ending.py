"""Ends of runs and attempts, whoever ended them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from router_service.domain.limits import RETRY_RANK
from router_service.domain.mail import EndedRun, RetryingRun
from router_service.domain.state import MessageState
from router_service.store import joining
from router_service.store.items import CancelAsked
from router_service.store.work import Box, Known, Work

# What the session's log still lacks.
LOG_NOTHING: Final = 1
LOG_RETRY: Final = 2
LOG_END: Final = 3
LOG_QUESTION: Final = 4

_END: Final = (
    "id",
    "state",
    "end_time",
    "error_reason",
    "error_message",
    "usage",
    "stop_reason",
    "reply_text",
    "reply_message",
    "next_attempt_time",
    "lease_expire_time",
    "due_time",
    "log_flags",
)
_RETRY: Final = (
    "id",
    "state",
    "end_time",
    "rank",
    "error_reason",
    "error_message",
    "usage",
    "next_attempt_time",
    "lease_expire_time",
    "due_time",
    "log_flags",
)
_NO_REPLIES: Final[Mapping[str, str]] = MappingProxyType({})
_CANCEL: Final = ("id", "cancel_time", "due_time")


def end(
    work: Work,
    box: Box,
    message: Known,
    state: MessageState,
    *,
    epoch: int = 0,
    error_reason: str = "",
    error_message: str = "",
    usage: bytes = b"",
    stop_reason: str = "",
    reply_text: str = "",
    reply_message: str = "",
    joined_replies: Mapping[str, str] = _NO_REPLIES,
) -> None:
    """Ends the run, and before it the messages that its turn took in; `joined_replies` are the ids of their replies.

    The mailbox's lease and its count of this message are the caller's.
    """
    if box.joining:
        for joined in joining.close(work, box, message):
            _end_one(
                work,
                box,
                joined,
                state,
                error_reason=error_reason,
                error_message=error_message,
                stop_reason=stop_reason,
                reply_text=reply_text,
                reply_message=joined_replies.get(joined.message_id, ""),
            )
    _end_one(
        work,
        box,
        message,
        state,
        epoch=epoch,
        error_reason=error_reason,
        error_message=error_message,
        usage=usage,
        stop_reason=stop_reason,
        reply_text=reply_text,
        reply_message=reply_message,
    )


def _end_one(
    work: Work,
    box: Box,
    message: Known,
    state: MessageState,
    *,
    epoch: int = 0,
    error_reason: str = "",
    error_message: str = "",
    usage: bytes = b"",
    stop_reason: str = "",
    reply_text: str = "",
    reply_message: str = "",
) -> None:
    now_us = work.now_us
    work.update(
        _END,
        (
            message.message_id,
            int(state),
            now_us,
            error_reason or None,
            error_message or None,
            usage or None,
            stop_reason or None,
            reply_text or None,
            reply_message or None,
            None,
            None,
            None,
            LOG_END,
        ),
    )
    row = work.rows.get(message.message_id)
    if row is not None:
        row.state = state
    ended = EndedRun(
        message_id=message.message_id,
        run=message.run,
        session=box.session,
        bot=box.bot,
        state=state,
        attempts=message.attempt,
        epoch=epoch,
        start_us=message.start_us,
        end_us=now_us,
        error_reason=error_reason,
        error_message=error_message,
        usage=usage,
        stop_reason=stop_reason,
        sender=message.sender,
        origin_id=message.origin_id,
        origin_run=message.origin_run,
    )
    work.batch.effects.append(ended)
    if work.spawns:
        spawn = work.spawns.pop(message.message_id, None)
        if spawn is not None:
            work.spawn_ends.append((spawn, ended, reply_text, reply_message))


def retry(
    work: Work,
    box: Box,
    message: Known,
    delay_us: int,
    *,
    epoch: int = 0,
    error_reason: str,
    error_message: str,
    usage: bytes = b"",
) -> None:
    """Puts the run back at the head of its mailbox, which has been released."""
    at_us = work.now_us + delay_us
    due_us = min(at_us, message.expire_us) if message.expire_us else at_us
    if box.joining:
        joining.put_back(work, box, message.run, release=False)
    box.queued += 1
    box.wait_until = at_us if delay_us else None
    box.changed = True
    work.update(
        _RETRY,
        (
            message.message_id,
            int(MessageState.QUEUED),
            work.now_us,
            RETRY_RANK,
            error_reason or None,
            error_message or None,
            usage or None,
            at_us if delay_us else None,
            None,
            due_us if delay_us else (message.expire_us or None),
            LOG_RETRY,
        ),
    )
    row = work.rows.get(message.message_id)
    if row is not None:
        row.state = MessageState.QUEUED
        row.next_attempt_us = at_us if delay_us else 0
    if delay_us or message.expire_us:
        work.due(due_us if delay_us else message.expire_us)
    work.batch.effects.append(
        RetryingRun(
            message_id=message.message_id,
            run=message.run,
            session=box.session,
            bot=box.bot,
            attempt=message.attempt,
            epoch=epoch,
            next_attempt_us=at_us,
            error_reason=error_reason,
            error_message=error_message,
        )
    )


def request_cancel(work: Work, box: Box, reason: str, grace_us: int) -> None:
    """Asks the worker of the live lease to stop; after the grace it loses the lease. Asking again is idle."""
    if box.cancel_time is not None or box.lease_message is None:
        return
    box.cancel_time = work.now_us
    box.changed = True
    due_us = work.now_us + grace_us
    work.update(_CANCEL, (box.lease_message, work.now_us, due_us))
    row = work.rows.get(box.lease_message)
    if row is not None:
        row.cancel_us = work.now_us
    work.due(due_us)
    work.batch.effects.append(CancelAsked(box.session, box.lease_run or "", box.epoch, reason, lost=False))


def take_away(work: Work, box: Box, message: Known, state: MessageState, reason: str, explanation: str) -> None:
    """Ends a live run without its worker, which from now on is fenced off."""
    old_epoch = box.epoch
    run = box.lease_run or ""
    box.release()
    box.epoch += 1
    end(work, box, message, state, epoch=box.epoch, error_reason=reason, error_message=explanation)
    work.batch.effects.append(CancelAsked(box.session, run, old_epoch, explanation, lost=True))


def lose_lease(work: Work, box: Box, message: Known) -> None:
    """The worker is gone: the run is tried again at once, or ends if it was cancelled or its attempts are used up."""
    reason, explanation = "LEASE_EXPIRED", f"{box.lease_worker} was lost while it worked on this"
    if box.cancel_time is not None:
        take_away(work, box, message, MessageState.CANCELLED, "", "cancelled")
    elif message.attempt >= message.max_attempts:
        take_away(work, box, message, MessageState.DEAD_LETTERED, reason, explanation)
    else:
        old_epoch, run = box.epoch, box.lease_run or ""
        box.release()
        box.epoch += 1
        retry(work, box, message, 0, epoch=box.epoch, error_reason=reason, error_message=explanation)
        work.batch.effects.append(CancelAsked(box.session, run, old_epoch, explanation, lost=True))
