"""Messages that are worked on in the turn of another one: collected when it begins, or handed to it while it runs.

Only mailboxes with a `joining` count above 0 come here; everybody else pays nothing for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, insert, select, text, update

from router_service.domain.limits import MAX_JOINED, MAX_PARTS_BYTES
from router_service.domain.mail import JoinedMessage, Lease, NewMessage
from router_service.domain.state import LIVE, BusyMode, MessageState
from router_service.models import JOINING, MESSAGE
from router_service.store.items import Join, Steered
from router_service.store.work import Box, Facts, Known, Work

WAITS: Final = 1
JOINED: Final = 2
CLOSED: Final = 3

_JOIN: Final = (
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
_STATE: Final = ("id", "state")
_J: Final = JOINING.c
_M: Final = MESSAGE.c


@dataclass(frozen=True, slots=True)
class _Row:
    message_id: str
    mode: int
    state: int
    run: str | None


def enlist(work: Work, box: Box, message: NewMessage, state: MessageState) -> None:
    """Notes a message of the mode STEER or COLLECT that was just put into its mailbox; offers it to a running turn."""
    host = None
    if message.mode is BusyMode.STEER and box.cancel_time is None and state is MessageState.QUEUED:
        host = box.lease_run
    values = {
        "message_id": message.id,
        "session": message.session,
        "mode": int(message.mode),
        "state": WAITS,
        "run": host,
    }
    work.conn.execute(insert(JOINING).values(values))
    box.joining += 1
    box.changed = True
    if host is not None:
        offered = JoinedMessage(
            message_id=message.id,
            run=message.run,
            session=message.session,
            sender=message.sender,
            create_us=work.now_us,
            origin_id=message.origin_id,
            origin_run=message.origin_run,
        )
        work.batch.effects.append(Steered(host, box.epoch, offered))


def gather(work: Work, box: Box, lease: Lease) -> None:
    """Adds to a lease just given what is to be worked on in its turn, and offers again what was offered before."""
    work.flush()
    rows = {row.message_id: row for row in _open(work, box)}
    ids = [row.message_id for row in rows.values() if row.state == JOINED and row.run == lease.run]
    own = rows.get(lease.message_id)
    if own is not None and own.mode == BusyMode.COLLECT:
        ids.extend(_neighbours(work, lease, rows, room=MAX_JOINED - len(ids)))
    joined = [facts for facts in map(work.facts, ids) if facts is not None and facts.state is MessageState.QUEUED]
    joined.sort(key=lambda facts: (facts.rank, facts.position))
    for facts in joined:
        _join(work, box, facts, run=lease.run, epoch=lease.epoch, worker=lease.worker)
    lease.joined = tuple(_message(facts) for facts in joined)
    for row in rows.values():
        if row.state == WAITS and row.run == lease.run and row.message_id != lease.message_id:
            waiting = work.facts(row.message_id)
            if waiting is not None and waiting.state is MessageState.QUEUED:
                work.batch.effects.append(Steered(lease.run, lease.epoch, _message(waiting)))


def join(work: Work, item: Join, _rules: object) -> None:
    """A running turn says that it took a message in."""
    item.done = False
    box = work.boxes[item.session]
    if not box.joining or not box.holds(item.run, item.epoch):
        return
    row = next((row for row in _open(work, box) if row.message_id == item.message_id), None)
    facts = work.facts(item.message_id)
    if row is None or facts is None or row.run != item.run:
        return
    if row.state == WAITS and facts.state is MessageState.QUEUED:
        _join(work, box, facts, run=item.run, epoch=item.epoch, worker=box.lease_worker or "")
        item.done = True


def close(work: Work, box: Box, message: Known) -> list[Facts]:
    """The run ends: returns the messages that end with it, in order, and lets go of those that were only offered."""
    rows = _open(work, box)
    mine = [row.message_id for row in rows if row.state == JOINED and row.run == message.run]
    own = [row.message_id for row in rows if row.message_id == message.message_id]
    offered = [row.message_id for row in rows if row.state == WAITS and row.run == message.run]
    if mine or own:
        _mark(work, (*mine, *own), state=CLOSED)
        box.joining -= len(mine) + len(own)
        box.changed = True
    if offered:
        work.conn.execute(update(JOINING).where(_J.message_id.in_(offered)).values(run=None))
    found = [facts for facts in map(work.facts, mine) if facts is not None]
    for facts in found:
        if facts.state is MessageState.QUEUED:
            box.queued -= 1
    return sorted(
        (facts for facts in found if facts.state in LIVE or facts.state is MessageState.QUEUED),
        key=lambda facts: (facts.rank, facts.position),
    )


def put_back(work: Work, box: Box, run: str, *, release: bool) -> None:
    """The attempt is over and the run is not: what had joined it waits with it, or with `release` on its own."""
    rows = _open(work, box)
    mine = [row.message_id for row in rows if row.state == JOINED and row.run == run]
    for facts in map(work.facts, mine):
        if facts is not None and facts.state in LIVE:
            facts.state = MessageState.QUEUED
            box.queued += 1
            box.changed = True
            work.update(_STATE, (facts.message_id, int(MessageState.QUEUED)))
    if release:
        held = [row.message_id for row in rows if row.run == run]
        work.conn.execute(update(JOINING).where(_J.message_id.in_(held)).values(state=WAITS, run=None))


def host_of(work: Work, box: Box, message_id: str) -> str | None:
    """The run whose turn has taken the message in."""
    if not box.joining:
        return None
    return next((row.run for row in _open(work, box) if row.message_id == message_id and row.state == JOINED), None)


def _join(work: Work, box: Box, facts: Facts, *, run: str, epoch: int, worker: str) -> None:
    box.queued -= 1
    box.changed = True
    facts.state = MessageState.RUNNING
    facts.attempt += 1
    facts.start_us = facts.start_us or work.now_us
    work.update(
        _JOIN,
        (
            facts.message_id,
            int(MessageState.RUNNING),
            facts.attempt,
            epoch,
            worker,
            facts.start_us,
            None,
            None,
            facts.expire_us or None,
        ),
    )
    _mark(work, (facts.message_id,), state=JOINED, run=run)


def _mark(work: Work, ids: Iterable[str], **values: object) -> None:
    work.conn.execute(update(JOINING).where(_J.message_id.in_(tuple(ids))).values(**values))


def _open(work: Work, box: Box) -> list[_Row]:
    columns = select(_J.message_id, _J.mode, _J.state, _J.run)
    rows = work.conn.execute(columns.where(_J.session == box.session, text("state < 3")).order_by(_J.message_id))
    return [_Row(*row) for row in rows]


def _neighbours(work: Work, lease: Lease, rows: dict[str, _Row], *, room: int) -> list[str]:
    """The COLLECT messages that stand first in the queue, as far as they fit into one turn."""
    size = work.conn.execute(select(func.length(_M.draft)).where(_M.id == lease.message_id)).scalar() or 0
    queue = (
        select(_M.id, _M.expire_time, func.length(_M.draft).label("size"))
        .where(_M.session == lease.session, text("state = 2"))
        .order_by(_M.rank, _M.position)
        .limit(max(0, room))
    )
    found: list[str] = []
    for row in work.conn.execute(queue):
        joining = rows.get(row.id)
        size += row.size
        if joining is None or joining.mode != BusyMode.COLLECT or joining.state != WAITS or size > MAX_PARTS_BYTES:
            break
        if row.expire_time and row.expire_time <= work.now_us:
            break
        found.append(row.id)
    return found


def _message(facts: Facts) -> JoinedMessage:
    return JoinedMessage(
        message_id=facts.message_id,
        run=facts.run,
        session=facts.session,
        sender=facts.sender,
        create_us=facts.create_us,
        origin_id=facts.origin_id,
        origin_run=facts.origin_run,
    )
