"""Spawns, publications and schedules inside the mail's own transactions."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import insert, select, update

from router_service.domain.errors import IdempotencyKeyReused, MailboxFull, TopicNotFound
from router_service.domain.mail import NewMessage
from router_service.domain.spawning import Cleanup, OpenSpawn, SpawnState
from router_service.models import PUBLICATION, SCHEDULE, SPAWN, SUBSCRIPTION, TOPIC
from router_service.store import policies
from router_service.store.accepting import Rules, put
from router_service.store.fan_items import Fire, Publish, PutSpawn, Record
from router_service.store.items import Cancel, Item
from router_service.store.letters import Letters
from router_service.store.spawns import insert_wish
from router_service.store.work import Work

_LOADED: Final = frozenset({PutSpawn, Publish, Fire})
_OPEN: Final = ("id", "run", "message_id", "session", "parent", "announce", "cleanup")


class Fanning:
    """What a transaction needs to know before it locks its mailboxes, and the steps themselves."""

    def __init__(self, letters: Letters, *, single_process: bool) -> None:
        self._letters = letters
        # Sessions that may have an open spawn, where nobody else writes to the database; too many do no harm.
        self._spawned: set[str] | None = set() if single_process else None
        self._loaded = False
        self._subscribers: dict[str, list[str]] = {}
        self._published: dict[str, tuple[str, str, int]] = {}
        self._missing_topics: set[str] = set()

    def load(self, work: Work, items: Sequence[Item], sessions: set[str], runs: list[str]) -> None:
        """Adds the mailboxes that the items and the ends of children will write to."""
        for item in [item for item in items if type(item) in _LOADED]:  # few, and asked for each message
            if isinstance(item, PutSpawn):
                runs.append(item.message.run)
                sessions.update(filter(None, (item.message.session, item.spawn.parent)))
                if self._spawned is not None:
                    self._spawned.add(item.message.session)
            elif isinstance(item, Publish):
                self._load_publication(work, item, sessions)
            elif isinstance(item, Fire):
                sessions.update(message.session for message in item.sends)
                runs.extend(message.run for message in item.sends)
                for publication in item.publications:
                    self._load_publication(work, publication, sessions)

    def load_spawns(self, work: Work, sessions: set[str], runs: list[str]) -> None:
        """Learns which of the sessions are children at work, and adds their parents' mailboxes."""
        looked_at: Iterable[str] = sessions
        if self._spawned is not None:
            if not self._loaded:
                found = work.conn.execute(select(SPAWN.c.session).where(SPAWN.c.state == int(SpawnState.ACTIVE)))
                self._spawned.update(found.scalars())
                self._loaded = True
            looked_at = sessions & self._spawned
        if not looked_at:
            return
        tail = "FROM spawn WHERE state = 2 AND session IN (SELECT value FROM {keys})"
        for row in work.select(_OPEN, tail, sorted(looked_at)):
            spawn = _open(row)
            work.spawns[spawn.message_id] = spawn
            if spawn.parent:
                sessions.add(spawn.parent)
                runs.append(f"reply/{spawn.run}")

    def put_spawn(self, work: Work, item: PutSpawn, rules: Rules) -> None:
        message, box = item.message, work.boxes[item.message.session]
        item.done = False
        if box.queued + box.waiting >= rules.mailbox_limit:
            item.refusal = MailboxFull(message.session, rules.mailbox_limit)
            return
        columns = SPAWN.c
        taken = update(SPAWN).where(columns.id == item.spawn.id, columns.state == int(SpawnState.WISHED))
        values = {
            "state": int(SpawnState.ACTIVE),
            "created": item.created,
            "message_id": message.id,
            "due_time": None,
        }
        if work.conn.execute(taken.values(**values)).rowcount != 1:
            return
        item.done = True
        put(work, box, message)
        work.spawns[message.id] = item.spawn

    def publish(self, work: Work, item: Publish, rules: Rules) -> None:
        message = item.message
        known = self._published.get(message.run)
        if known is not None:
            message_id, content_hash, fan_out = known
            if content_hash != message.content_hash:
                item.refusal = IdempotencyKeyReused(message.run, message_id)
            else:
                item.id, item.run, item.duplicate, item.fan_out = message_id, message.run, True, fan_out
            return
        if item.topic in self._missing_topics:
            item.refusal = TopicNotFound(f"topics/{item.topic}")
            return
        sessions = [session for session in self._subscribers[item.topic] if session != message.source]
        for session in sessions:
            box = work.boxes[session]
            if box.queued + box.waiting >= rules.mailbox_limit:
                item.refusal = MailboxFull(session, rules.mailbox_limit)
                return
        for number, session in enumerate(sessions):
            put(work, work.boxes[session], self._letters.copy(message, session, number))
        row = {
            "run": message.run,
            "id": message.id,
            "content_hash": message.content_hash,
            "topic": item.topic,
            "fan_out": len(sessions),
        }
        work.conn.execute(insert(PUBLICATION).values(row))
        self._published[message.run] = (message.id, message.content_hash, len(sessions))
        item.id, item.run, item.duplicate, item.fan_out = message.id, message.run, False, len(sessions)

    def fire(self, work: Work, item: Fire, rules: Rules) -> None:
        columns = SCHEDULE.c
        mine = update(SCHEDULE).where(
            columns.id == item.schedule, columns.version == item.version, columns.next_time == item.expected_us
        )
        values: dict[str, Any] = {"next_time": item.next_us}
        if item.sends or item.publications or item.spawns:
            values["last_time"] = work.now_us
        item.done = work.conn.execute(mine.values(**values)).rowcount == 1
        if not item.done:
            return
        item.refused = []  # a transaction may be done again
        for message in item.sends:
            if not self._send(work, message, rules):
                item.refused.append(MailboxFull.reason)
        for publication in item.publications:
            publication.refusal = None
            self.publish(work, publication, rules)
            if publication.refusal is not None:
                item.refused.append(publication.refusal.reason)
        for spawn in item.spawns:
            insert_wish(work.conn, spawn, depth=0, parent_run="", now_us=work.now_us, due_us=work.now_us)

    def record(self, work: Work, item: Record, _rules: Rules) -> None:
        about = item.about
        if about.refusal is None and (not isinstance(about, Cancel) or about.done):
            work.records.append(item.entry)

    def announce(self, work: Work) -> None:
        """Tells parents of the ends that this transaction brought about, and writes what it put on record."""
        records, work.records = work.records, []
        if records:
            policies.record(work.conn, *records)
        ends, work.spawn_ends = work.spawn_ends, []
        for spawn, ended, reply_text, reply_message in ends:
            result = reply_message
            if not result and spawn.announce and spawn.parent:
                letter = self._letters.result(spawn, ended, reply_text)
                if letter.run not in work.known:
                    put(work, work.boxes[letter.session], letter)
                    result = letter.id
            tidy = spawn.cleanup is not Cleanup.KEEP
            work.conn.execute(
                update(SPAWN)
                .where(SPAWN.c.id == spawn.id)
                .values(
                    state=int(SpawnState.ENDED if tidy else SpawnState.DONE),
                    result_id=result or None,
                    due_time=work.now_us if tidy else None,
                )
            )

    def _send(self, work: Work, message: NewMessage, rules: Rules) -> bool:
        """Whether there was room: a schedule for a bot that sleeps for long fills its mailbox as others may."""
        box = work.boxes[message.session]
        if message.run in work.known:
            return True
        if box.queued + box.waiting >= rules.mailbox_limit:
            return False
        put(work, box, message)
        return True

    def _load_publication(self, work: Work, item: Publish, sessions: set[str]) -> None:
        run, topic = item.message.run, item.topic
        self._published.pop(run, None)
        if item.message.content_hash:
            row = work.conn.execute(select(PUBLICATION).where(PUBLICATION.c.run == run)).mappings().first()
            if row is not None:
                self._published[run] = (row["id"], row["content_hash"], row["fan_out"])
        self._missing_topics.discard(topic)
        columns = SUBSCRIPTION.c
        listening = select(columns.session).where(columns.topic == topic).distinct().order_by(columns.session)
        found = self._subscribers[topic] = list(work.conn.execute(listening).scalars())
        if not found and work.conn.execute(select(TOPIC.c.id).where(TOPIC.c.id == topic)).first() is None:
            self._missing_topics.add(topic)
        sessions.update(found)


def _open(row: Sequence[Any]) -> OpenSpawn:
    spawn_id, run, message_id, session, parent, announce, cleanup = row
    return OpenSpawn(
        id=spawn_id,
        run=run,
        message_id=message_id,
        session=session,
        parent=parent or "",
        announce=bool(announce),
        cleanup=Cleanup(cleanup),
    )
