"""The tables. Times are microseconds since 1970, UTC; NULL means that there is none.

Rows are few on purpose: a message is one row from its acceptance to its end, and its run is the same row.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Text, text
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, SQLModel

from chassis.idempotency import ledger_table

METADATA = MetaData()

# Names are compared byte by byte on both engines, or pages ordered by name would differ and indexes not be used.
_NAME = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _partial(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class _Table(SQLModel):
    metadata = METADATA


class MailboxRow(_Table, table=True):
    """A session's mailbox and the one lease on it. Locking this row is what puts everything about a session in order.

    `epoch` only grows. `last_message` is the newest one. `queued` and `waiting` count messages in the states QUEUED and
    ACCEPTED. While `wait_until` is ahead, the head waits for its next attempt, and the mailbox with it.
    """

    __tablename__ = "mailbox"
    __table_args__ = (
        Index("ix_mailbox_ready", "bot", "session", **_partial("lease_run IS NULL AND queued > 0")),
        Index("ix_mailbox_worker", "lease_worker", **_partial("lease_worker IS NOT NULL")),
    )

    session: str = Field(sa_column=Column(_NAME, primary_key=True))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    next_position: int = Field(sa_column=Column(BigInteger, nullable=False))
    queued: int = Field(sa_column=Column(Integer, nullable=False))
    waiting: int = Field(sa_column=Column(Integer, nullable=False))
    wait_until: int | None = Field(sa_column=Column(BigInteger))
    lease_message: str | None = Field(sa_column=Column(_NAME))
    lease_run: str | None = Field(sa_column=Column(_NAME))
    lease_attempt: int = Field(sa_column=Column(Integer, nullable=False))
    lease_worker: str | None = Field(sa_column=Column(_NAME))
    cancel_time: int | None = Field(sa_column=Column(BigInteger))
    last_message: str | None = Field(sa_column=Column(_NAME))


class MessageRow(_Table, table=True):
    """A message and the run that works on it.

    `run` is the sender's idempotency key, or the id. Lower ranks go first. `due_time` is when a timer must look at the
    row. `log_flags` says what the session's log still lacks (1: nothing, 2: the retry, 3: the end); that an attempt was
    opened in the log is implied by its delivery, and written again when that is not known. `origin_*` name the dead
    letter that a redriven message carries on. `asked` says that somebody waited for the reply, until `ask_until`.

    A session's messages are found by going back from the mailbox's `last_message` over `previous_id`: an index on the
    session would be written to at a random place for every message, which was measured to cost more than the message.
    For the same reason a row must not grow while it is worked on, or it moves within the table: `worker`, `start_time`
    and `end_time` are filled with something as long from the first, and mean something once `attempts` is above 0 or
    the state is terminal.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index("uq_message_run", "run", unique=True),
        Index("ix_message_queue", "session", "rank", "position", **_partial("state = 2")),
        Index("ix_message_due", "due_time", **_partial("due_time IS NOT NULL")),
        Index("ix_message_log", "session", **_partial("log_flags > 1")),
        Index("ix_message_dead", "id", **_partial("state = 9")),
    )

    id: str = Field(sa_column=Column(_NAME, primary_key=True))
    previous_id: str | None = Field(sa_column=Column(_NAME))
    run: str = Field(sa_column=Column(_NAME, nullable=False))
    session: str = Field(sa_column=Column(_NAME, nullable=False))
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    rank: int = Field(sa_column=Column(SmallInteger, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    sender: str = Field(sa_column=Column(Text, nullable=False))
    source: str = Field(sa_column=Column(Text, nullable=False))
    correlation_id: str | None = Field(sa_column=Column(Text))
    content_hash: str | None = Field(sa_column=Column(Text))
    max_attempts: int = Field(sa_column=Column(SmallInteger, nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    worker: str | None = Field(sa_column=Column(Text))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    start_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    end_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    next_attempt_time: int | None = Field(sa_column=Column(BigInteger))
    expire_time: int | None = Field(sa_column=Column(BigInteger))
    lease_expire_time: int | None = Field(sa_column=Column(BigInteger))
    cancel_time: int | None = Field(sa_column=Column(BigInteger))
    ask_until: int | None = Field(sa_column=Column(BigInteger))
    due_time: int | None = Field(sa_column=Column(BigInteger))
    log_flags: int = Field(sa_column=Column(SmallInteger, nullable=False))
    asked: bool = Field(sa_column=Column(Boolean, nullable=False))
    origin_id: str | None = Field(sa_column=Column(Text))
    origin_run: str | None = Field(sa_column=Column(Text))
    error_reason: str | None = Field(sa_column=Column(Text))
    error_message: str | None = Field(sa_column=Column(Text))
    stop_reason: str | None = Field(sa_column=Column(Text))
    reply_message: str | None = Field(sa_column=Column(Text))
    reply_text: str | None = Field(sa_column=Column(Text))
    usage: bytes | None = Field(sa_column=Column(LargeBinary))
    # Last, so that a scan of the other columns does not read through it.
    draft: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AttachmentRow(_Table, table=True):
    """A worker's newest stream. Leases of the worker live until `expire_time`, which the open stream moves on."""

    __tablename__ = "attachment"
    __table_args__ = (Index("ix_attachment_expire", "expire_time"),)

    worker: str = Field(sa_column=Column(_NAME, primary_key=True))
    id: str = Field(sa_column=Column(Text, nullable=False))
    expire_time: int = Field(sa_column=Column(BigInteger, nullable=False))


LEDGER = ledger_table(METADATA)
MAILBOX = MailboxRow.__table__  # type: ignore[attr-defined]  # SQLModel sets it; its stubs do not say so
MESSAGE = MessageRow.__table__  # type: ignore[attr-defined]
ATTACHMENT = AttachmentRow.__table__  # type: ignore[attr-defined]
