"""the registry."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "bot",
        sa.Column("id", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("display_name", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("set_name", sa.String(), nullable=False),
        sa.Column("brain_kind", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("state_reason", sa.String(), nullable=False),
        sa.Column("resume_time", sa.BigInteger(), nullable=True),
        sa.Column("lifecycle", sa.String(), nullable=False),
        sa.Column("drain_ask_time", sa.BigInteger(), nullable=True),
        sa.Column("drain_deadline", sa.BigInteger(), nullable=True),
        sa.Column("retention_s", sa.Float(), nullable=True),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("delete_time", sa.BigInteger(), nullable=True),
        sa.Column("purge_time", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("bot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bot_drain_deadline"), ["drain_deadline"], unique=False)
        batch_op.create_index(batch_op.f("ix_bot_purge_time"), ["purge_time"], unique=False)
        batch_op.create_index(batch_op.f("ix_bot_resume_time"), ["resume_time"], unique=False)
        batch_op.create_index(batch_op.f("ix_bot_set_name"), ["set_name"], unique=False)

    op.create_table(
        "bot_capability",
        sa.Column("bot", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("capability", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("bot", "capability"),
    )
    op.create_table(
        "bot_label",
        sa.Column("bot", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("bot", "key"),
    )
    op.create_table(
        "change",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("change_time", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("compacted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
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
        "serving",
        sa.Column("worker", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("bot", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("in_flight_count", sa.BigInteger(), nullable=False),
        sa.Column("brain_health", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("report_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("worker", "bot"),
    )
    with op.batch_alter_table("serving", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_serving_bot"), ["bot"], unique=False)

    op.create_table(
        "worker",
        sa.Column("id", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("registrant", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("in_flight_count", sa.BigInteger(), nullable=False),
        sa.Column("lease_id", sa.String(), nullable=False),
        sa.Column("lease_s", sa.Float(), nullable=False),
        sa.Column("suspect_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("report_time", sa.BigInteger(), nullable=True),
        sa.Column("drain", sa.Boolean(), nullable=False),
        sa.Column("drain_time", sa.BigInteger(), nullable=True),
        sa.Column("drain_deadline", sa.BigInteger(), nullable=True),
        sa.Column("drain_reason", sa.String(), nullable=False),
        sa.Column("end_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_worker_expire_time"), ["expire_time"], unique=False)
        batch_op.create_index("ix_worker_state", ["state"], unique=False)

    op.create_table(
        "worker_label",
        sa.Column("worker", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "key"),
    )
