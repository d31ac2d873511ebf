"""An index for the text filter of lists, on PostgreSQL, where its extension pg_trgm can be had.

The texts lie in a table of their own: a session's row is written anew by every append, and would be indexed anew.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_POSTGRESQL = (
    "CREATE TABLE session_text_fts (session BIGINT PRIMARY KEY, words TEXT NOT NULL)",
    "INSERT INTO session_text_fts SELECT pk, search_text FROM session",
    """CREATE FUNCTION session_text_fts_follow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            DELETE FROM session_text_fts WHERE session = OLD.pk;
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO session_text_fts VALUES (NEW.pk, NEW.search_text);
        ELSIF NEW.search_text <> OLD.search_text THEN
            UPDATE session_text_fts SET words = NEW.search_text WHERE session = NEW.pk;
        END IF;
        RETURN NULL;
    END $$""",
    "CREATE TRIGGER session_text_fts_follow AFTER INSERT OR DELETE OR UPDATE OF search_text ON session "
    "FOR EACH ROW EXECUTE FUNCTION session_text_fts_follow()",
    # Not every server has it, and not every role may create it. An operator can do both later: docs/operations.md.
    """DO $$
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX ix_session_text_words ON session_text_fts USING gin (words gin_trgm_ops);
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE 'texts of sessions have no index';
    END $$""",
)


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        for statement in _POSTGRESQL:
            bind.exec_driver_sql(statement)
