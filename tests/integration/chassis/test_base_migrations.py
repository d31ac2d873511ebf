"""Schemas: older, newer, and equal to the models."""

import asyncio
import sys

import pytest
from notes_service.models import METADATA
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, text

from chassis import migrations as schema
from chassis import upgrading
from chassis.database import Database
from chassis.errors import FailedPrecondition
from chassis.revision_writer import write_revision

MIGRATIONS = "notes_service.migrations"


def test_the_chain_is_read_without_running_it():
    chain = schema.read_chain(MIGRATIONS)
    assert (chain.head, chain.revisions) == ("0001", {"0001"})


def test_a_chain_with_two_heads_is_refused(tmp_path, monkeypatch):
    versions = tmp_path / "forked" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "forked" / "__init__.py").touch()
    for revision, down in (("1", "None"), ("2a", '"1"'), ("2b", '"1"')):
        (versions / f"{revision}.py").write_text(f'revision: str = "{revision}"\ndown_revision: str | None = {down}\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="exactly one head"):
        schema.read_chain("forked")


def test_migrations_make_what_the_models_say(database_url):
    assert upgrading.upgrade_database(database_url, MIGRATIONS) == "0001"
    assert upgrading.autogenerate_diff(database_url, METADATA) == []


def test_a_model_without_a_migration_is_found(database_url):
    upgrading.upgrade_database(database_url, MIGRATIONS)
    metadata = MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(metadata)
    Table("forgotten", metadata, Column("id", Integer, primary_key=True))
    assert [change[0] for change in upgrading.autogenerate_diff(database_url, metadata)] == ["add_table"]


def test_full_text_tables_are_no_difference(sqlite_url):
    upgrading.upgrade_database(sqlite_url, MIGRATIONS)
    engine = create_engine(sqlite_url)
    with engine.begin() as conn:
        conn.execute(text("CREATE VIRTUAL TABLE note_fts USING fts5(body)"))
    engine.dispose()
    assert upgrading.autogenerate_diff(sqlite_url, METADATA) == []


async def test_an_older_schema_is_refused_unless_it_may_be_migrated(database_url, clock):
    with pytest.raises(FailedPrecondition, match="has schema none") as caught:
        await Database.open(database_url, migrations=MIGRATIONS, migrate=False, clock=clock)
    assert caught.value.reason == "SCHEMA_STALE"
    database = await Database.open(database_url, migrations=MIGRATIONS, migrate=True, clock=clock)
    await database.close()
    database = await Database.open(database_url, migrations=MIGRATIONS, migrate=False, clock=clock)
    await database.close()


@pytest.mark.parametrize("migrate", [True, False])
async def test_data_of_a_newer_version_is_refused(database_url, clock, migrate):
    database = await Database.open(database_url, migrations=MIGRATIONS, migrate=True, clock=clock)
    await database.writer.run(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '0099'")) and None
    )
    await database.close()
    with pytest.raises(FailedPrecondition, match="belongs to a newer version") as caught:
        await Database.open(database_url, migrations=MIGRATIONS, migrate=migrate, clock=clock)
    assert caught.value.reason == "SCHEMA_STALE"
    assert caught.value.metadata["stored"] == "0099"


async def test_a_migration_that_fails_halfway_leaves_the_schema_as_it_was(database_url, clock, broken_chain):
    with pytest.raises(RuntimeError, match="halfway"):
        await Database.open(database_url, migrations=broken_chain, migrate=True, clock=clock)
    database = await Database.open(database_url, migrations=MIGRATIONS, migrate=True, clock=clock)
    await database.close()


@pytest.fixture
def broken_chain(tmp_path, monkeypatch):
    versions = tmp_path / "broken_chain" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "broken_chain" / "__init__.py").touch()
    (tmp_path / "broken_chain" / "env.py").write_text(
        "from notes_service.models import METADATA\nfrom chassis.migrations import run_env\nrun_env(METADATA)\n"
    )
    (versions / "0001.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        'revision = "0001"\ndown_revision = None\n'
        'def upgrade():\n    op.create_table("book", sa.Column("x", sa.Integer()))\n    raise RuntimeError("halfway")\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "broken_chain"


async def test_a_store_at_the_newest_schema_opens_without_alembic(sqlite_url, clock):
    database = await Database.open(sqlite_url, migrations=MIGRATIONS, migrate=True, clock=clock)
    await database.close()
    alembic = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "alembic"}
    for name in alembic:
        del sys.modules[name]
    try:
        database = await Database.open(sqlite_url, migrations=MIGRATIONS, migrate=True, clock=clock)
        assert "alembic" not in sys.modules
        await database.close()
    finally:
        sys.modules.update(alembic)


async def test_replicas_that_start_together_migrate_once(postgresql_url, clock):
    databases = await asyncio.gather(
        *(Database.open(postgresql_url, migrations=MIGRATIONS, migrate=True, clock=clock) for _ in range(3))
    )
    for database in databases:
        await database.ping()
        await database.close()


def test_a_new_revision_holds_what_the_chain_lacks(tmp_path, monkeypatch):
    package = tmp_path / "tea_service" / "migrations"
    package.mkdir(parents=True)
    (tmp_path / "tea_service" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "env.py").write_text(
        "from chassis.migrations import run_env\nfrom tea_service.models import METADATA\nrun_env(METADATA)\n"
    )
    models = tmp_path / "tea_service" / "models.py"
    models.write_text(
        "from sqlalchemy import Column, Integer, MetaData, Table\nMETADATA = MetaData()\n"
        'Table("tea", METADATA, Column("id", Integer, primary_key=True))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    first = write_revision("tea_service.migrations", "Create the tea")
    assert first.name == "0001_create_the_tea.py"
    models.write_text(models.read_text() + 'METADATA.tables["tea"].append_column(Column("cups", Integer))\n')
    del sys.modules["tea_service.models"]
    second = write_revision("tea_service.migrations", "Count the cups")
    assert 'down_revision = "0001"' in second.read_text()
    assert "add_column" in second.read_text()
    assert "create_table" not in second.read_text()
    url = f"sqlite:///{tmp_path / 'tea.sqlite3'}"
    assert upgrading.upgrade_database(url, "tea_service.migrations") == "0002"
    assert upgrading.autogenerate_diff(url, sys.modules["tea_service.models"].METADATA) == []
