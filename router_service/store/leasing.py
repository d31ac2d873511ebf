"""Handing the heads of mailboxes to workers, and what happens to a lease while it lives."""

from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import select

from router_service.domain.errors import LeaseLost, NotDeadLettered
from router_service.domain.limits import RETRY_RANK
from router_service.domain.mail import EndedRun, Lease, RetryingRun
from router_service.domain.state import LIVE, MessageState
from router_service.models import ATTACHMENT
from router_service.store import joining
from router_service.store.accepting import Rules, put
from router_service.store.ending import end, lose_lease, request_cancel, take_away
from router_service.store.items import (
    Begin,
    Cancel,
    Due,
    Extend,
    GiveUp,
    Grant,
    Leased,
    LoseLease,
    Offer,
    RaiseEpoch,
    Reject,
    StopAsking,
)
from router_service.store.reads import unlogged_runs
from router_service.store.work import Box, Facts, Work

_LEASE: Final = (
    "id",
    "state",
    "attempts",
    "epoch",
    "worker",
    "start_time",
    "next_attempt_time",
    "lease_expire_time",
    "due_time",
)
# What bears a lease's end of its own, because no stream extends it, says when that was set.
_PULLED: Final = (*_LEASE, "end_time")
_EPOCH: Final = ("id", "epoch")
_STATE: Final = ("id", "state")
_DUE: Final = ("id", "due_time")
_EXTEND: Final = ("id", "lease_expire_time", "due_time")
_EXTENDED: Final = (*_EXTEND, "end_time")
_PROMOTE: Final = ("id", "state", "next_attempt_time", "due_time")
_ASK: Final = ("id", "ask_until")
_GIVE_UP: Final = ("id", "state", "end_time", "error_reason", "error_message")


def grant(work: Work, item: Grant, _rules: Rules) -> None:
    work.offer(item.session, item.offer)


def begin(work: Work, item: Begin, _rules: Rules) -> None:
    box = work.boxes[item.session]
    if box.holds(item.run, item.epoch) and box.lease_message is not None:
        work.update(_STATE, (box.lease_message, int(MessageState.RUNNING)))
        row = work.rows.get(box.lease_message)
        if row is not None:
            row.state = MessageState.RUNNING


def extend(work: Work, item: Extend, rules: Rules) -> None:
    box = work.boxes[item.session]
    row = work.facts(box.lease_message) if box.lease_message is not None else None
    if row is None or not box.holds(item.run, item.epoch):
        item.refusal = LeaseLost(item.run, item.epoch)
        return
    item.expire_us = row.lease_expire_us = work.now_us + item.lease_us
    item.cancel_requested = box.cancel_time is not None
    due_us = _due_us(box, row, rules)
    work.update(_EXTENDED, (row.message_id, item.expire_us, due_us, work.now_us))
    work.due(due_us)


def cancel(work: Work, item: Cancel, rules: Rules) -> None:
    item.done = False
    row = work.facts(item.message_id)
    if row is None:
        return
    box = work.boxes[item.session]
    if row.state in LIVE and box.lease_message == item.message_id:
        request_cancel(work, box, item.reason, rules.cancel_grace_us)
        item.done = True
    elif row.state in (MessageState.ACCEPTED, MessageState.QUEUED):
        _leave_queue(box, row)
        end(work, box, row, MessageState.CANCELLED, error_message=item.reason)
        item.done = True
    elif row.state is MessageState.NEEDS_DECISION:
        end(work, box, row, MessageState.CANCELLED, error_message=item.reason)
        item.done = True
    elif row.state in LIVE and joining.host_of(work, box, item.message_id) == box.lease_run:
        request_cancel(work, box, item.reason, rules.cancel_grace_us)  # it is part of that turn
        item.done = True


