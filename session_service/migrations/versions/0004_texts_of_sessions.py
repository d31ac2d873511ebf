"""An index for the text filter of lists, on SQLite. PostgreSQL looks through the rows, several processes at a time."""

from alembic import op

revision = "0004"
down_revision = "0003"

# The columns of a session are written all at once, so the triggers ask whether the text is another one.
_SQLITE = (
    "CREATE VIRTUAL TABLE session_fts USING fts5(search_text, content='session', content_rowid='pk', "
    "tokenize='trigram')",
    "INSERT INTO session_fts(session_fts) VALUES ('rebuild')",
    "CREATE TRIGGER session_fts_added AFTER INSERT ON session BEGIN "
    "INSERT INTO session_fts(rowid, search_text) VALUES (new.pk, new.search_text); END",
    "CREATE TRIGGER session_fts_removed AFTER DELETE ON session BEGIN "
    "INSERT INTO session_fts(session_fts, rowid, search_text) VALUES ('delete', old.pk, old.search_text); END",
    "CREATE TRIGGER session_fts_changed AFTER UPDATE OF search_text ON session "
    "WHEN old.search_text <> new.search_text BEGIN "
    "INSERT INTO session_fts(session_fts, rowid, search_text) VALUES ('delete', old.pk, old.search_text); "
    "INSERT INTO session_fts(rowid, search_text) VALUES (new.pk, new.search_text); END",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for statement in _SQLITE:
            op.execute(statement)
