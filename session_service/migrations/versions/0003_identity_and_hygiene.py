"""Look-alikes of labels, caps, expiry, templates, former transcripts, and lists that cost what they show."""

import sqlalchemy as sa
from alembic import op

from session_service.domain.label import label_skeleton

revision = "0003"
down_revision = "0002"

_NAME = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
_BATCH = 1_000

_PARTIAL = (
    ("ix_session_group_rank", "group_name <> ''", ("group_name", "state", "sort_rank", "name")),
    ("ix_session_parent_rank", "parent <> ''", ("parent", "state", "sort_rank", "name")),
    ("ix_session_persistent_rank", "persistent = 1", ("state", "sort_rank", "name")),
    ("ix_session_running_rank", "active_runs <> ''", ("state", "sort_rank", "name")),
    ("ix_session_named", "user_created = 1 AND state = 1 AND label_key IS NOT NULL", ("created_by",)),
    ("ix_session_expire", "expire_time IS NOT NULL", ("expire_time",)),
    ("ix_session_archive_due", "archive_due IS NOT NULL", ("archive_due",)),
    ("ix_session_purge", "purge_time IS NOT NULL", ("purge_time",)),
)


def upgrade() -> None:
    op.add_column("session", sa.Column("label_skeleton", _NAME, nullable=True))
    op.add_column("session", sa.Column("expiry_warned", sa.BigInteger(), nullable=True))
    op.add_column("session", sa.Column("archive_due", sa.BigInteger(), nullable=True))
    op.add_column("transcript", sa.Column("kept", sa.Text(), nullable=True))
    op.create_table(
        "session_count",
        sa.Column("bot", _NAME, nullable=False),
        sa.Column("state", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sessions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bot", "state"),
    )
    op.create_table(
        "session_template",
        sa.Column("template_id", _NAME, nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("opening", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("template_id"),
    )
    op.create_table(
        "purged_session",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("session"),
    )
    _fill()
    op.drop_index("ix_session_group", "session")
    op.drop_index("ix_session_parent", "session")
    op.create_index("ix_session_label_skeleton", "session", ["bot", "label_skeleton"])
    for name, where, columns in _PARTIAL:
        op.create_index(name, "session", list(columns), sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _fill() -> None:
    conn = op.get_bind()
    conn.execute(
        sa.text(
            "INSERT INTO session_count (bot, state, sessions) "
            "SELECT bot, state, count(*) FROM session GROUP BY bot, state"
        )
    )
    after = 0
    while True:
        rows = conn.execute(
            sa.text(
                "SELECT pk, label FROM session WHERE pk > :after AND label_key IS NOT NULL ORDER BY pk LIMIT :batch"
            ),
            {"after": after, "batch": _BATCH},
        ).all()
        if not rows:
            return
        after = rows[-1].pk
        conn.execute(
            sa.text("UPDATE session SET label_skeleton = :skeleton WHERE pk = :pk"),
            [{"pk": row.pk, "skeleton": label_skeleton(row.label)} for row in rows],
        )