def due(work: Work, item: Due, rules: Rules) -> None:
    """Does what a message's due time came for; does nothing if that is done already."""
    row = work.facts(item.message_id)
    if row is None:
        return
    box, now_us = work.boxes[item.session], work.now_us
    expired = bool(row.expire_us) and row.expire_us <= now_us
    if row.state in LIVE and box.lease_message == row.message_id:
        if expired:
            take_away(work, box, row, MessageState.EXPIRED, "EXPIRED", "its expire time passed while it was worked on")
        elif box.cancel_time is not None and (item.hurry or box.cancel_time + rules.cancel_grace_us <= now_us):
            take_away(work, box, row, MessageState.CANCELLED, "", "cancelled; its worker did not stop in time")
        elif row.lease_expire_us and (item.hurry or row.lease_expire_us <= now_us) and not _is_attached(work, box):
            lose_lease(work, box, row)
        else:
            if row.lease_expire_us <= now_us:
                row.lease_expire_us = 0  # its worker's stream keeps it
            due_us = _due_us(box, row, rules)
            work.update(_EXTEND, (row.message_id, row.lease_expire_us or None, due_us or None))
            work.due(due_us)
    elif row.state in (MessageState.ACCEPTED, MessageState.QUEUED):
        if expired:
            _leave_queue(box, row)
            end(work, box, row, MessageState.EXPIRED, error_reason="EXPIRED", error_message="its expire time passed")
        elif row.next_attempt_us <= now_us or (item.hurry and row.state is MessageState.QUEUED):
            _promote(work, box, row)
        else:
            at_us = min(row.next_attempt_us, row.expire_us) if row.expire_us else row.next_attempt_us
            work.update(_DUE, (row.message_id, at_us))
            work.due(at_us)
    elif expired and (row.state in LIVE or row.state is MessageState.NEEDS_DECISION):
        # One that joined a turn, which goes on without it; or one that a person has not decided about.
        end(work, box, row, MessageState.EXPIRED, error_reason="EXPIRED", error_message="its expire time passed")
    else:
        work.update(_DUE, (row.message_id, None))
    work.offer(item.session, item.offer)


def lose(work: Work, item: LoseLease, _rules: Rules) -> None:
    box = work.boxes[item.session]
    if box.lease_message is None or box.lease_worker != item.worker or box.epoch != item.epoch:
        return
    row = work.facts(box.lease_message)
    if row is not None:
        lose_lease(work, box, row)
        work.offer(item.session, item.offer)


def raise_epoch(work: Work, item: RaiseEpoch, _rules: Rules) -> None:
    box, lease = work.boxes[item.session], item.lease
    if not box.holds(lease.run, lease.epoch):
        return
    box.epoch = max(box.epoch, item.mark) + 1
    box.changed = True
    work.update(_EPOCH, (lease.message_id, box.epoch))
    work.batch.effects.append(Leased(replace(lease, epoch=box.epoch), None))


def reject(work: Work, item: Reject, _rules: Rules) -> None:
    box, lease = work.boxes[item.session], item.lease
    if not box.holds(lease.run, lease.epoch):
        return
    box.release()
    end(
        work,
        box,
        lease,
        MessageState.REJECTED,
        error_reason=item.error_reason,
        error_message=item.error_message,
    )
    work.offer(item.session, item.offer)


def give_up(work: Work, item: GiveUp, _rules: Rules) -> None:
    row = work.facts(item.message_id)
    if row is None or row.state is not MessageState.DEAD_LETTERED:
        item.refusal = NotDeadLettered(item.message_id)
        return
    successor = item.successor
    explanation = "given up"
    if successor is not None:
        put(work, work.boxes[item.session], successor)
        explanation = f"put back as messages/{successor.id}"
    row.state = MessageState.FAILED
    reason = "DISCARDED" if successor is None else "REDRIVEN"
    work.update(_GIVE_UP, (item.message_id, int(MessageState.FAILED), work.now_us, reason, explanation))
    work.offer(item.session, item.offer)


def stop_asking(work: Work, item: StopAsking, _rules: Rules) -> None:
    row = work.facts(item.message_id)
    item.ended = row is None or row.state not in (*LIVE, MessageState.ACCEPTED, MessageState.QUEUED)
    if not item.ended:
        work.update(_ASK, (item.message_id, None))


def lease_heads(work: Work, unlogged: Set[str]) -> None:
    """Leases the heads of mailboxes that are free and have an offer. Comes last in a transaction.

    Another replica may have died, or be slow, before it wrote the end of the run before into the session's log: what is
    not in `unlogged` (which this process is writing) is written again by whoever gives the next lease.
    """
    now_us = work.now_us
    ready = {session: offers for session, offers in work.offers.items() if work.boxes[session].ready(now_us)}
    if not ready:
        return
    if not work.single_process:
        _redrive(work, ready, unlogged)
    stored = [session for session in ready if work.boxes[session].queued > len(work.fresh.get(session, ()))]
    heads = work.heads(stored) if stored else {}
    gathering: list[tuple[Box, Lease]] = []
    for session, offers in ready.items():
        box = work.boxes[session]
        head = _first(heads.get(session), work.fresh.get(session, ()))
        if head is None:
            continue
        if head.expire_us and head.expire_us <= now_us:
            _leave_queue(box, head)
            work.flush()
            end(work, box, head, MessageState.EXPIRED, error_reason="EXPIRED", error_message="its expire time passed")
            continue  # the mailbox is reported as ready and comes again
        lease = _lease(work, box, head, offers[0])
        if box.joining:
            gathering.append((box, lease))
    for box, lease in gathering:  # last, because it writes what the loop above looks at
        joining.gather(work, box, lease)


