"""Grants, and what was done through them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "memory_grant",
        sa.Column("pk", _KEY, autoincrement=True, nullable=False),
        sa.Column("bot", _NAME, nullable=False),
        sa.Column("grant_id", _NAME, nullable=False),
        sa.Column("grantee", _NAME, nullable=False),
        sa.Column("access", sa.SmallInteger(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.Column("revoke_time", sa.BigInteger(), nullable=True),
        sa.Column("access_count", sa.BigInteger(), nullable=False),
        sa.Column("access_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("pk"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_memory_grant_id", "memory_grant", ["bot", "grant_id"], unique=True)
    op.create_index("ix_memory_grant_grantee", "memory_grant", ["grantee", "bot"])
    op.create_table(
        "memory_access",
        sa.Column("pk", _KEY, autoincrement=True, nullable=False),
        sa.Column("bot", _NAME, nullable=False),
        sa.Column("access_id", _NAME, nullable=False),
        sa.Column("grant_id", _NAME, nullable=False),
        sa.Column("grantee", _NAME, nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("resource_count", sa.BigInteger(), nullable=False),
        sa.Column("access_time", sa.BigInteger(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pk"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_memory_access_id", "memory_access", ["bot", "access_id"], unique=True)
    op.create_index("ix_memory_access_bot", "memory_access", ["bot", "pk"])
    op.create_index("ix_memory_access_time", "memory_access", ["access_time"])
