"""Steps that runs remember for their next attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from router_service.domain.errors import LeaseLost, StepsFull
from router_service.domain.limits import MAX_STEPS, MAX_STEPS_BYTES
from router_service.domain.state import TERMINAL
from router_service.models import DECISION, JOINING, MESSAGE, RUN_STEP
from router_service.store.items import Remember
from router_service.store.work import Work

_S: Final = RUN_STEP.c
_M: Final = MESSAGE.c
_TERMINAL: Final = tuple(int(state) for state in sorted(TERMINAL))


@dataclass(frozen=True, slots=True)
class RunMemory:
    """What a later attempt is handed: (step, epoch, effect, result) in order, and the serialised decision."""

    steps: tuple[tuple[str, int, int, bytes], ...]
    decision: bytes


def remember(work: Work, item: Remember, _rules: object) -> None:
    """Stores a step of the live lease's run, unless there is one of its name."""
    item.duplicate = False
    box = work.boxes[item.session]
    if not box.holds(item.run, item.epoch):
        item.refusal = LeaseLost(item.run, item.epoch)
        return
    mine = _S.run == item.run
    if work.conn.execute(select(_S.number).where(mine, _S.step == item.step)).first() is not None:
        item.duplicate = True
        return
    count, size = work.conn.execute(
        select(func.count(), func.coalesce(func.sum(func.length(_S.result)), 0)).where(mine)
    ).one()
    if count >= MAX_STEPS or size + len(item.result) > MAX_STEPS_BYTES:
        item.refusal = StepsFull(item.run, MAX_STEPS)
        return
    row = {
        "run": item.run,
        "step": item.step,
        "number": count + 1,
        "epoch": item.epoch,
        "effect": item.effect,
        "create_time": work.now_us,
        "result": item.result,
    }
    work.conn.execute(insert(RUN_STEP).values(row))


def recall(conn: Connection, runs: Sequence[tuple[str, str]]) -> dict[str, RunMemory]:
    """What these runs, (run, message id), have remembered and been told."""
    steps: dict[str, list[tuple[str, int, int, bytes]]] = {run: [] for run, _ in runs}
    columns = select(_S.run, _S.step, _S.epoch, _S.effect, _S.result)
    for row in conn.execute(columns.where(_S.run.in_(steps)).order_by(_S.run, _S.number)):
        steps[row.run].append((row.step, row.epoch, row.effect, bytes(row.result)))
    ids = [message_id for _, message_id in runs]
    answered = select(DECISION.c.message_id, DECISION.c.decision).where(
        DECISION.c.message_id.in_(ids), DECISION.c.decision.is_not(None)
    )
    decisions = {row.message_id: bytes(row.decision) for row in conn.execute(answered)}
    return {run: RunMemory(tuple(steps[run]), decisions.get(message_id, b"")) for run, message_id in runs}


def sweep(conn: Connection, *, gone: bool) -> None:
    """Forgets steps of runs that ended and, when messages are `gone`, what belonged to them."""
    live = select(_M.run).where(_M.run == _S.run, _M.state.not_in(_TERMINAL))
    conn.execute(delete(RUN_STEP).where(~live.exists()))
    for table in (JOINING, DECISION) if gone else ():
        there = select(_M.id).where(_M.id == table.c.message_id)
        conn.execute(delete(table).where(~there.exists()))
