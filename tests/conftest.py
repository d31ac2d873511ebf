"""Fixtures of all tests: a fake clock, and an empty database on each engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import EmbeddedPostgres

from chassis.clock import FakeClock


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


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.sqlite3'}"


@pytest.fixture
def postgresql_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    url = postgres_server.create_database()
    yield url
    postgres_server.retire_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own; the test runs once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
