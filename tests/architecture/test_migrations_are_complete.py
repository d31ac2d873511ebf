"""Every service's chain of migrations, run on an empty database, makes exactly the tables that its models describe."""

import importlib

import pytest
from sqlalchemy import MetaData, inspect

from chassis import migrations as schema
from chassis import upgrading

SERVICES = ("registry", "session", "memory", "router")


def metadata_of(service: str) -> MetaData:
    """The one MetaData of the service's models."""
    models = importlib.import_module(f"{service}_service.models")
    found = {
        id(metadata): metadata
        for value in vars(models).values()
        if isinstance(metadata := getattr(value, "metadata", value), MetaData) and metadata.tables
    }
    (metadata,) = found.values()
    return metadata


@pytest.mark.parametrize("service", SERVICES)
def test_an_empty_database_is_brought_to_what_the_models_say(service, database_url):
    package = f"{service}_service.migrations"
    assert upgrading.upgrade_database(database_url, package) == schema.read_chain(package).head
    assert upgrading.autogenerate_diff(database_url, metadata_of(service)) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_database_at_the_head_is_left_alone(service, database_url):
    package = f"{service}_service.migrations"
    head = upgrading.upgrade_database(database_url, package)
    assert upgrading.upgrade_database(database_url, package) == head


def test_no_two_services_share_a_metadata():
    assert len({id(metadata_of(service)) for service in SERVICES}) == len(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_table_of_the_models_has_a_primary_key(service):
    for table in metadata_of(service).tables.values():
        assert inspect(table).primary_key, table.name
