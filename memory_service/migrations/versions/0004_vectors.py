"""Vectors, in sets by embedder, and a trail of what left the index of words."""

import sqlalchemy as sa
from alembic import op

from chassis.errors import FailedPrecondition

revision = "0004"
down_revision = "0003"

_INDEXES = (
    ("ix_memory_author", ("namespace", "author"), "author <> ''"),
    ("ix_memory_turn", ("namespace", "session", "event_sequence"), "session <> ''"),
    ("ix_memory_backlog", ("pk",), "vector_state = 1 AND delete_time IS NULL"),
)
# A memory's vectors go with its postings, in the same transaction, whoever removes them. What went is noted, so that an
# index held in memory can follow.
_SQLITE = (
    "CREATE TABLE memory_vector (seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, vector_set BIGINT NOT NULL, "
    "memory BIGINT NOT NULL, vector BLOB)",
    "CREATE TABLE memory_fts_gone (seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, "
    "memory BIGINT NOT NULL)",
    "CREATE INDEX ix_memory_fts_gone ON memory_fts_gone (namespace, seq)",
    "CREATE INDEX ix_memory_fts_source_namespace ON memory_fts_source (namespace, pk)",
    "CREATE TRIGGER memory_fts_forget AFTER DELETE ON memory_fts_source BEGIN "
    "DELETE FROM memory_vector WHERE memory = old.pk; "
    "INSERT INTO memory_fts_gone(namespace, memory) VALUES (old.namespace, old.pk); END",
    # What comes back has a key that such an index has passed long ago.
    "CREATE TRIGGER memory_fts_back AFTER UPDATE OF delete_time ON memory "
    "WHEN old.delete_time IS NOT NULL AND new.delete_time IS NULL BEGIN "
    "INSERT INTO memory_fts_gone(namespace, memory) VALUES ('N' || new.namespace, new.pk); END",
)
_POSTGRESQL = (
    "CREATE TABLE memory_vector (seq BIGSERIAL NOT NULL PRIMARY KEY, vector_set BIGINT NOT NULL, "
    "memory BIGINT NOT NULL, vector VECTOR)",
    "CREATE FUNCTION memory_fts_forget() RETURNS TRIGGER LANGUAGE plpgsql AS "
    "'BEGIN DELETE FROM memory_vector WHERE memory = OLD.memory; RETURN NULL; END'",
    "CREATE TRIGGER memory_fts_forget AFTER DELETE ON memory_fts FOR EACH ROW EXECUTE FUNCTION memory_fts_forget()",
)


def upgrade() -> None:
    op.create_table(
        "vector_set",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("namespace", sa.BigInteger(), nullable=False),
        sa.Column("embedder", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("shape", sa.SmallInteger(), nullable=False),
        sa.Column("serving", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vector_set_namespace", "vector_set", ["namespace"])
    for name, columns, where in _INDEXES:
        op.create_index(name, "memory", list(columns), sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    if op.get_bind().dialect.name == "postgresql":
        _make_extension()
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
    op.create_index("uq_memory_vector_memory", "memory_vector", ["memory", "vector_set"], unique=True)
    op.create_index("ix_memory_vector_set", "memory_vector", ["vector_set", "seq"])


def _make_extension() -> None:
    """Raises: FailedPrecondition: the server has no pgvector, or this user may not make it."""
    conn = op.get_bind()
    if conn.execute(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")).scalar_one_or_none():
        return
    found = conn.execute(sa.text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")).scalar_one_or_none()
    if not found:
        raise FailedPrecondition(
            "the PostgreSQL server has no pgvector, which the memory keeps its vectors with; install it there "
            "(Debian: postgresql-NN-pgvector) and start again",
            metadata={"extension": "vector"},
        )
    try:
        conn.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
    except sa.exc.DBAPIError as error:
        raise FailedPrecondition(
            "this user may not make the extension pgvector; let an administrator run CREATE EXTENSION vector in the "
            "memory's database and start again",
            metadata={"extension": "vector"},
        ) from error
