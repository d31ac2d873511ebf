"""Fixtures of all tests: a fake clock, and a database of the test's own on each engine."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from engines import EmbeddedPostgres, SqliteTemplates
from hypothesis import HealthCheck, settings

from chassis.clock import FakeClock

pytest_plugins = ("tidiness",)

# A person's own settings are no part of any test. At once: services read them while tests are collected.
for variable in [name for name in os.environ if name.startswith("MOBOT_")]:
    del os.environ[variable]

# How fast examples come is a fact about the machine and about who else uses it.
settings.register_profile("mobot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mobot")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL; it starts when the first test needs it and ends with the session."""
    server = EmbeddedPostgres()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplates:
    return SqliteTemplates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str | None:
    """The migrations that the test's database has had when the test begins.

    They are those of the service that the folder of the test is named for, as in integration/session_service; elsewhere
    None, for an empty database. A folder or a test that wants another one overrides this.
    """
    service = request.path.parent.name
    return f"{service}.migrations" if service.endswith("_service") and find_spec(service) else None


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_templates: SqliteTemplates, schema: str | None) -> str:
    path = tmp_path / "store.sqlite3"
    if schema is not None:
        sqlite_templates.copy_to(path, schema)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres_server: EmbeddedPostgres, schema: str | None) -> Iterator[str]:
    url = postgres_server.create_database(schema)
    yield url
    postgres_server.retire_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own without any rows; the test runs once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
