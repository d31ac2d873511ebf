"""The tables. Times are microseconds since 1970, UTC; JSON is text, read whole and never searched by SQL.

The index of words is not among them: it has another form on each engine (see the migration and `store.fulltext`).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field, SQLModel

from chassis.idempotency import ledger_table

METADATA = MetaData()

# SQLite makes a plain INTEGER primary key the table's own order, and numbers only such a key by itself.
_KEY = BigInteger().with_variant(Integer(), "sqlite")
# Names are compared byte by byte on both engines, or pages ordered by name would differ and indexes not be used.
_NAME = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class _Vector(UserDefinedType[str]):
    """pgvector's own type, written and read in its form of text."""

    cache_ok = True

    def get_col_spec(self, **kw: object) -> str:  # noqa: ARG002 - SQLAlchemy's own form
        return "VECTOR"


postgresql.base.ischema_names["vector"] = _Vector  # so that comparing schemas knows it

# Little-endian 32-bit floats on SQLite.
_FLOATS = LargeBinary().with_variant(_Vector(), "postgresql")


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=sql(where), postgresql_where=sql(where))


class _Table(SQLModel):
    metadata = METADATA


class NamespaceRow(_Table, table=True):
    """All that one bot remembers. A write locks the row, and `revision` grows with each.

    The counts are of memories that live (expired ones until they are swept), of deleted ones, and of the words of those
    that live. `erasing` is the id of the operation that erases it, empty when there is none.
    """

    __tablename__ = "namespace"
    __table_args__ = (Index("uq_namespace_bot", "bot", unique=True), {"sqlite_autoincrement": True})

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    live_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    word_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    erasing: str = Field(sa_column=Column(Text, nullable=False, server_default=""))


