"""Workers in the database: one row each, and one for each bot that a worker serves."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from registry_service.domain.bot import Bot
from registry_service.domain.change import WorkerChanged, WorkerRemoved
from registry_service.domain.errors import WorkerNotFound
from registry_service.domain.status import BrainHealth
from registry_service.domain.worker import BotReport, Worker, WorkerState, differs_visibly
from registry_service.models import SERVING, WORKER, WORKER_LABEL
from registry_service.store.bots import batches
from registry_service.store.codec import micros, worker_from_row, worker_to_row
from registry_service.store.log import Transaction


def find_worker(conn: Connection, worker: str) -> Worker | None:
    return find_workers(conn, [worker]).get(worker)


def get_worker(conn: Connection, worker: str) -> Worker:
    found = find_worker(conn, worker)
    if found is None:
        raise WorkerNotFound(worker)
    return found


def find_workers(conn: Connection, workers: Iterable[str]) -> dict[str, Worker]:
    """Those of `workers` that exist, by id."""
    found: dict[str, Worker] = {}
    for ids in batches(sorted(set(workers))):
        rows = conn.execute(select(WORKER).where(WORKER.c.id.in_(ids))).mappings().all()
        found.update((worker.id, worker) for worker in with_bots(conn, rows))
    return found


def with_bots(conn: Connection, rows: Sequence[Any]) -> list[Worker]:
    """Worker rows (at most a statement's worth) as workers, with the bots they serve."""
    served: dict[str, list[str]] = {row["id"]: [] for row in rows}
    query = select(SERVING.c.worker, SERVING.c.bot).where(SERVING.c.worker.in_(list(served)))
    for worker, bot in conn.execute(query):
        served[worker].append(bot)
    return [worker_from_row(row, served[row["id"]]) for row in rows]


def live_workers_of(conn: Connection, bot: str) -> Sequence[tuple[int | None, int]]:
    """For each worker that holds a lease for the bot: when it last reported, and its runs of the bot in flight."""
    query = (
        select(WORKER.c.report_time, SERVING.c.in_flight_count)
        .join_from(SERVING, WORKER, SERVING.c.worker == WORKER.c.id)
        .where(SERVING.c.bot == bot, WORKER.c.state != WorkerState.OFFLINE.value)
    )
    return list(conn.execute(query))


def replace_worker(tx: Transaction, before: Worker | None, after: Worker) -> None:
    """Writes and logs a registration, with everything that an earlier one of the same name left behind gone."""
    if before is not None:
        _drop(tx, before.id)
    tx.conn.execute(insert(WORKER), worker_to_row(after))
    labels = [{"worker": after.id, "key": key, "value": value} for key, value in after.settings.labels.items()]
    if labels:
        tx.conn.execute(insert(WORKER_LABEL), labels)
    add_servings(tx, after.id, after.bots)
    tx.log(WorkerChanged(after))


def save_workers(tx: Transaction, changes: Iterable[tuple[Worker, Worker]]) -> None:
    """Writes changed workers (before, after); logs those whose change shows. Labels and servings are not touched."""
    changed = [(before, after) for before, after in changes if before != after]
    if not changed:
        return
    rows = [{**worker_to_row(after), "row_id": after.id} for _, after in changed]
    tx.conn.execute(update(WORKER).where(WORKER.c.id == bindparam("row_id")), rows)
    for before, after in changed:
        if differs_visibly(before, after):
            tx.log(WorkerChanged(after))


def drop_worker(tx: Transaction, worker: str) -> None:
    _drop(tx, worker)
    tx.log(WorkerRemoved(worker))


def add_servings(tx: Transaction, worker: str, bots: Iterable[str]) -> None:
    rows = [
        {
            "worker": worker,
            "bot": bot,
            "in_flight_count": 0,
            "brain_health": BrainHealth.UNSPECIFIED.value,
            "detail": "",
            "report_time": None,
        }
        for bot in bots
    ]
    if rows:
        tx.conn.execute(insert(SERVING), rows)


def drop_servings(tx: Transaction, worker: str, bots: Iterable[str]) -> None:
    for ids in batches(sorted(bots)):
        tx.conn.execute(delete(SERVING).where(SERVING.c.worker == worker, SERVING.c.bot.in_(ids)))


def write_bot_reports(tx: Transaction, reports: Iterable[tuple[str, BotReport]]) -> None:
    """Notes what workers (by id) said about bots they serve."""
    rows = [
        {
            "row_worker": worker,
            "row_bot": report.bot,
            "in_flight_count": report.in_flight_count,
            "brain_health": report.brain_health.value,
            "detail": report.detail,
            "report_time": micros(tx.now),
        }
        for worker, report in reports
    ]
    if rows:
        matching = (SERVING.c.worker == bindparam("row_worker"), SERVING.c.bot == bindparam("row_bot"))
        tx.conn.execute(update(SERVING).where(*matching), rows)


def workers_serving(conn: Connection, bot: Bot) -> list[Worker]:
    ids = conn.execute(select(SERVING.c.worker).where(SERVING.c.bot == bot.id)).scalars()
    return list(find_workers(conn, ids).values())


def _drop(tx: Transaction, worker: str) -> None:
    tx.conn.execute(delete(SERVING).where(SERVING.c.worker == worker))
    tx.conn.execute(delete(WORKER_LABEL).where(WORKER_LABEL.c.worker == worker))
    tx.conn.execute(delete(WORKER).where(WORKER.c.id == worker))