def _redrive(work: Work, sessions: Iterable[str], unlogged: Set[str]) -> None:
    ours = {effect.message_id for effect in work.batch.effects if isinstance(effect, (EndedRun, RetryingRun))}
    work.flush_updates()
    for run in unlogged_runs(work.conn, limit=1_000, sessions=tuple(sessions)):
        if run.message_id not in ours and run.message_id not in unlogged:
            work.batch.effects.append(run)


def _lease(work: Work, box: Box, head: Facts, offer: Offer) -> Lease:
    now_us = work.now_us
    box.epoch += 1
    box.queued -= 1
    box.wait_until = None
    box.lease_message, box.lease_run, box.lease_worker = head.message_id, head.run, offer.worker
    box.lease_attempt = attempt = head.attempt + 1
    box.changed = True
    start_us = head.start_us or now_us
    lease_expire_us = now_us + offer.lease_us if offer.lease_us else 0
    due_us = min(filter(None, (lease_expire_us, head.expire_us)), default=0)
    values = (
        int(MessageState.LEASED),
        attempt,
        box.epoch,
        offer.worker,
        start_us,
        None,
        lease_expire_us or None,
        due_us or None,
    )
    if head.fresh is not None:
        _overwrite(head.fresh, values, set_us=now_us)
    elif lease_expire_us:
        work.update(_PULLED, (head.message_id, *values, now_us))
    else:
        work.update(_LEASE, (head.message_id, *values))
    if due_us:
        work.due(due_us)
    lease = Lease(
        message_id=head.message_id,
        run=head.run,
        session=box.session,
        bot=box.bot,
        worker=offer.worker,
        epoch=box.epoch,
        attempt=attempt,
        max_attempts=head.max_attempts,
        start_us=start_us,
        create_us=head.create_us,
        sender=head.sender,
        asked=bool(head.asked),
        origin_id=head.origin_id,
        origin_run=head.origin_run,
        expire_us=head.expire_us,
        pulled_until_us=lease_expire_us,
    )
    work.batch.effects.append(Leased(lease, offer))
    work.batch.used.add(id(offer))
    return lease


def _overwrite(row: list[Any], values: tuple[Any, ...], *, set_us: int) -> None:
    # Places among the insert's columns.
    state, attempts, epoch, worker, start, next_attempt, lease_expire, due_time = values
    row[5] = state
    row[11:14] = (attempts, epoch, worker)
    row[15], row[16], row[17] = start, set_us, next_attempt
    row[19], row[21] = lease_expire, due_time


def _first(stored: Facts | None, fresh: Any) -> Facts | None:  # noqa: ANN401 - rows as inserted
    best = stored
    for row in fresh:
        if row[5] != MessageState.QUEUED:
            continue
        if best is None or (row[4], row[3]) < (best.rank, best.position):
            best = Facts.of_fresh(row)
    return best


def _leave_queue(box: Box, row: Facts) -> None:
    if row.state is MessageState.ACCEPTED:
        box.waiting -= 1
    else:
        box.queued -= 1
        if row.rank == RETRY_RANK and box.wait_until is not None:
            box.wait_until = None  # it was the head
    box.changed = True


def _promote(work: Work, box: Box, row: Facts) -> None:
    if row.state is MessageState.ACCEPTED:
        box.waiting -= 1
        box.queued += 1
    else:
        box.wait_until = None
    box.changed = True
    row.state, row.next_attempt_us = MessageState.QUEUED, 0
    work.update(_PROMOTE, (row.message_id, int(MessageState.QUEUED), None, row.expire_us or None))
    work.due(row.expire_us)


def _due_us(box: Box, row: Facts, rules: Rules) -> int:
    """When a timer must look at a leased message (0: never): extending its lease does not put off a cancelled run."""
    cancel_us = 0 if box.cancel_time is None else box.cancel_time + rules.cancel_grace_us
    return min(filter(None, (row.lease_expire_us, row.expire_us, cancel_us)), default=0)


def _is_attached(work: Work, box: Box) -> bool:
    columns = ATTACHMENT.c
    live = select(columns.worker).where(columns.worker == box.lease_worker, columns.expire_time > work.now_us)
    return work.conn.execute(live).first() is not None
