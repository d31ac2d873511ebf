"""Postings of new memories are written some dozens at a time (SQLite).

FTS5 writes several pages for each transaction that posts anything, however little; a put that stands alone would spend
a third of its time on them. So postings are written up to a mark, and what lies beyond it, a few rows that came last,
is posted by a later transaction. Nothing searches the postings without posting those first.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "CREATE TABLE memory_fts_state (posted INTEGER NOT NULL)",
    "INSERT INTO memory_fts_state (posted) SELECT coalesce(max(pk), 0) FROM memory_fts_source",
    "CREATE VIEW memory_fts_posted AS SELECT pk, namespace, text, context FROM memory_fts_source "
    "WHERE pk <= (SELECT posted FROM memory_fts_state)",
    "DROP TRIGGER memory_fts_insert",
    "DROP TRIGGER memory_fts_delete",
    "DROP TABLE memory_fts",
    "CREATE VIRTUAL TABLE memory_fts USING fts5(namespace, text, context, content='memory_fts_posted', "
    "content_rowid='pk', tokenize='ascii')",
    "INSERT INTO memory_fts(memory_fts) VALUES ('rebuild')",
    # A memory that comes back has an old key.
    "CREATE TRIGGER memory_fts_insert AFTER INSERT ON memory_fts_source "
    "WHEN new.pk <= (SELECT posted FROM memory_fts_state) BEGIN "
    "INSERT INTO memory_fts(rowid, namespace, text, context) "
    "VALUES (new.pk, new.namespace, new.text, new.context); END",
    "CREATE TRIGGER memory_fts_delete AFTER DELETE ON memory_fts_source "
    "WHEN old.pk <= (SELECT posted FROM memory_fts_state) BEGIN "
    "INSERT INTO memory_fts(memory_fts, rowid, namespace, text, context) "
    "VALUES ('delete', old.pk, old.namespace, old.text, old.context); END",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in _STATEMENTS:
            op.execute(statement)
