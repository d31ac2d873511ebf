"""joining, run steps, decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAME = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("mailbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("joining", sa.Integer(), nullable=False, server_default=sa.text("0")))

    op.create_table(
        "joining",
        sa.Column("message_id", _NAME, nullable=False),
        sa.Column("session", _NAME, nullable=False),
        sa.Column("mode", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("run", _NAME, nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
    )
    with op.batch_alter_table("joining", schema=None) as batch_op:
        batch_op.create_index(
            "ix_joining_open",
            ["session"],
            unique=False,
            sqlite_where=sa.text("state < 3"),
            postgresql_where=sa.text("state < 3"),
        )
        batch_op.create_index(
            "ix_joining_run",
            ["run"],
            unique=False,
            sqlite_where=sa.text("state = 2"),
            postgresql_where=sa.text("state = 2"),
        )

    op.create_table(
        "run_step",
        sa.Column("run", _NAME, nullable=False),
        sa.Column("step", _NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("effect", sa.SmallInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run", "step"),
    )

    op.create_table(
        "decision",
        sa.Column("message_id", _NAME, nullable=False),
        sa.Column("request_time", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("decision", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
    )
