"""Schema upgrades of all four services, outside of a running mobot."""

import importlib
from collections.abc import Iterator

from chassis.settings import ChassisSettings, load
from chassis.upgrading import upgrade_database
from mobot_cli.layout import SERVICES


def upgrade_all() -> Iterator[tuple[str, str]]:
    """Upgrades each service's database as its settings name it; yields the service and the revision it is at now."""
    chassis = load(ChassisSettings)
    chassis.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for service in SERVICES:
        module = importlib.import_module(f"{service}_service.settings")
        settings = load(getattr(module, f"{service.capitalize()}Settings"))
        url = settings.database_url or f"sqlite:///{chassis.data_dir / f'{service}.sqlite3'}"
        yield service, upgrade_database(url, f"{service}_service.migrations")
