"""The schema that the migrations make is the one that the tables describe."""

from chassis import migrations, upgrading
from memory_service.models import METADATA

PACKAGE = "memory_service.migrations"


def test_the_migrations_lead_to_the_tables(database_url: str):
    assert upgrading.upgrade_database(database_url, PACKAGE) == migrations.read_chain(PACKAGE).head
    assert upgrading.autogenerate_diff(database_url, METADATA) == []
