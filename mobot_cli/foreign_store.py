"""What `mobot sessions import` is pointed at, as files that can be sent. Nothing but reading is done where they lie."""

import contextlib
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from chassis.errors import FailedPrecondition

_SQLITE = b"SQLite format 3\x00"
_AGENT_STORE = "openclaw-agent.sqlite"
_INDEXES = ("sessions.json", "sessions-store.json")


class Source(NamedTuple):
    """One store or archive. `bot` is what its place says, "" when it says nothing. `path` is the file to send."""

    title: str
    bot: str
    path: Path


@contextlib.contextmanager
def sources(path: Path) -> Iterator[Sequence[Source]]:
    """Everything that `path` holds. Copies that are made for sending are gone afterwards.

    Raises:
        FailedPrecondition: a store cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mobot-import-") as directory:
        yield [_prepared(each, Path(directory) / str(number)) for number, each in enumerate(_found(path))]


def _found(path: Path) -> list[Source]:
    if not path.is_dir():
        return [Source(str(path), "", path)]
    agents = path / "agents"
    if agents.is_dir():
        return [store for agent in sorted(agents.iterdir()) if agent.is_dir() for store in _of_agent(agent)]
    return _of_agent(path) or _in(path, "")


def _of_agent(agent: Path) -> list[Source]:
    """The store of an agent's directory: the newer format when both are there, since it was made from the older."""
    bot = agent.name if agent.parent.name == "agents" else ""
    for directory in (agent / "agent", agent):
        if (directory / _AGENT_STORE).is_file():
            return [Source(str(directory / _AGENT_STORE), bot, directory / _AGENT_STORE)]
    return _in(agent / "sessions", bot)


def _in(directory: Path, bot: str) -> list[Source]:
    for index in _INDEXES:
        if (directory / index).is_file():
            return [Source(str(directory / index), bot, directory / index)]
    return []


def _prepared(source: Source, copy: Path) -> Source:
    path = source.path
    with path.open("rb") as file:
        start = file.read(len(_SQLITE))
    if start == _SQLITE:
        _copy_store(path, copy)
        return source._replace(path=copy)
    if path.name in _INDEXES:
        transcripts = sorted(each for each in path.parent.glob("*.jsonl") if each.is_file() and not each.is_symlink())
        if transcripts:
            with tarfile.open(copy, "w") as tar:
                for each in (path, *transcripts):
                    tar.add(each, arcname=each.name, recursive=False)
            return source._replace(path=copy)
    return source


def _copy_store(path: Path, copy: Path) -> None:
    """As of one moment, what lies in its write-ahead log included, also while its program runs."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            store.backup(target)
    except sqlite3.Error as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}") from None