class MemoryRow(_Table, table=True):
    """A memory. Keys are never used twice, so that an index or cache cannot show a new memory for an old one.

    `happen_time` is the event's time, or the creation's where that is unknown; `principal` belongs to the provenance,
    `change` and `changed_by` to the present version. `data` is the metadata. `word_count` is the length for ranking.
    """

    __tablename__ = "memory"
    __table_args__ = (
        Index("uq_memory_id", "namespace", "memory_id", unique=True),
        Index("ix_memory_text_key", "namespace", "text_key"),
        Index("ix_memory_create_time", "namespace", "create_time", "memory_id"),
        _partial("ix_memory_author", "namespace", "author", where="author <> ''"),
        _partial("ix_memory_turn", "namespace", "session", "event_sequence", where="session <> ''"),
        _partial("ix_memory_backlog", "pk", where="vector_state = 1 AND delete_time IS NULL"),
        Index(
            "ix_memory_expire_time",
            "expire_time",
            sqlite_where=sql("expire_time IS NOT NULL"),
            postgresql_where=sql("expire_time IS NOT NULL"),
        ),
        Index(
            "ix_memory_purge_time",
            "purge_time",
            sqlite_where=sql("purge_time IS NOT NULL"),
            postgresql_where=sql("purge_time IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    namespace: int = Field(sa_column=Column(BigInteger, nullable=False))
    memory_id: str = Field(sa_column=Column(_NAME, nullable=False))
    uid: str = Field(sa_column=Column(Text, nullable=False))
    text: str = Field(sa_column=Column(Text, nullable=False))
    text_key: str = Field(sa_column=Column(Text, nullable=False))
    context: str = Field(sa_column=Column(Text, nullable=False))
    kind: int = Field(sa_column=Column(SmallInteger, nullable=False))
    tags: str = Field(sa_column=Column(Text, nullable=False))
    author: str = Field(sa_column=Column(Text, nullable=False))
    importance: float = Field(sa_column=Column(Double, nullable=False))
    pinned: bool = Field(sa_column=Column(Boolean, nullable=False))
    data: str = Field(sa_column=Column(Text, nullable=False))
    expire_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    event_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    happen_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    session: str = Field(sa_column=Column(Text, nullable=False))
    event_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    session_uid: str = Field(sa_column=Column(Text, nullable=False))
    run_id: str = Field(sa_column=Column(Text, nullable=False))
    source: int = Field(sa_column=Column(SmallInteger, nullable=False))
    principal: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    change: int = Field(sa_column=Column(SmallInteger, nullable=False))
    changed_by: str = Field(sa_column=Column(Text, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    delete_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    purge_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    word_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    vector_state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    use_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    use_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class MemoryTagRow(_Table, table=True):
    """A tag of a memory, for filters; the memory's own row has them all, in order."""

    __tablename__ = "memory_tag"
    __table_args__ = (Index("ix_memory_tag_tag", "tag", "memory"),)

    memory: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    tag: str = Field(sa_column=Column(_NAME, primary_key=True))


class MemoryVersionRow(_Table, table=True):
    """A memory as it was before its present version. `content` is JSON."""

    __tablename__ = "memory_version"

    memory: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    change: int = Field(sa_column=Column(SmallInteger, nullable=False))
    changed_by: str = Field(sa_column=Column(Text, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    delete_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    purge_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    content: str = Field(sa_column=Column(Text, nullable=False))


class BlockRow(_Table, table=True):
    """A block as it is. `content` is JSON; `position` is its order among the bot's blocks."""

    __tablename__ = "block"

    namespace: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    block_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    uid: str = Field(sa_column=Column(Text, nullable=False))
    position: int = Field(sa_column=Column(Integer, nullable=False))
    content: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    change: int = Field(sa_column=Column(SmallInteger, nullable=False))
    principal: str = Field(sa_column=Column(Text, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))


class BlockVersionRow(_Table, table=True):
    """A block as it was before its present version."""

    __tablename__ = "block_version"

    namespace: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    block_id: str = Field(sa_column=Column(_NAME, primary_key=True))
    version: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    change: int = Field(sa_column=Column(SmallInteger, nullable=False))
    principal: str = Field(sa_column=Column(Text, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    content: str = Field(sa_column=Column(Text, nullable=False))


class GrantRow(_Table, table=True):
    """A grant, under the bot that gives it. `slice` is a JSON object."""

    __tablename__ = "memory_grant"
    __table_args__ = (
        Index("uq_memory_grant_id", "bot", "grant_id", unique=True),
        Index("ix_memory_grant_grantee", "grantee", "bot"),
        {"sqlite_autoincrement": True},
    )

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    grant_id: str = Field(sa_column=Column(_NAME, nullable=False))
    grantee: str = Field(sa_column=Column(_NAME, nullable=False))
    access: int = Field(sa_column=Column(SmallInteger, nullable=False))
    slice: str = Field(sa_column=Column(Text, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    principal: str = Field(sa_column=Column(Text, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    expire_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    revoke_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    access_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    access_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class AccessRow(_Table, table=True):
    """One access through a grant. `resources` is a JSON list of names."""

    __tablename__ = "memory_access"
    __table_args__ = (
        Index("uq_memory_access_id", "bot", "access_id", unique=True),
        Index("ix_memory_access_bot", "bot", "pk"),
        Index("ix_memory_access_time", "access_time"),
        {"sqlite_autoincrement": True},
    )

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    access_id: str = Field(sa_column=Column(_NAME, nullable=False))
    grant_id: str = Field(sa_column=Column(_NAME, nullable=False))
    grantee: str = Field(sa_column=Column(_NAME, nullable=False))
    method: str = Field(sa_column=Column(Text, nullable=False))
    resources: str = Field(sa_column=Column(Text, nullable=False))
    resource_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    access_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    trace_id: str = Field(sa_column=Column(Text, nullable=False))


class OperationRow(_Table, table=True):
    """A long work on a bot's memory. `arguments`, `progress`, `result` and `error` are JSON objects.

    `owner` is the process that works on it until `lease_time`; before `retry_time` nobody does.
    """

    __tablename__ = "operation"
    __table_args__ = (
        Index("uq_operation_id", "bot", "operation_id", unique=True),
        Index(
            "ix_operation_unfinished",
            "state",
            sqlite_where=sql("end_time IS NULL"),
            postgresql_where=sql("end_time IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    bot: str = Field(sa_column=Column(_NAME, nullable=False))
    operation_id: str = Field(sa_column=Column(_NAME, nullable=False))
    kind: int = Field(sa_column=Column(SmallInteger, nullable=False))
    state: int = Field(sa_column=Column(SmallInteger, nullable=False))
    principal: str = Field(sa_column=Column(Text, nullable=False))
    arguments: str = Field(sa_column=Column(Text, nullable=False))
    progress: str = Field(sa_column=Column(Text, nullable=False))
    result: str = Field(sa_column=Column(Text, nullable=False))
    error: str = Field(sa_column=Column(Text, nullable=False))
    done_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    total_count: int = Field(sa_column=Column(BigInteger, nullable=False))
    phase: str = Field(sa_column=Column(Text, nullable=False))
    attempt_count: int = Field(sa_column=Column(Integer, nullable=False))
    failure_count: int = Field(sa_column=Column(Integer, nullable=False))
    owner: str = Field(sa_column=Column(Text, nullable=False))
    lease_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    retry_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    create_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    update_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    start_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    end_time: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class VectorSetRow(_Table, table=True):
    """Vectors of one namespace by one embedder. One set of a namespace serves; another may be in the making.

    `shape` says what each memory is embedded as.
    """

    __tablename__ = "vector_set"
    __table_args__ = (Index("ix_vector_set_namespace", "namespace"), {"sqlite_autoincrement": True})

    pk: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    namespace: int = Field(sa_column=Column(BigInteger, nullable=False))
    embedder: str = Field(sa_column=Column(Text, nullable=False))
    model: str = Field(sa_column=Column(Text, nullable=False))
    fingerprint: str = Field(sa_column=Column(Text, nullable=False))
    dimension: int = Field(sa_column=Column(Integer, nullable=False))
    shape: int = Field(sa_column=Column(SmallInteger, nullable=False))
    serving: bool = Field(sa_column=Column(Boolean, nullable=False))


class MemoryVectorRow(_Table, table=True):
    """The vector of a memory that lives; absent when the embedder refused its text.

    Whatever takes a memory out of the index of words takes its vectors away too: a trigger sees to that.
    """

    __tablename__ = "memory_vector"
    __table_args__ = (
        Index("uq_memory_vector_memory", "memory", "vector_set", unique=True),
        Index("ix_memory_vector_set", "vector_set", "seq"),
        {"sqlite_autoincrement": True},
    )

    seq: int = Field(sa_column=Column(_KEY, primary_key=True, autoincrement=True))
    vector_set: int = Field(sa_column=Column(BigInteger, nullable=False))
    memory: int = Field(sa_column=Column(BigInteger, nullable=False))
    vector: str | None = Field(sa_column=Column(_FLOATS, nullable=True))


NAMESPACE: Table = METADATA.tables["namespace"]
MEMORY: Table = METADATA.tables["memory"]
MEMORY_TAG: Table = METADATA.tables["memory_tag"]
MEMORY_VERSION: Table = METADATA.tables["memory_version"]
BLOCK: Table = METADATA.tables["block"]
BLOCK_VERSION: Table = METADATA.tables["block_version"]
GRANT: Table = METADATA.tables["memory_grant"]
ACCESS: Table = METADATA.tables["memory_access"]
OPERATION: Table = METADATA.tables["operation"]
VECTOR_SET: Table = METADATA.tables["vector_set"]
MEMORY_VECTOR: Table = METADATA.tables["memory_vector"]
LEDGER: Table = ledger_table(METADATA)
