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


# Those that count against their creator's cap: what people made and named, and use.
NAMED_SESSIONS = "user_created = 1 AND state = 1 AND label_key IS NOT NULL"


class _Table(SQLModel):
    metadata = METADATA


def _partial(name: str, where: str, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


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

    `label_key` and `label_skeleton` (equal for labels that look alike) are NULL without a label and while the session
    is deleted. `search_text` is folded text for filters. `expiry_warned` is the expiry that watchers were warned of,
    and `archive_due` when the session is archived for it.

    Indexes of few sessions leave out all others, so that an append moves no more than two of them.
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
        Index("ix_session_label_skeleton", "bot", "label_skeleton"),
        _partial("ix_session_group_rank", "group_name <> ''", "group_name", "state", "sort_rank", "name"),
        _partial("ix_session_parent_rank", "parent <> ''", "parent", "state", "sort_rank", "name"),
        _partial("ix_session_persistent_rank", "persistent = 1", "state", "sort_rank", "name"),
        _partial("ix_session_running_rank", "active_runs <> ''", "state", "sort_rank", "name"),
        _partial("ix_session_named", NAMED_SESSIONS, "created_by"),
        _partial("ix_session_expire", "expire_time IS NOT NULL", "expire_time"),
        _partial("ix_session_archive_due", "archive_due IS NOT NULL", "archive_due"),
        _partial("ix_session_purge", "purge_time IS NOT NULL", "purge_time"),
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
    label_skeleton: str | None = Field(sa_column=Column(_NAME, nullable=True))
    expiry_warned: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    archive_due: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class SessionTagRow(_Table, table=True):
    """A tag of a session, for filters; the session's own row has them all, in order."""

    __tablename__ = "session_tag"
    __table_args__ = (Index("ix_session_tag_session", "session"),)

    tag: str = Field(sa_column=Column(_NAME, primary_key=True))
    session: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


class TranscriptRow(_Table, table=True):
    """A transcript: what a session's log holds between two resets. `start_sequence` is exclusive and never changes.

    `kept` is what the session's row said of it when it was left (JSON), so that it can be gone back to.
    """

    __tablename__ = "transcript"
    __table_args__ = (Index("uq_transcript_uid", "uid", unique=True), Index("ix_transcript_session", "session"))

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=False))
    session: int = Field(sa_column=Column(BigInteger, nullable=False))
    uid: str = Field(sa_column=Column(_NAME, nullable=False))
    start_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    kept: str | None = Field(sa_column=Column(Text, nullable=True))


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


class SessionCountRow(_Table, table=True):
    """How many sessions of a bot are in a state: counting them anew would cost as much as there are."""

    __tablename__ = "session_count"

    bot: str = Field(sa_column=Column(_NAME, primary_key=True))
    state: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    sessions: int = Field(sa_column=Column(BigInteger, nullable=False))


class SessionTemplateRow(_Table, table=True):
    """A template. `fields` are those that a session made from it begins with (JSON)."""

    __tablename__ = "session_template"

    template_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    fields: str = Field(sa_column=Column(Text, nullable=False))
    opening: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))


class PurgedSessionRow(_Table, table=True):
    """A session that is gone, whose events are being removed some at a time."""

    __tablename__ = "purged_session"

    session: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


PIN_LIFT = 1 << 60

LOG_HEAD: Table = METADATA.tables["log_head"]
SESSION: Table = METADATA.tables["session"]
SESSION_TAG: Table = METADATA.tables["session_tag"]
TRANSCRIPT: Table = METADATA.tables["transcript"]
EVENT: Table = METADATA.tables["event"]
SESSION_GROUP: Table = METADATA.tables["session_group"]
SESSION_COUNT: Table = METADATA.tables["session_count"]
SESSION_TEMPLATE: Table = METADATA.tables["session_template"]
PURGED_SESSION: Table = METADATA.tables["purged_session"]
LEDGER: Table = ledger_table(METADATA)


class LogFollowerRow(_Table, table=True):
    """How far what is made from the log has got: the index of words and the usage by day, in one transaction each.

    `version` is that of the code that made them; another one makes them anew.
    """

    __tablename__ = "log_follower"

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(BigInteger, nullable=False))
    version: int = Field(sa_column=Column(Integer, nullable=False))


class UsageDayRow(_Table, table=True):
    """What a session consumed on one day. `day` counts from 1970, `run_time` is in microseconds."""

    __tablename__ = "usage_day"
    __table_args__ = (Index("ix_usage_day", "day"),)

    session: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    day: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    message_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    run_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    run_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    input_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    output_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cache_read_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cache_write_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    request_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    tool_call_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    cost_micros: int = Field(sa_column=Column(BigInteger, nullable=False))


class ShareLinkRow(_Table, table=True):
    """A way into one session for whoever has the token, of which only the SHA-256 is kept."""

    __tablename__ = "share_link"
    __table_args__ = (
        Index("uq_share_link_token", "token_hash", unique=True),
        Index("ix_share_link_session", "session", "link_id"),
    )

    link_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    session: int = Field(sa_column=Column(BigInteger, nullable=False))
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    start_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    through_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    expire_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    revoke_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))


LOG_FOLLOWER: Table = METADATA.tables["log_follower"]
USAGE_DAY: Table = METADATA.tables["usage_day"]
SHARE_LINK: Table = METADATA.tables["share_link"]
