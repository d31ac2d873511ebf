"""The working set of one transaction: mailboxes locked and copied, changes gathered and written in few statements."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection

from router_service.domain.mail import EndedRun, Lease
from router_service.domain.spawning import OpenSpawn
from router_service.domain.state import MessageState
from router_service.models import MAILBOX, MESSAGE
from router_service.store.bulk import Bulk
from router_service.store.items import Batch, BoxState, Offer
from router_service.store.policies import Entry

BOX_COLUMNS: Final = (
    "session",
    "bot",
    "epoch",
    "next_position",
    "queued",
    "waiting",
    "wait_until",
    "lease_message",
    "lease_run",
    "lease_attempt",
    "lease_worker",
    "cancel_time",
    "last_message",
    "joining",
)
_BOX_UPDATE: Final = ("session", *BOX_COLUMNS[2:])
_NEW_BOX: Final = (0, 1, 0, 0, None, None, None, 0, None, None, None, 0)

INSERT_COLUMNS: Final = (
    "id",
    "run",
    "session",
    "position",
    "rank",
    "state",
    "sender",
    "source",
    "correlation_id",
    "content_hash",
    "max_attempts",
    "attempts",
    "epoch",
    "worker",
    "create_time",
    "start_time",
    "end_time",
    "next_attempt_time",
    "expire_time",
    "lease_expire_time",
    "ask_until",
    "due_time",
    "log_flags",
    "asked",
    "origin_id",
    "origin_run",
    "previous_id",
    "draft",
)
_PLACE: Final = {name: place for place, name in enumerate(INSERT_COLUMNS)}

FACT_COLUMNS: Final = (
    "id",
    "run",
    "session",
    "rank",
    "position",
    "state",
    "sender",
    "max_attempts",
    "attempts",
    "epoch",
    "create_time",
    "start_time",
    "next_attempt_time",
    "expire_time",
    "lease_expire_time",
    "cancel_time",
    "asked",
    "origin_id",
    "origin_run",
    "worker",
)
_STATES: Final = {state.value: state for state in MessageState}
_HEADS: Final = (
    "FROM message WHERE id IN (SELECT (SELECT q.id FROM message q WHERE q.session = k.value AND q.state = 2 "
    "ORDER BY q.rank, q.position LIMIT 1) FROM {keys})"
)


def bot_of(session: str) -> str:
    """ "bots/main/sessions/x" -> "bots/main"."""
    return session[: session.index("/sessions/")]


class Box:
    """A mailbox row, locked by this transaction."""

    __slots__ = (*BOX_COLUMNS, "changed", "counted")

    session: str
    bot: str
    epoch: int
    next_position: int
    queued: int
    waiting: int
    wait_until: int | None
    lease_message: str | None
    lease_run: str | None
    lease_attempt: int
    lease_worker: str | None
    cancel_time: int | None
    last_message: str | None
    joining: int

    def __init__(self, row: Iterable[Any]) -> None:
        (
            self.session,
            self.bot,
            self.epoch,
            self.next_position,
            self.queued,
            self.waiting,
            self.wait_until,
            self.lease_message,
            self.lease_run,
            self.lease_attempt,
            self.lease_worker,
            self.cancel_time,
            self.last_message,
            self.joining,
        ) = row
        self.changed = False
        # Messages that wait, as the counts of bots have it.
        self.counted = self.queued + self.waiting

    def holds(self, run: str, epoch: int) -> bool:
        """Whether the live lease is the one of `run` with `epoch`."""
        return self.lease_run == run and self.epoch == epoch

    def release(self) -> None:
        """Ends the lease."""
        self.lease_message = self.lease_run = self.lease_worker = self.cancel_time = None
        self.lease_attempt = 0
        self.changed = True

    def ready(self, now_us: int) -> bool:
        """Whether its head could be leased now."""
        return self.lease_run is None and self.queued > 0 and (self.wait_until or 0) <= now_us


class Facts:
    """What decides about a message, without its content. `fresh` is its row when this transaction inserts it."""

    __slots__ = (
        "asked",
        "attempt",
        "cancel_us",
        "create_us",
        "epoch",
        "expire_us",
        "fresh",
        "lease_expire_us",
        "max_attempts",
        "message_id",
        "next_attempt_us",
        "origin_id",
        "origin_run",
        "position",
        "rank",
        "run",
        "sender",
        "session",
        "start_us",
        "state",
        "worker",
    )

    def __init__(self, row: Iterable[Any], fresh: list[Any] | None = None) -> None:
        (
            self.message_id,
            self.run,
            self.session,
            self.rank,
            self.position,
            state,
            self.sender,
            self.max_attempts,
            self.attempt,
            self.epoch,
            self.create_us,
            start,
            next_attempt,
            expire,
            lease_expire,
            cancel,
            self.asked,
            origin_id,
            origin_run,
            self.worker,
        ) = row
        self.state = _STATES[state]
        # Before the first attempt the column holds its place only.
        self.start_us: int = start if self.attempt else 0
        self.next_attempt_us: int = next_attempt or 0
        self.expire_us: int = expire or 0
        self.lease_expire_us: int = lease_expire or 0
        self.cancel_us: int = cancel or 0
        self.origin_id: str = origin_id or ""
        self.origin_run: str = origin_run or ""
        self.fresh = fresh

    @classmethod
    def of_fresh(cls, row: list[Any]) -> "Facts":
        return cls([None if name == "cancel_time" else row[_PLACE[name]] for name in FACT_COLUMNS], row)


class Work:
    """What one transaction knows and is about to write."""

    def __init__(self, bulk: Bulk, conn: Connection, now_us: int, known_boxes: dict[str, "Box"] | None = None) -> None:
        """`known_boxes` are copies of rows as they are, where nobody else writes to the database."""
        self.conn = conn
        self.now_us = now_us
        self.single_process = bulk.sqlite
        self.batch = Batch()
        self.boxes: dict[str, Box] = {}
        # Runs that exist: (id, content hash, state, session).
        self.known: dict[str, tuple[str, str, int, str]] = {}
        self.rows: dict[str, Facts] = {}
        self.offers: dict[str, list[Offer]] = {}
        # Queued rows that this transaction inserts, by session.
        self.fresh: dict[str, list[list[Any]]] = {}
        self.inserts: list[list[Any]] = []
        # Whether somebody wants to know which messages are written.
        self.watched = False
        # Tasks of children that are at work, by message, and those that ended here: (child, end, reply text, reply).
        self.spawns: dict[str, OpenSpawn] = {}
        self.records: list[Entry] = []
        self.spawn_ends: list[tuple[OpenSpawn, EndedRun, str, str]] = []
        # What waits for the bots that are sent to, and by how much this transaction changes it.
        self.backlogs: dict[str, int] = {}
        self.backlog_changes: dict[str, int] = {}
        self._bulk = bulk
        self._known_boxes = known_boxes
        self._updates: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        self._touched: set[str] = set()

    def load_boxes(self, sessions: set[str]) -> None:
        """Locks the mailboxes and copies them; those that are missing are made, those that are here are left alone."""
        known = self._known_boxes
        if known is not None:
            self.boxes.update({session: known[session] for session in sessions if session in known})
        self._select_boxes(sessions - self.boxes.keys())
        missing = sorted(sessions - self.boxes.keys())
        if missing:
            self._make_boxes(missing)
        if known is not None:
            known.update(self.boxes)

    def _make_boxes(self, missing: list[str]) -> None:
        rows = [(session, bot_of(session), *_NEW_BOX) for session in missing]
        self._bulk.insert(self.conn, MAILBOX, BOX_COLUMNS, rows, ignore=True)
        if self._bulk.sqlite:
            for row in rows:
                self.boxes[row[0]] = Box(row)
        else:  # another replica may have made some of them
            self._select_boxes(set(missing))

    def _select_boxes(self, sessions: set[str]) -> None:
        if not sessions:
            return
        tail = "FROM mailbox WHERE session IN (SELECT value FROM {keys})"
        for row in self._bulk.select(self.conn, BOX_COLUMNS, tail, sorted(sessions), lock="session"):
            self.boxes[row[0]] = Box(row)

    def load_known(self, runs: Iterable[str]) -> None:
        """Learns which of these runs exist."""
        tail = "FROM message WHERE run IN (SELECT value FROM {keys})"
        columns = ("run", "id", "content_hash", "state", "session")
        for run, message_id, content_hash, state, session in self._bulk.select(self.conn, columns, tail, runs):
            self.known[run] = (message_id, content_hash or "", state, session)

    def load_rows(self, ids: Iterable[str]) -> None:
        """Copies messages."""
        tail = "FROM message WHERE id IN (SELECT value FROM {keys})"
        for row in self._bulk.select(self.conn, FACT_COLUMNS, tail, ids):
            self.rows[row[0]] = Facts(row)

    def facts(self, message_id: str) -> Facts | None:
        """The message as it is now, also by what this transaction has not written yet."""
        if message_id not in self.rows:
            self.flush()
            self.load_rows((message_id,))
        return self.rows.get(message_id)

    def facts_of_run(self, run: str) -> Facts | None:
        self.flush()
        tail = "FROM message WHERE run IN (SELECT value FROM {keys})"
        rows = self._bulk.select(self.conn, FACT_COLUMNS, tail, (run,))
        return Facts(rows[0]) if rows else None

    def heads(self, sessions: Iterable[str]) -> dict[str, Facts]:
        """The first queued message of each mailbox, among those that are in the table."""
        self.flush_updates()
        return {row[2]: Facts(row) for row in self._bulk.select(self.conn, FACT_COLUMNS, _HEADS, sessions)}

    def offer(self, session: str, offer: Offer | None) -> None:
        """Lets the mailbox's head be leased at the end of the transaction, if it is free then."""
        if offer is not None:
            self.offers.setdefault(session, []).append(offer)

    def insert(self, row: list[Any]) -> None:
        self.inserts.append(row)
        if self.watched:
            self.batch.changed[row[0]] = None
        if row[5] == MessageState.QUEUED:
            self.fresh.setdefault(row[2], []).append(row)

    def update(self, columns: tuple[str, ...], values: tuple[Any, ...]) -> None:
        """Sets columns of the message with the id `values[0]`; later updates of a message win over earlier ones."""
        if values[0] in self._touched:
            self.flush_updates()
        self._touched.add(values[0])
        if self.watched:
            self.batch.changed[values[0]] = None
        self._updates.setdefault(columns, []).append(values)

    def due(self, at_us: int) -> None:
        """A timer must look at `at_us`."""
        if at_us and (not self.batch.due_us or at_us < self.batch.due_us):
            self.batch.due_us = at_us

    def flush_updates(self) -> None:
        for columns, rows in self._updates.items():
            self._bulk.update(self.conn, MESSAGE, columns, rows)
        self._updates.clear()
        self._touched.clear()

    def flush(self) -> None:
        """Writes messages, so that they can be selected."""
        if self.inserts:
            self._bulk.insert(self.conn, MESSAGE, INSERT_COLUMNS, self.inserts)
            self.inserts.clear()
            self.fresh.clear()
        self.flush_updates()

    def select(self, columns: tuple[str, ...], tail: str, keys: Iterable[str]) -> list[list[Any]]:
        """As `Bulk.select`; sees what is written already."""
        return self._bulk.select(self.conn, columns, tail, keys)

    def execute(self, statement: str, keys: Iterable[str]) -> None:
        self._bulk.execute(self.conn, statement, keys)

    def finish(self) -> None:
        """Writes everything."""
        self.flush()
        rows = [
            (
                box.session,
                box.epoch,
                box.next_position,
                box.queued,
                box.waiting,
                box.wait_until,
                box.lease_message,
                box.lease_run,
                box.lease_attempt,
                box.lease_worker,
                box.cancel_time,
                box.last_message,
                box.joining,
            )
            for box in self.boxes.values()
            if box.changed
        ]
        self._bulk.update(self.conn, MAILBOX, _BOX_UPDATE, rows)
        for box in self.boxes.values():
            if box.changed:
                box.changed = False
                waiting = box.queued + box.waiting
                if waiting != box.counted:
                    changes = self.backlog_changes
                    changes[box.bot] = changes.get(box.bot, 0) + waiting - box.counted
                    box.counted = waiting
        now_us = self.now_us
        self.batch.boxes = [
            BoxState(box.session, box.bot, box.lease_run is None, box.ready(now_us)) for box in self.boxes.values()
        ]


Known = Lease | Facts
