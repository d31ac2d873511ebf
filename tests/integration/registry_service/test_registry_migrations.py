"""The registry's schema: the chain of migrations makes exactly the tables that the models describe."""

import pytest
from registry_store import MIGRATIONS, opened

from chassis import upgrading
from registry_service.models import RegistryTable


def test_the_migrations_make_what_the_models_say(database_url):
    upgrading.upgrade_database(database_url, MIGRATIONS)
    assert upgrading.autogenerate_diff(database_url, RegistryTable.metadata) == []


class Killed(Exception):
    """Stands for the end of the process."""


async def test_a_write_that_dies_before_its_commit_never_was(database_url, clock):
    dying = False

    def die(moment: str) -> None:
        if dying and moment == "before":
            raise Killed

    async with opened(database_url, clock, commit_hook=die) as registry:
        await registry.create("kept")
        dying = True
        with pytest.raises(Killed):
            await registry.create("lost")
        dying = False
        assert [change.position for change in await registry.store.changes(0, 10)] == [1]
        await registry.create("next")
        assert (await registry.store.head()).position == 2
