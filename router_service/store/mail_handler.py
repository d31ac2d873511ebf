"""The one batch handler of everything that happens to mail.

One handler, because then a transaction locks its mailboxes once and in one order, whatever mixture of sends,
settlements and timers it holds, and writes each table in one statement. Items take effect in queue order.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection

from chassis.clock import Clock
from router_service.store.accepting import Rules, send
from router_service.store.backlogs import Backlogs
from router_service.store.bulk import Bulk
from router_service.store.deciding import resolve
from router_service.store.fan_items import FAN_ITEMS, Fire, Publish, PutSpawn, Record
from router_service.store.fanning import Fanning
from router_service.store.items import (
    Begin,
    Cancel,
    Due,
    Extend,
    GiveUp,
    Grant,
    Item,
    Join,
    Logged,
    LoseLease,
    Operation,
    RaiseEpoch,
    Reject,
    Remember,
    Resolve,
    Send,
    Settle,
    StopAsking,
)
from router_service.store.joining import join
from router_service.store.leasing import (
    begin,
    cancel,
    due,
    extend,
    give_up,
    grant,
    lease_heads,
    lose,
    raise_epoch,
    reject,
    stop_asking,
)
from router_service.store.letters import Letters
from router_service.store.notices import tell
from router_service.store.operations import operate
from router_service.store.settling import settle
from router_service.store.steps import remember
from router_service.store.work import Box, Work

_MAX_BOXES = 20_000
_WITHOUT_SESSION = (Logged, *FAN_ITEMS)

_Step = Callable[[Work, Any, Rules], None]


class MailHandler:
    """A `chassis.group_writer.BatchHandler` whose results are the items themselves, filled in."""

    def __init__(
        self, bulk: Bulk, clock: Clock, rules: Rules, letters: Letters, draw: Callable[[], float] = random.random
    ) -> None:
        # Messages whose ends and retries this process is writing to the logs. Looked at on PostgreSQL alone, where the
        # handler runs on the loop that changes it.
        self.unlogged: set[str] = set()
        self._bulk = bulk
        self._clock = clock
        # SQLite's file belongs to this process, so what was committed last is what is there.
        self._boxes: dict[str, Box] | None = {} if bulk.sqlite else None
        self._uncommitted = False
        self._rules = rules
        self._letters = letters
        self._backlogs = Backlogs(single_process=bulk.sqlite)
        self.watched = False
        self._fanning = fanning = Fanning(letters, single_process=bulk.sqlite)
        self._steps: Mapping[type[Item], _Step] = {
            Send: send,
            Settle: lambda work, item, rules: settle(work, item, rules, draw),
            Grant: grant,
            Begin: begin,
            Extend: extend,
            Cancel: cancel,
            Due: due,
            LoseLease: lose,
            RaiseEpoch: raise_epoch,
            Reject: reject,
            StopAsking: stop_asking,
            GiveUp: give_up,
            Join: join,
            Remember: remember,
            Resolve: resolve,
            Operation: self._operate,
            Logged: _logged,
            PutSpawn: fanning.put_spawn,
            Publish: fanning.publish,
            Fire: fanning.fire,
            Record: fanning.record,
        }

    def __call__(self, conn: Connection, items: Sequence[Item]) -> Sequence[Item]:
        work = Work(self._bulk, conn, int(self._clock.now().timestamp() * 1e6), self._trusted_boxes())
        work.watched = self.watched
        _load(work, items, self._fanning)
        self._backlogs.load(work, {item.message.bot for item in items if type(item) is Send})
        steps, rules, batch = self._steps, self._rules, work.batch
        for item in items:
            item.refusal = None
            item.batch = batch
            steps[type(item)](work, item, rules)
        self._fanning.announce(work)
        told = tell(work, self._letters.failure, 0)
        lease_heads(work, self.unlogged)
        self._fanning.announce(work)  # heads that turned out to have expired
        tell(work, self._letters.failure, told)
        work.finish()
        self._backlogs.keep(work)
        return items

    def _operate(self, work: Work, item: Operation, rules: Rules) -> None:
        operate(work, item, lambda part: self._steps[type(part)](work, part, rules))

    def committed(self) -> None:
        """What the last call did is on disk. Comes before the next call."""
        self._uncommitted = False

    def _trusted_boxes(self) -> dict[str, Box] | None:
        boxes = self._boxes
        if self._uncommitted:
            self._backlogs.forget()
        if boxes is not None and (self._uncommitted or len(boxes) > _MAX_BOXES):
            boxes.clear()  # a call that was not (yet) committed may have changed them in vain
        self._uncommitted = True
        return boxes


def _flat(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        if type(item) is Operation:
            yield from item.parts
        else:
            yield item


def _load(work: Work, items: Sequence[Item], fanning: Fanning) -> None:
    """Locks and copies all that the items are about, in one order."""
    sessions: set[str] = set()
    runs: list[str] = []
    ids: list[str] = []
    for item in _flat(items):
        if isinstance(item, Send):
            message = item.message
            sessions.add(message.session)
            if message.content_hash:
                runs.append(message.run)
        elif isinstance(item, Settle):
            sessions.add(item.session)
            mail = item.outbox if item.reply is None else (item.reply, *item.outbox)
            for message in (*mail, *(reply for _, reply in item.joined_replies)) if item.joined_replies else mail:
                sessions.add(message.session)
                runs.append(message.run)
        elif not isinstance(item, _WITHOUT_SESSION):
            sessions.add(cast(Grant, item).session)
            if isinstance(item, (Cancel, Due, StopAsking, GiveUp, Join, Resolve)):
                ids.append(item.message_id)
    fanning.load(work, items, sessions, runs)
    if sessions:
        fanning.load_spawns(work, sessions, runs)
        work.load_boxes(sessions)
    if runs:
        work.load_known(runs)
    lost = (work.boxes[item.session].lease_message for item in items if isinstance(item, LoseLease))
    ids.extend(message_id for message_id in lost if message_id is not None)
    if ids:
        work.load_rows(ids)


def _logged(work: Work, item: Logged, _rules: Rules) -> None:
    work.flush()
    where = "WHERE id IN (SELECT value FROM {keys})"
    if item.ended:
        work.execute(f"UPDATE message SET log_flags = 1 {where} AND log_flags = 3", item.ended)
    if item.asked:
        work.execute(f"UPDATE message SET log_flags = 1 {where} AND log_flags = 4", item.asked)
    if item.retried:
        work.execute(f"UPDATE message SET log_flags = 1 {where} AND log_flags = 2", item.retried)
