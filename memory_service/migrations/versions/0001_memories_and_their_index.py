"""Memories, their versions, blocks, and the index of words."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# The source holds what is indexed, so that a posting can always be taken back word for word, also when texts are cut
# into words in another way by then. Only memories that live have a row. Words come ready: `ascii` splits at spaces.
_SQLITE_INDEX = (
    "CREATE TABLE memory_fts_source (pk INTEGER PRIMARY KEY, namespace TEXT NOT NULL, text TEXT NOT NULL, "
    "context TEXT NOT NULL)",
    "CREATE VIRTUAL TABLE memory_fts USING fts5(namespace, text, context, content='memory_fts_source', "
    "content_rowid='pk', tokenize='ascii')",
    "CREATE TRIGGER memory_fts_insert AFTER INSERT ON memory_fts_source BEGIN "
    "INSERT INTO memory_fts(rowid, namespace, text, context) "
    "VALUES (new.pk, new.namespace, new.text, new.context); END",
    "CREATE TRIGGER memory_fts_delete AFTER DELETE ON memory_fts_source BEGIN "
    "INSERT INTO memory_fts(memory_fts, rowid, namespace, text, context) "
    "VALUES ('delete', old.pk, old.namespace, old.text, old.context); END",
)
_POSTGRESQL_INDEX = (
    "CREATE TABLE memory_fts (memory BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
    "CREATE INDEX ix_memory_fts_words ON memory_fts USING gin (words) WITH (fastupdate = off)",
)


def upgrade() -> None:
    op.create_table(
        "block",
        sa.Column("namespace", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.SmallInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "block_id"),
    )
    op.create_table(
        "block_version",
        sa.Column("namespace", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("block_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("change", sa.SmallInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "block_id", "version"),
    )
    op.create_table(
        "memory",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("namespace", sa.BigInteger(), nullable=False),
        sa.Column("memory_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_key", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("importance", sa.Double(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=True),
        sa.Column("event_time", sa.BigInteger(), nullable=True),
        sa.Column("happen_time", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=False),
        sa.Column("session_uid", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.SmallInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("delete_time", sa.BigInteger(), nullable=True),
        sa.Column("purge_time", sa.BigInteger(), nullable=True),
        sa.Column("word_count", sa.BigInteger(), nullable=False),
        sa.Column("vector_state", sa.SmallInteger(), nullable=False),
        sa.Column("use_count", sa.BigInteger(), nullable=False),
        sa.Column("use_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("memory", schema=None) as batch_op:
        batch_op.create_index("ix_memory_create_time", ["namespace", "create_time", "memory_id"], unique=False)
        batch_op.create_index(
            "ix_memory_expire_time",
            ["expire_time"],
            unique=False,
            sqlite_where=sa.text("expire_time IS NOT NULL"),
            postgresql_where=sa.text("expire_time IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_memory_purge_time",
            ["purge_time"],
            unique=False,
            sqlite_where=sa.text("purge_time IS NOT NULL"),
            postgresql_where=sa.text("purge_time IS NOT NULL"),
        )
        batch_op.create_index("ix_memory_text_key", ["namespace", "text_key"], unique=False)
        batch_op.create_index("uq_memory_id", ["namespace", "memory_id"], unique=True)

    op.create_table(
        "memory_tag",
        sa.Column("memory", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("memory", "tag"),
    )
    with op.batch_alter_table("memory_tag", schema=None) as batch_op:
        batch_op.create_index("ix_memory_tag_tag", ["tag", "memory"], unique=False)

    op.create_table(
        "memory_version",
        sa.Column("memory", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("change", sa.SmallInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("delete_time", sa.BigInteger(), nullable=True),
        sa.Column("purge_time", sa.BigInteger(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("memory", "version"),
    )
    op.create_table(
        "namespace",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("bot", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("live_count", sa.BigInteger(), nullable=False),
        sa.Column("deleted_count", sa.BigInteger(), nullable=False),
        sa.Column("word_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("namespace", schema=None) as batch_op:
        batch_op.create_index("uq_namespace_bot", ["bot"], unique=True)

    op.create_table(
        "request_ledger",
        sa.Column("principal", sa.String(length=512), nullable=False),
        sa.Column("method", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("principal", "method", "request_id"),
    )
    with op.batch_alter_table("request_ledger", schema=None) as batch_op:
        batch_op.create_index("ix_request_ledger_expire_time", ["expire_time"], unique=False)

    statements = _SQLITE_INDEX if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL_INDEX
    for statement in statements:
        op.execute(statement)
