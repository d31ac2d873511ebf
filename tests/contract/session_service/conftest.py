"""A session service on SQLite, called over a local channel and over TCP alike."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from session_world import World

from chassis.migrations import upgrade_database
from session_service.__main__ import MIGRATIONS


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An empty store at the newest schema, to be copied: making the schema anew for each test would take most of it."""
    path = tmp_path_factory.mktemp("session") / "empty.sqlite3"
    upgrade_database(f"sqlite:///{path}", MIGRATIONS)
    return path


@pytest.fixture
def store_url(empty_store, tmp_path) -> str:
    path = tmp_path / "store.sqlite3"
    shutil.copy(empty_store, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["local", "tcp"])
async def world(request, store_url, tmp_path) -> AsyncIterator[World]:
    running = World(store_url, wire=request.param, data_dir=tmp_path)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def stub(world):
    return world.stub()
