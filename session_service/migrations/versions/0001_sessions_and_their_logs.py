"""Sessions and their logs."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "event",
        sa.Column(
            "position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("transcript", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("run", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(
            "ix_event_run",
            ["session", "run"],
            unique=False,
            sqlite_where=sa.text("run <> ''"),
            postgresql_where=sa.text("run <> ''"),
        )
        batch_op.create_index("uq_event_id", ["session", "event_id"], unique=True)
        batch_op.create_index("uq_event_sequence", ["session", "sequence"], unique=True)

    log_head = op.create_table(
        "log_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("transcript", sa.BigInteger(), nullable=False),
        sa.Column("writes", sa.BigInteger(), nullable=False),
        sa.Column("purged", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # The secret signs the tokens of this store, so that those of another store, or of a restored copy, are told apart.
    row = {
        "id": 1,
        "position": 0,
        "session": 0,
        "transcript": 0,
        "writes": 0,
        "purged": 0,
        "secret": secrets.token_bytes(32),
    }
    op.bulk_insert(log_head, [row])
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

    op.create_table(
        "session",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("bot", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("session_id", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("uid", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("transcript", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("start_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_activity_time", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("active_runs", sa.Text(), nullable=False),
        sa.Column("last_run", sa.Text(), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("summary_sequence", sa.BigInteger(), nullable=False),
        sa.Column("summary_through", sa.BigInteger(), nullable=False),
        sa.Column("sort_rank", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("label_key", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("persistent", sa.SmallInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("group_name", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("icon", sa.Text(), nullable=False),
        sa.Column("color", sa.Text(), nullable=False),
        sa.Column("pinned", sa.SmallInteger(), nullable=False),
        sa.Column("unread", sa.SmallInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("overrides", sa.Text(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_via", sa.Text(), nullable=False),
        sa.Column("user_created", sa.SmallInteger(), nullable=False),
        sa.Column("parent", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("spawn_depth", sa.Integer(), nullable=False),
        sa.Column("fork_origin", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("create_rank", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("previous_uid", sa.Text(), nullable=False),
        sa.Column("pin_time", sa.BigInteger(), nullable=True),
        sa.Column("mark_unread_time", sa.BigInteger(), nullable=True),
        sa.Column("last_read_time", sa.BigInteger(), nullable=True),
        sa.Column("archive_time", sa.BigInteger(), nullable=True),
        sa.Column("delete_time", sa.BigInteger(), nullable=True),
        sa.Column("purge_time", sa.BigInteger(), nullable=True),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index("ix_session_bot_create_rank", ["bot", "state", "create_rank", "name"], unique=False)
        batch_op.create_index("ix_session_bot_rank", ["bot", "state", "sort_rank", "name"], unique=False)
        batch_op.create_index("ix_session_create_rank", ["state", "create_rank", "name"], unique=False)
        batch_op.create_index("ix_session_group", ["group_name"], unique=False)
        batch_op.create_index("ix_session_parent", ["parent"], unique=False)
        batch_op.create_index("ix_session_rank", ["state", "sort_rank", "name"], unique=False)
        batch_op.create_index("ix_session_uid", ["uid"], unique=False)
        batch_op.create_index("uq_session_label", ["bot", "label_key"], unique=True)
        batch_op.create_index("uq_session_name", ["name"], unique=True)

    op.create_table(
        "session_group",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "session_tag",
        sa.Column("tag", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tag", "session"),
    )
    with op.batch_alter_table("session_tag", schema=None) as batch_op:
        batch_op.create_index("ix_session_tag_session", ["session"], unique=False)

    op.create_table(
        "transcript",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("session", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=False),
        sa.Column("start_sequence", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
    )
    with op.batch_alter_table("transcript", schema=None) as batch_op:
        batch_op.create_index("ix_transcript_session", ["session"], unique=False)
        batch_op.create_index("uq_transcript_uid", ["uid"], unique=True)
