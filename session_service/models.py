"""The tables. Times are microseconds since 1970, UTC. JSON is text: it is read whole and never searched by SQL.

Surrogate keys are assigned by the store from `log_head`, so that nothing is ever numbered twice.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Table, Text, text
from sqlalchemy.dialects import postgresql
from sqlmodel import Field, SQLModel

from chassis.idempotency import ledger_table

METADATA = MetaData()

# SQLite makes a plain INTEGER primary key the table's own order, so that rows are appended, not inserted.
_KEY = BigInteger().with_variant(Integer(), "sqlite")
# Names are compared byte by byte on both engines, or pages ordered by name would differ and indexes not be used.
_NAME = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class _Table(SQLModel):
    metadata = METADATA


class LogHeadRow(_Table, table=True):
    """One row. Locking it is what puts the writes of all replicas in order; `secret` signs tokens of this store.

    `position`, `session` and `transcript` are the last numbers used. Positions up to `purged` may be missing. `writes`
    counts the transactions that wrote anything.
    """

    __tablename__ = "log_head"

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    session: int = Field(sa_column=Column(BigInteger, nullable=False))
    transcript: int = Field(sa_column=Column(BigInteger, nullable=False))
    writes: int = Field(sa_column=Column(BigInteger, nullable=False))
    purged: int = Field(sa_column=Column(BigInteger, nullable=False))
    secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SessionRow(_Table, table=True):
    """A session.

    `sort_rank` and `create_rank` are negated times, so that ascending order is newest first: of the last activity, from
    which a pinned session gets PIN_LIFT off to stand before all others, and of the creation.

    `label_key` is NULL without a label and while the session is deleted. `search_text` is folded text for filters.
    """

    __tablename__ = "session"
    __table_args__ = (
        Index("uq_session_name", "name", unique=True),
        Index("uq_session_label", "bot", "label_key", unique=True),
        Index("ix_session_uid", "uid"),
        Index("ix_session_rank", "state", "sort_rank", "name"),
        Index("ix_session_bot_rank", "bot", "state", "sort_rank", "name"),
        Index("ix_session_create_rank", "state", "create_rank", "name"),
        Index("ix_session_bot_create_rank", "bot", "state", "create_rank", "name"),
        Index("ix_session_group", "group_name"),
        Index("ix_session_parent", "parent"),
    )

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=False))
    name: str = Field(sa_column=Column(_NAME, nullable=False))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    session_id: str = Field(sa_column=Column(_NAME, nullable=False))
    uid: str = Field(sa_column=Column(_NAME, nullable=False))
    transcript: int = Field(sa_column=Column(BigInteger, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    mark: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    start_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_activity_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    status: int = Field(sa_column=Column(SmallInteger, nullable=False))
    active_runs: str = Field(sa_column=Column(Text, nullable=False))
    last_run: str = Field(sa_column=Column(Text, nullable=False))
    message_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    usage: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=Column(Text, nullable=False))
    preview: str = Field(sa_column=Column(Text, nullable=False))
    summary_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    summary_through: int = Field(sa_column=Column(BigInteger, nullable=False))
    sort_rank: int = Field(sa_column=Column(BigInteger, nullable=False))
    label: str = Field(sa_column=Column(Text, nullable=False))
    label_key: str | None = Field(sa_column=Column(_NAME, nullable=True))
    display_name: str = Field(sa_column=Column(Text, nullable=False))
    persistent: int = Field(sa_column=Column(SmallInteger, nullable=False))
    description: str = Field(sa_column=Column(Text, nullable=False))
    group_name: str = Field(sa_column=Column(Text, nullable=False))
    tags: str = Field(sa_column=Column(Text, nullable=False))
    icon: str = Field(sa_column=Column(Text, nullable=False))
    color: str = Field(sa_column=Column(Text, nullable=False))
    pinned: int = Field(sa_column=Column(SmallInteger, nullable=False))
    unread: int = Field(sa_column=Column(SmallInteger, nullable=False))
    model: str = Field(sa_column=Column(Text, nullable=False))
    overrides: str = Field(sa_column=Column(Text, nullable=False))
    expire_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    created_via: str = Field(sa_column=Column(Text, nullable=False))
    user_created: int = Field(sa_column=Column(SmallInteger, nullable=False))
    parent: str = Field(sa_column=Column(_NAME, nullable=False))
    lineage: str = Field(sa_column=Column(Text, nullable=False))
    spawn_depth: int = Field(sa_column=Column(Integer, nullable=False))
    fork_origin: str = Field(sa_column=Column(Text, nullable=False))
    template: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_rank: int = Field(sa_column=Column(BigInteger, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    previous_uid: str = Field(sa_column=Column(Text, nullable=False))
    pin_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    mark_unread_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    last_read_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    archive_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    delete_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    purge_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    search_text: str = Field(sa_column=Column(Text, nullable=False))


class SessionTagRow(_Table, table=True):
    """A tag of a session, for filters; the session's own row has them all, in order."""

    __tablename__ = "session_tag"
    __table_args__ = (Index("ix_session_tag_session", "session"),)

    tag: str = Field(sa_column=Column(_NAME, primary_key=True))
    session: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


class TranscriptRow(_Table, table=True):
    """A transcript: what a session's log holds between two resets. `start_sequence` is exclusive. Never changes."""

    __tablename__ = "transcript"
    __table_args__ = (Index("uq_transcript_uid", "uid", unique=True), Index("ix_transcript_session", "session"))

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=False))
    session: int = Field(sa_column=Column(BigInteger, nullable=False))
    uid: str = Field(sa_column=Column(_NAME, nullable=False))
    start_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))


class EventRow(_Table, table=True):
    """A line of the log. `position` orders the events of all sessions, dense and in commit order.

    `payload` is the contract's event without the fields that the other columns hold.
    """

    __tablename__ = "event"
    __table_args__ = (
        Index("uq_event_sequence", "session", "sequence", unique=True),
        Index("uq_event_id", "session", "event_id", unique=True),
        Index(
            "ix_event_run",
            "session",
            "run",
            sqlite_where=text("run <> ''"),
            postgresql_where=text("run <> ''"),
        ),
    )

    position: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=False))
    session: int = Field(sa_column=Column(BigInteger, nullable=False))
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    transcript: int = Field(sa_column=Column(BigInteger, nullable=False))
    event_id: str = Field(sa_column=Column(_NAME, nullable=False))
    kind: int = Field(sa_column=Column(SmallInteger, nullable=False))
    run: str = Field(sa_column=Column(_NAME, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SessionGroupRow(_Table, table=True):
    """A group of the session list, in its place."""

    __tablename__ = "session_group"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    position: int = Field(sa_column=Column(Integer, nullable=False))


PIN_LIFT = 1 << 60

LOG_HEAD: Table = METADATA.tables["log_head"]
SESSION: Table = METADATA.tables["session"]
SESSION_TAG: Table = METADATA.tables["session_tag"]
TRANSCRIPT: Table = METADATA.tables["transcript"]
EVENT: Table = METADATA.tables["event"]
SESSION_GROUP: Table = METADATA.tables["session_group"]
LEDGER: Table = ledger_table(METADATA)
