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
    ACCEPTED. While `wait_until` is ahead, the head waits for its next attempt, and the mailbox with it. `joining`
    counts the session's open rows in the table of that name, so that nobody looks there in vain.
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
    joining: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))


class MessageRow(_Table, table=True):
    """A message and the run that works on it.

    `run` is the sender's idempotency key, or the id. Lower ranks go first. `due_time` is when a timer must look at the
    row. `log_flags` says what the session's log still lacks (1: nothing, 2: the retry, 3: the end, 4: the question);
    that an attempt was opened in the log is implied by its delivery, and written again when that is not known.
    `origin_*` name the dead letter that a redriven message carries on. `asked` says that somebody waited for the reply,
    until `ask_until`.

    A session's messages are found by going back from the mailbox's `last_message` over `previous_id`: an index on the
    session would be written to at a random place for every message, which was measured to cost more than the message.
    For the same reason a row must not grow while it is worked on, or it moves within the table: `worker`, `start_time`
    and `end_time` are filled with something as long from the first, and mean something once `attempts` is above 0 or
    the state is terminal; while a retry waits, `end_time` is when the attempt before it ended, and while a lease has a
    `lease_expire_time`, when that was set.
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


class JoiningRow(_Table, table=True):
    """A message that may be worked on in the turn of another: of the mode STEER or COLLECT.

    `state`: 1 waits (offered to the turn of `run`, if that is set), 2 taken in by `run`, 3 ended.
    """

    __tablename__ = "joining"
    __table_args__ = (
        Index("ix_joining_open", "session", **_partial("state < 3")),
        Index("ix_joining_run", "run", **_partial("state = 2")),
    )

    message_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    session: str = Field(sa_column=Column(_NAME, nullable=False))
    mode: int = Field(sa_column=Column(SmallInteger, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    run: str | None = Field(sa_column=Column(_NAME))


class RunStepRow(_Table, table=True):
    """What a run remembers for its next attempt. `number` orders the steps of a run."""

    __tablename__ = "run_step"

    run: str = Field(sa_column=Column(_NAME, primary_key=True))
    step: str = Field(sa_column=Column(_NAME, primary_key=True))
    number: int = Field(sa_column=Column(Integer, nullable=False))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    effect: int = Field(sa_column=Column(SmallInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    result: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class DecisionRow(_Table, table=True):
    """What a run asks a person, and the answer; the newest question of the run. `request` and `decision` are the
    serialised contract messages."""

    __tablename__ = "decision"

    message_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    request_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    request: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    decision: bytes | None = Field(sa_column=Column(LargeBinary))


class SpawnRow(_Table, table=True):
    """A spawned child and the run of its task, from the wish to the tidying up.

    `state`: 1 wished for, 2 its task is in the mailbox, 3 ended and yet to be tidied up, 4 done. The result is mail
    accepted in the transaction that makes it 3 or 4. `due_time` is when somebody must look after it: to finish what
    another process began, or to tidy up. `parent_run` is the run the parent was working on.
    """

    __tablename__ = "spawn"
    __table_args__ = (
        Index("uq_spawn_run", "run", unique=True),
        Index("ix_spawn_open", "session", **_partial("state = 2")),
        Index("ix_spawn_parent", "parent", **_partial("state < 3")),
        Index("ix_spawn_due", "due_time", **_partial("due_time IS NOT NULL")),
    )

    id: str = Field(sa_column=Column(_NAME, primary_key=True))
    run: str = Field(sa_column=Column(_NAME, nullable=False))
    fingerprint: str = Field(sa_column=Column(Text, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    parent: str | None = Field(sa_column=Column(_NAME))
    parent_run: str | None = Field(sa_column=Column(_NAME))
    session: str = Field(sa_column=Column(_NAME, nullable=False))
    depth: int = Field(sa_column=Column(SmallInteger, nullable=False))
    announce: bool = Field(sa_column=Column(Boolean, nullable=False))
    cleanup: int = Field(sa_column=Column(SmallInteger, nullable=False))
    created: bool = Field(sa_column=Column(Boolean, nullable=False))
    message_id: str | None = Field(sa_column=Column(_NAME))
    result_id: str | None = Field(sa_column=Column(_NAME))
    sender: str = Field(sa_column=Column(Text, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    due_time: int | None = Field(sa_column=Column(BigInteger))
    spawn: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class TopicRow(_Table, table=True):
    """A topic. `version` grows with every change."""

    __tablename__ = "topic"

    id: str = Field(sa_column=Column(_NAME, primary_key=True))
    description: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))


class SubscriptionRow(_Table, table=True):
    """Who listens to a topic: a session, or a bot, whose `session` is its main one."""

    __tablename__ = "subscription"
    __table_args__ = (Index("ix_subscription_subscriber", "subscriber", "topic"),)

    topic: str = Field(sa_column=Column(_NAME, primary_key=True))
    subscriber: str = Field(sa_column=Column(_NAME, primary_key=True))
    session: str = Field(sa_column=Column(_NAME, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))


class PublicationRow(_Table, table=True):
    """A message that was published with a key, so that it is not published again. Kept as long as messages are."""

    __tablename__ = "publication"

    run: str = Field(sa_column=Column(_NAME, primary_key=True))
    id: str = Field(sa_column=Column(_NAME, nullable=False, index=True))
    content_hash: str = Field(sa_column=Column(Text, nullable=False))
    topic: str = Field(sa_column=Column(_NAME, nullable=False))
    fan_out: int = Field(sa_column=Column(Integer, nullable=False))


class ScheduleRow(_Table, table=True):
    """What is sent again and again. `uid` tells it from an earlier one of the same name.

    Whoever moves `next_time` on from the value that it has read sends what was due, in the same transaction.
    """

    __tablename__ = "schedule"
    __table_args__ = (Index("ix_schedule_next", "next_time", **_partial("next_time IS NOT NULL")),)

    id: str = Field(sa_column=Column(_NAME, primary_key=True))
    uid: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    cron: str = Field(sa_column=Column(Text, nullable=False))
    interval_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    time_zone: str = Field(sa_column=Column(Text, nullable=False))
    missed: int = Field(sa_column=Column(SmallInteger, nullable=False))
    paused: bool = Field(sa_column=Column(Boolean, nullable=False))
    next_time: int | None = Field(sa_column=Column(BigInteger))
    last_time: int | None = Field(sa_column=Column(BigInteger))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    creator: str = Field(sa_column=Column(Text, nullable=False))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class PolicyRow(_Table, table=True):
    """The one policy, as JSON."""

    __tablename__ = "policy"

    id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    rules: str = Field(sa_column=Column(Text, nullable=False))


class AuditRow(_Table, table=True):
    """A decision that no message stands for: what was denied, and what was done to mail that was there already."""

    __tablename__ = "audit"

    id: str = Field(sa_column=Column(_NAME, primary_key=True))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    actor: str = Field(sa_column=Column(Text, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    target: str = Field(sa_column=Column(Text, nullable=False))
    allowed: bool = Field(sa_column=Column(Boolean, nullable=False))
    detail: str = Field(sa_column=Column(Text, nullable=False))
    message: str = Field(sa_column=Column(Text, nullable=False))


LEDGER = ledger_table(METADATA)
MAILBOX = MailboxRow.__table__  # type: ignore[attr-defined]  # SQLModel sets it; its stubs do not say so
MESSAGE = MessageRow.__table__  # type: ignore[attr-defined]
ATTACHMENT = AttachmentRow.__table__  # type: ignore[attr-defined]
SPAWN = SpawnRow.__table__  # type: ignore[attr-defined]
TOPIC = TopicRow.__table__  # type: ignore[attr-defined]
SUBSCRIPTION = SubscriptionRow.__table__  # type: ignore[attr-defined]
PUBLICATION = PublicationRow.__table__  # type: ignore[attr-defined]
SCHEDULE = ScheduleRow.__table__  # type: ignore[attr-defined]
POLICY = PolicyRow.__table__  # type: ignore[attr-defined]
AUDIT = AuditRow.__table__  # type: ignore[attr-defined]
JOINING = JoiningRow.__table__  # type: ignore[attr-defined]
RUN_STEP = RunStepRow.__table__  # type: ignore[attr-defined]
DECISION = DecisionRow.__table__  # type: ignore[attr-defined]
