"""What workers' leases and reports make of bots: derived status, the end of a drain, and what time alone changes."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, or_, select, update

from registry_service.domain.bot import Bot, bury, resume_if_due
from registry_service.domain.change import StatusChanged
from registry_service.domain.status import BotStatus, Serving, derive, same_but_for_report_time
from registry_service.domain.worker import LISTED_AFTER_END, Worker, WorkerState, after_silence, may_serve, new_lease
from registry_service.models import BOT, SERVING, WORKER
from registry_service.store.bots import batches, purge_bot, save_bot
from registry_service.store.codec import (
    bot_from_row,
    dump_status,
    load_status,
    micros,
    moment,
    serving_from_row,
)
from registry_service.store.log import Transaction
from registry_service.store.workers import (
    drop_servings,
    drop_worker,
    live_workers_of,
    save_workers,
    with_bots,
    workers_serving,
)

_OFFLINE = WorkerState.OFFLINE.value
_SUSPECT = WorkerState.SUSPECT.value


def refresh_statuses(tx: Transaction, bots: Iterable[str]) -> None:
    """Derives the status of each of `bots` anew; writes and logs those that changed."""
    rows = []
    for ids in batches(sorted(set(bots))):
        stored = {bot: load_status(text) for bot, text in _stored_statuses(tx.conn, ids)}
        servings = _live_servings(tx.conn, ids)
        for bot, before in stored.items():
            after = derive(before, servings.get(bot, ()), tx.now)
            if after == before:
                continue
            rows.append({"row_id": bot, "state": after.state.value, "status": dump_status(after)})
            if not same_but_for_report_time(before, after):
                tx.log(StatusChanged(bot, after))
    if rows:
        tx.conn.execute(update(BOT).where(BOT.c.id == bindparam("row_id")), rows)


def current_status(tx: Transaction, bot: Bot) -> BotStatus:
    """The status of a bot whose row is about to be written anyway."""
    return derive(bot.status, _live_servings(tx.conn, [bot.id]).get(bot.id, ()), tx.now)


def release_bot(tx: Transaction, bot: Bot, workers: Iterable[Worker]) -> None:
    """Ends the service of `workers` for the bot; the caller writes the bot's status."""
    changes = []
    for worker in workers:
        drop_servings(tx, worker.id, [bot.id])
        changes.append((worker, replace(worker, bots=tuple(each for each in worker.bots if each != bot.id))))
    save_workers(tx, changes)


def release_misfits(tx: Transaction, bot: Bot) -> Bot:
    """The bot after its settings changed: workers that its brain no longer accepts serve it no more."""
    misfits = [w for w in workers_serving(tx.conn, bot) if not may_serve(w.settings.labels, bot.settings)]
    if not misfits:
        return bot
    release_bot(tx, bot, misfits)
    return replace(bot, status=current_status(tx, bot))


def settle_draining(tx: Transaction) -> None:
    """Makes tombstones of the draining bots whose runs have ended or whose time is up."""
    rows = tx.conn.execute(select(BOT).where(BOT.c.drain_deadline.is_not(None))).mappings().all()
    for row in rows:
        bot = bot_from_row(row)
        if is_drained(tx.conn, bot, tx.now):
            entomb(tx, bot)


def is_drained(conn: Connection, bot: Bot, now: datetime) -> bool:
    """Whether nothing is in flight, by reports made after the deletion was asked for, or the time is up."""
    if bot.removal is None:
        return False
    asked = micros(bot.removal.ask_time)
    return bot.removal.drain_deadline <= now or all(
        report_time is not None and report_time > asked and in_flight == 0
        for report_time, in_flight in live_workers_of(conn, bot.id)
    )


def entomb(tx: Transaction, bot: Bot) -> Bot:
    """The draining bot as a tombstone, written."""
    release_bot(tx, bot, workers_serving(tx.conn, bot))
    return save_bot(tx, bot, replace(bury(bot, tx.now), status=derive(bot.status, (), tx.now)))


