"""Requests with an id: their effects and the record of their answer in one transaction."""

from collections.abc import Callable
from datetime import UTC, datetime

from chassis import idempotency
from chassis.errors import AppError
from router_service.domain.errors import NotDeadLettered
from router_service.domain.state import MessageState
from router_service.models import LEDGER
from router_service.store.items import GiveUp, Item, Operation, Resolve
from router_service.store.work import Work


def operate(work: Work, item: Operation, do: Callable[[Item], None]) -> None:
    """Does the parts and records the answer; or gives the answer that was recorded before."""
    item.response = b""
    for part in item.parts:
        part.refusal, part.batch = None, work.batch
    try:
        known = idempotency.find(work.conn, LEDGER, item.key)
    except AppError as error:
        item.refusal = error
        return
    if known is not None:
        item.response = known
        return
    if item.strict:
        item.refusal = _first_refusal(work, item)
        if item.refusal is not None:
            return
    for part in item.parts:
        do(part)
        if isinstance(part, Resolve) and part.refusal is not None:
            item.refusal = part.refusal  # nothing was done, and a repetition must not be told that it was
            return
    item.response = item.conclude(item.parts)
    idempotency.remember(
        work.conn,
        LEDGER,
        item.key,
        response=item.response,
        now=datetime.fromtimestamp(work.now_us / 1e6, UTC),
    )


def _first_refusal(work: Work, item: Operation) -> AppError | None:
    for part in item.parts:
        if isinstance(part, GiveUp):
            row = work.facts(part.message_id)
            if row is None or row.state is not MessageState.DEAD_LETTERED:
                return NotDeadLettered(part.message_id)
    return None
