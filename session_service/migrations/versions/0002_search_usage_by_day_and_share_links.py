"""Search, usage by day, and share links."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# The source holds what is indexed, so that a posting can always be taken back word for word, also when texts are cut
# into words in another way by then. Words come ready: `ascii` splits at spaces. No triggers: one writer fills both.
_SQLITE_INDEX = (
    "CREATE TABLE event_fts_source (position INTEGER PRIMARY KEY, session INTEGER NOT NULL, scope TEXT NOT NULL, "
    "words TEXT NOT NULL)",
    "CREATE INDEX ix_event_fts_source_session ON event_fts_source (session)",
    "CREATE VIRTUAL TABLE event_fts USING fts5(scope, words, content='event_fts_source', content_rowid='position', "
    "tokenize='ascii')",
    "INSERT INTO event_fts(event_fts, rank) VALUES ('rank', 'bm25(0.0, 1.0)')",
)
_POSTGRESQL_INDEX = (
    "CREATE TABLE event_fts (position BIGINT PRIMARY KEY, session BIGINT NOT NULL, words TSVECTOR NOT NULL)",
    "CREATE INDEX ix_event_fts_session ON event_fts (session)",
    "CREATE INDEX ix_event_fts_words ON event_fts USING gin (words) WITH (fastupdate = off)",
)


def upgrade() -> None:
    log_follower = op.create_table(
        "log_follower",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "share_link",
        sa.Column("link_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("start_sequence", sa.BigInteger(), nullable=False),
        sa.Column("through_sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=True),
        sa.Column("revoke_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("link_id"),
    )
    with op.batch_alter_table("share_link", schema=None) as batch_op:
        batch_op.create_index("ix_share_link_session", ["session", "link_id"], unique=False)
        batch_op.create_index("uq_share_link_token", ["token_hash"], unique=True)

    op.create_table(
        "usage_day",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.Column("run_count", sa.BigInteger(), nullable=False),
        sa.Column("run_time", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("request_count", sa.BigInteger(), nullable=False),
        sa.Column("tool_call_count", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", "day"),
    )
    with op.batch_alter_table("usage_day", schema=None) as batch_op:
        batch_op.create_index("ix_usage_day", ["day"], unique=False)

    # Version 0 is that of no code: the first start goes through the log from its beginning.
    op.bulk_insert(log_follower, [{"id": 1, "position": 0, "version": 0}])
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _SQLITE_INDEX if sqlite else _POSTGRESQL_INDEX:
        op.execute(statement)
