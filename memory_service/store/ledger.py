"""Requests that were answered before. The ledger keeps which resource at which version an answer showed, never a text:
what is purged must not live on in it. The answer is made again from the version history."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from chassis import idempotency
from chassis.errors import AppError
from chassis.idempotency import RequestKey
from memory_service.domain.memory import Memory, Outcome, Purged, Put
from memory_service.models import LEDGER
from memory_service.store.memories import MemoryRef, find_memory, find_version
from memory_service.store.transaction import Transaction

T = TypeVar("T")

Shown: TypeAlias = Memory | Purged
"""A memory in an answer; of one that was purged since only the name and uid."""


Ticket: TypeAlias = RequestKey


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one item of many was refused; `code` is the canonical name, such as "ALREADY_EXISTS"."""

    code: str
    reason: str
    message: str
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PutShown:
    """What a put did, as its answer shows it."""

    outcome: Outcome
    memory: Shown


PutAnswer: TypeAlias = PutShown | Refused


def once(
    tx: Transaction,
    ticket: Ticket,
    act: Callable[[], T],
    *,
    record: Callable[[T], Any],
    recall: Callable[[Any], T],
) -> T:
    """Acts, unless the same request was answered before; then makes that answer again.

    `record` gives what to keep of an answer, as JSON values; `recall` makes the answer from it.
    """
    known = find_record(tx, ticket)
    if known is not None:
        return recall(known)
    answer = act()
    if ticket.request_id:
        keep_record(tx, ticket, record(answer))
    return answer


def find_record(tx: Transaction, ticket: Ticket) -> Any | None:  # noqa: ANN401 - JSON
    """What was kept of the answer to the same request, if it was answered before.

    Raises:
        InvalidArgument: REQUEST_ID_REUSED; the id was used for another request.
    """
    kept = idempotency.find(tx.conn, LEDGER, ticket)
    return None if kept is None else json.loads(kept)


def keep_record(tx: Transaction, ticket: Ticket, record: Any) -> None:  # noqa: ANN401 - JSON
    """Nothing for a ticket without a request id."""
    if ticket.request_id:
        idempotency.remember(tx.conn, LEDGER, ticket, response=json.dumps(record).encode(), now=tx.now)


def record_memory(shown: Shown) -> list[Any]:
    if isinstance(shown, Purged):
        _, bot, _, memory_id = shown.name.split("/")
        return [bot, memory_id, shown.uid, 0]
    return [shown.bot, shown.id, shown.uid, shown.version]


def recall_memory(tx: Transaction, record: list[Any]) -> Shown:
    bot, memory_id, uid, version = record
    ref = MemoryRef(bot, memory_id)
    namespace = tx.find(bot)
    stored = None if namespace is None else find_memory(tx.conn, namespace, ref)
    if stored is None or stored.memory.uid != uid:
        return Purged(ref.name, uid)
    return find_version(tx.conn, stored, version) or stored.memory


def show_put(result: Put | AppError) -> PutAnswer:
    if isinstance(result, Put):
        return PutShown(result.outcome, result.memory)
    return show_refusal(result)


def show_refusal(refusal: AppError) -> Refused:
    return Refused(refusal.code, refusal.reason, refusal.message, tuple(refusal.metadata.items()))


def record_put(answer: PutAnswer) -> dict[str, Any]:
    if isinstance(answer, PutShown):
        return {"outcome": int(answer.outcome), "memory": record_memory(answer.memory)}
    return {
        "code": answer.code,
        "reason": answer.reason,
        "message": answer.message,
        "metadata": dict(answer.metadata),
    }


def recall_put(tx: Transaction, record: dict[str, Any]) -> PutAnswer:
    if "outcome" in record:
        return PutShown(Outcome(record["outcome"]), recall_memory(tx, record["memory"]))
    return Refused(record["code"], record["reason"], record["message"], tuple(record["metadata"].items()))


def recall_put_shown(tx: Transaction, record: dict[str, Any]) -> PutShown:
    """The same of a call of its own, whose refusals leave no record."""
    answer = recall_put(tx, record)
    assert isinstance(answer, PutShown)
    return answer