def sweep(tx: Transaction) -> None:
    """Makes true what only the passing of time changes: leases, suspensions, drains, tombstones, old entries."""
    now = micros(tx.now)
    _sweep_workers(tx, now)
    for row in tx.conn.execute(select(BOT).where(BOT.c.resume_time <= now)).mappings().all():
        bot = bot_from_row(row)
        save_bot(tx, bot, resume_if_due(bot, tx.now))
    settle_draining(tx)
    for bot_id in tx.conn.execute(select(BOT.c.id).where(BOT.c.purge_time <= now)).scalars().all():
        purge_bot(tx, bot_id)


def next_due(conn: Connection) -> datetime | None:
    """When `sweep` has something to do next, by what is stored; None if nothing ever."""
    live = WORKER.c.state != _OFFLINE
    dropped = conn.execute(select(func.min(WORKER.c.end_time)).where(WORKER.c.state == _OFFLINE)).scalar()
    times = [
        conn.execute(select(func.min(WORKER.c.expire_time)).where(live)).scalar(),
        conn.execute(select(func.min(WORKER.c.drain_deadline)).where(live)).scalar(),
        conn.execute(select(func.min(WORKER.c.suspect_time)).where(live, WORKER.c.state != _SUSPECT)).scalar(),
        None if dropped is None else dropped + micros(moment(0) + LISTED_AFTER_END),
        *conn.execute(
            select(func.min(BOT.c.resume_time), func.min(BOT.c.drain_deadline), func.min(BOT.c.purge_time))
        ).one(),
    ]
    return min((moment(time) for time in times if time is not None), default=None)


def forgive_absence(tx: Transaction) -> None:
    """Gives leases that ran out while no registry was running another term: the silence was ours.

    A running registry ends a lease as soon as it runs out, so only its absence leaves one that is past its time.
    """
    query = select(WORKER).where(WORKER.c.state != _OFFLINE, WORKER.c.expire_time <= micros(tx.now))
    workers = with_bots(tx.conn, tx.conn.execute(query).mappings().all())
    save_workers(tx, [(w, replace(w, lease=new_lease(w.lease.id, w.lease.duration_s, tx.now))) for w in workers])


def _sweep_workers(tx: Transaction, now: int) -> None:
    due = or_(
        WORKER.c.expire_time <= now,
        WORKER.c.drain_deadline <= now,
        (WORKER.c.suspect_time <= now) & (WORKER.c.state != _SUSPECT),
    )
    rows = tx.conn.execute(select(WORKER).where(WORKER.c.state != _OFFLINE, due)).mappings().all()
    changes = [(worker, after_silence(worker, tx.now)) for worker in with_bots(tx.conn, rows)]
    save_workers(tx, changes)
    refresh_statuses(tx, {bot for worker, _ in changes for bot in worker.bots})
    gone = micros(tx.now - LISTED_AFTER_END)
    query = select(WORKER.c.id).where(WORKER.c.state == _OFFLINE, WORKER.c.end_time <= gone)
    for worker_id in tx.conn.execute(query).scalars().all():
        drop_worker(tx, worker_id)


def _stored_statuses(conn: Connection, bots: Iterable[str]) -> Iterable[tuple[str, str]]:
    return conn.execute(select(BOT.c.id, BOT.c.status).where(BOT.c.id.in_(bots))).all()


def _live_servings(conn: Connection, bots: Iterable[str]) -> dict[str, list[Serving]]:
    query = (
        select(SERVING, WORKER.c.state)
        .join_from(SERVING, WORKER, SERVING.c.worker == WORKER.c.id)
        .where(SERVING.c.bot.in_(bots), WORKER.c.state != _OFFLINE)
        .order_by(SERVING.c.worker)
    )
    found: dict[str, list[Serving]] = {}
    for row in conn.execute(query).mappings():
        found.setdefault(row["bot"], []).append(serving_from_row(row, suspect=row["state"] == _SUSPECT))
    return found
