"""Fixtures of the end-to-end tests: a started mobot in each layout, and the stock client.

Most tests run in the default layout, what a layout could break also in the isolated one; the layout between the two,
with the gateway apart from the core, only has its processes killed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import APART_LAYOUT, ISOLATED_LAYOUT, Mobot, running
from stock import StockClient

from benchmarks.openclaw_peer import Installation, cache, install

# The signing device of the gateway's own tests.
sys.path.append(str(Path(__file__).parents[1] / "unit" / "gateway"))


@pytest.fixture(scope="session", autouse=True)
def _what_node_compiles_is_kept() -> Iterator[None]:
    """In the user's cache it serves the next run too; else each run would leave it in the temporary directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_COMPILE_CACHE", str(cache() / "node-compile-cache"))
        yield


@pytest.fixture(scope="session")
def default_mobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mobot]:
    """A mobot in the default layout, shared by all tests; stopped with Ctrl-C at the end, which must exit 0."""
    with running(tmp_path_factory.mktemp("default")) as started:
        yield started


@pytest.fixture(scope="session")
def apart_mobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mobot]:
    """The same with the gateway in a process of its own."""
    with running(tmp_path_factory.mktemp("apart"), layout=APART_LAYOUT) as started:
        yield started


@pytest.fixture(scope="session")
def isolated_mobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mobot]:
    """The same with one process for each service."""
    with running(tmp_path_factory.mktemp("isolated"), layout=ISOLATED_LAYOUT) as started:
        yield started


@pytest.fixture(params=["default", "isolated"])
def mobot(request: pytest.FixtureRequest) -> Mobot:
    """A mobot with everything in one process, then one with everything in its own."""
    started: Mobot = request.getfixturevalue(f"{request.param}_mobot")
    return started


@pytest.fixture(scope="session")
def openclaw() -> Installation:
    """The stock client, from npm; kept in the user's cache."""
    return install()


@pytest.fixture
def stock(openclaw: Installation, mobot: Mobot, tmp_path: Path) -> StockClient:
    return StockClient(openclaw, tmp_path / "openclaw-home", mobot)
