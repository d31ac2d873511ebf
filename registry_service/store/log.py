"""The change log and the write transaction that appends to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from registry_service.domain.change import Change, What
from registry_service.models import CHANGE, HEAD
from registry_service.store.codec import change_from_row, change_to_row, micros


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands. Entries up to `compacted` are gone; `log_id` tells this log from any other."""

    log_id: str
    position: int
    compacted: int


class Transaction:
    """One write. Writers of all replicas take turns from here to their commit, so positions appear in order."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self.conn = conn
        self.now = now
        self.position: int = conn.execute(select(HEAD.c.position).where(HEAD.c.id == 1).with_for_update()).scalar_one()
        self._entries: list[dict[str, Any]] = []

    @property
    def next_position(self) -> int:
        """The number that the next entry will have."""
        return self.position + 1

    def log(self, what: What) -> None:
        self.position += 1
        self._entries.append({"position": self.position, "change_time": micros(self.now), **change_to_row(what)})

    def finish(self) -> int:
        """Writes the entries; returns the log's position."""
        if self._entries:
            self.conn.execute(insert(CHANGE), self._entries)
            self.conn.execute(update(HEAD).where(HEAD.c.id == 1).values(position=self.position))
            self._entries = []
        return self.position


def ensure_head(conn: Connection, log_id: str) -> None:
    """Begins the log of a new database; of replicas that start together, one does."""
    begin = text("INSERT INTO head (id, log_id, position, compacted) VALUES (1, :log_id, 0, 0) ON CONFLICT DO NOTHING")
    conn.execute(begin, {"log_id": log_id})


def read_head(conn: Connection) -> Head:
    row = conn.execute(select(HEAD.c.log_id, HEAD.c.position, HEAD.c.compacted).where(HEAD.c.id == 1)).one()
    return Head(row.log_id, row.position, row.compacted)


def read_position(conn: Connection) -> int:
    position: int = conn.execute(select(HEAD.c.position).where(HEAD.c.id == 1)).scalar_one()
    return position


def read_changes(conn: Connection, after: int, limit: int) -> Sequence[Change]:
    """The entries after position `after`, in order."""
    query = select(CHANGE).where(CHANGE.c.position > after).order_by(CHANGE.c.position).limit(limit)
    return [change_from_row(row) for row in conn.execute(query).mappings()]


def compact(tx: Transaction, kept: int) -> None:
    """Drops all but the newest `kept` entries, a tenth at a time."""
    compacted: int = tx.conn.execute(select(HEAD.c.compacted).where(HEAD.c.id == 1)).scalar_one()
    floor = tx.position - kept
    if floor - compacted > kept // 10:
        tx.conn.execute(delete(CHANGE).where(CHANGE.c.position <= floor))
        tx.conn.execute(update(HEAD).where(HEAD.c.id == 1).values(compacted=floor))
