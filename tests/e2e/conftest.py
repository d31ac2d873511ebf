"""Fixtures of the end-to-end tests: a started mobot in each layout, and the stock client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Mobot, running
from stock import StockClient

from benchmarks.openclaw_peer import Installation, install


@pytest.fixture(scope="module", params=["default", "isolated"])
def mobot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mobot]:
    """A mobot shared by a module's tests, in each layout in turn; stopped with Ctrl-C, which must exit 0."""
    with running(tmp_path_factory.mktemp(request.param), isolated=request.param == "isolated") as started:
        yield started


@pytest.fixture(scope="module")
def default_mobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mobot]:
    """A mobot shared by a module's tests for which the layout makes no difference."""
    with running(tmp_path_factory.mktemp("default")) as started:
        yield started


@pytest.fixture(scope="session")
def openclaw() -> Installation:
    """The stock client, from npm; kept in the user's cache."""
    return install()


@pytest.fixture
def stock(openclaw: Installation, mobot: Mobot, tmp_path: Path) -> StockClient:
    return StockClient(openclaw, tmp_path / "openclaw-home", mobot)
