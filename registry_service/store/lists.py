"""Pages of bots and workers, and whole snapshots for watchers. Each is read from one state of the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, and_, exists, func, or_, select
from sqlalchemy.sql import ColumnElement

from registry_service.domain.bot import Bot, Lifecycle
from registry_service.domain.selection import BotFilter, WorkerFilter
from registry_service.domain.worker import Worker
from registry_service.models import BOT, BOT_CAPABILITY, BOT_LABEL, SERVING, WORKER, WORKER_LABEL
from registry_service.store.codec import bot_from_row
from registry_service.store.log import read_position
from registry_service.store.workers import with_bots

T = TypeVar("T")
Position = Sequence[str | int]

ORDERS = ("name", "create_time", "update_time", "display_name")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the place after this page, empty on the last one; `position` is the log's when the page was read."""

    items: tuple[T, ...]
    next: tuple[str | int, ...]
    position: int
    total_count: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is at log position `position`."""

    position: int
    bots: tuple[Bot, ...]
    workers: tuple[Worker, ...]


def list_bots(
    conn: Connection, selected: BotFilter, *, order: str, descending: bool, size: int, after: Position
) -> Page[Bot]:
    """The bots after the place `after` (empty for the first page), ties in the order by id."""
    conditions = _bot_conditions(selected)
    key = BOT.c.id if order == "name" else BOT.c[order]
    query = select(BOT).where(*conditions)
    if after:
        last_key, last_id = after
        beyond = key < last_key if descending else key > last_key
        query = query.where(or_(beyond, and_(key == last_key, BOT.c.id > last_id)))
    query = query.order_by(key.desc() if descending else key.asc(), BOT.c.id).limit(size + 1)
    rows = conn.execute(query).mappings().all()
    total: int = conn.execute(select(func.count()).select_from(BOT).where(*conditions)).scalar_one()
    place = (rows[size - 1][key.name], rows[size - 1]["id"]) if len(rows) > size else ()
    return Page(tuple(bot_from_row(row) for row in rows[:size]), place, read_position(conn), total)


def list_workers(conn: Connection, selected: WorkerFilter, *, size: int, after: Position) -> Page[Worker]:
    query = select(WORKER).where(*_worker_conditions(selected))
    if after:
        query = query.where(WORKER.c.id > after[0])
    rows = conn.execute(query.order_by(WORKER.c.id).limit(size + 1)).mappings().all()
    place = (rows[size - 1]["id"],) if len(rows) > size else ()
    return Page(tuple(with_bots(conn, rows[:size])), place, read_position(conn))


def read_snapshot(conn: Connection, selected: BotFilter, *, workers: bool) -> Snapshot:
    rows = conn.execute(select(BOT).where(*_bot_conditions(selected)).order_by(BOT.c.id)).mappings()
    bots = tuple(bot_from_row(row) for row in rows)
    found: tuple[Worker, ...] = ()
    if workers:
        worker_rows = conn.execute(select(WORKER).order_by(WORKER.c.id)).mappings().all()
        found = tuple(worker for worker in with_bots(conn, worker_rows) if selected.selects_worker(worker))
    return Snapshot(read_position(conn), bots, found)


def _bot_conditions(selected: BotFilter) -> list[ColumnElement[bool]]:
    """The filter in SQL. `BotFilter.selects` says the same of one bot in memory; a test holds them together."""
    conditions: list[ColumnElement[bool]] = []
    if not selected.show_deleted:
        conditions.append(BOT.c.lifecycle != Lifecycle.DELETED.value)
    if selected.bots:
        conditions.append(BOT.c.id.in_(sorted(selected.bots)))
    if selected.states:
        conditions.append(BOT.c.state.in_(_values(selected.states)))
    if selected.brains:
        conditions.append(BOT.c.brain_kind.in_(_values(selected.brains)))
    if selected.enabled is not None:
        conditions.append(BOT.c.enabled.is_(selected.enabled))
    if selected.owner:
        conditions.append(BOT.c.owner == selected.owner)
    if selected.text:
        conditions.append(BOT.c.search_text.contains(selected.text.casefold(), autoescape=True))
    if selected.capability:
        matching = (BOT_CAPABILITY.c.bot == BOT.c.id, BOT_CAPABILITY.c.capability == selected.capability)
        conditions.append(exists().where(*matching))
    for key, value in selected.labels.items():
        conditions.append(
            exists().where(BOT_LABEL.c.bot == BOT.c.id, BOT_LABEL.c.key == key, BOT_LABEL.c.value == value)
        )
    return conditions


def _worker_conditions(selected: WorkerFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if selected.states:
        conditions.append(WORKER.c.state.in_(_values(selected.states)))
    if selected.bot:
        conditions.append(exists().where(SERVING.c.worker == WORKER.c.id, SERVING.c.bot == selected.bot))
    for key, value in selected.labels.items():
        matching = (WORKER_LABEL.c.worker == WORKER.c.id, WORKER_LABEL.c.key == key, WORKER_LABEL.c.value == value)
        conditions.append(exists().where(*matching))
    return conditions


def _values(members: Any) -> list[str]:  # noqa: ANN401 - a set of any string enum
    return sorted(member.value for member in members)
