"""A database of notes on each engine, opened as a service opens its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from notes_service.models import BOOKS, NOTES
from sqlalchemy import Connection, insert, select

from chassis.clock import FakeClock
from chassis.database import Database
from chassis.errors import AppError, NotFound
from chassis.group_writer import WriteKind


@dataclass
class Notebook:
    """A store of notes: the smallest thing that writes like a service. Keeps a record of what its handler was given."""

    database: Database
    calls: list[list[int]] = field(default_factory=list)
    committed: list[list[int]] = field(default_factory=list)
    rollbacks: int = 0

    def __post_init__(self) -> None:
        self.note: WriteKind[int, int] = self.database.writer.kind(
            "note",
            self._write,
            after_commit=lambda results: self.committed.append(list(results)),
            on_rollback=self._rolled_back,
        )

    def _write(self, conn: Connection, sequences: Sequence[int]) -> list[int | AppError]:
        self.calls.append(list(sequences))
        if 666_666 in sequences:
            raise RuntimeError("the handler has a bug with 666_666")
        legal = [n for n in sequences if n >= 0]
        if legal:
            conn.execute(insert(NOTES), [{"book": "main", "sequence": n, "body": b"note"} for n in legal])
        return [n * 10 if n >= 0 else NotFound(f"no note {n}") for n in sequences]

    def _rolled_back(self) -> None:
        self.rollbacks += 1

    async def stored(self) -> list[int]:
        return await self.database.read(
            lambda conn: list(conn.scalars(select(NOTES.c.sequence).order_by(NOTES.c.sequence)))
        )


@pytest.fixture
async def open_notebook_at(clock: FakeClock):
    """Opens notebooks on a database by its URL; closes them when the test ends."""
    opened: list[Database] = []

    async def open_one(url: str, **options) -> Notebook:
        database = await Database.open(url, migrations="notes_service.migrations", migrate=True, clock=clock, **options)
        opened.append(database)
        await database.writer.run(_ensure_book)
        return Notebook(database)

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture
def open_notebook(database_url: str, open_notebook_at):
    """Opens notebooks on the test's own database."""
    return partial(open_notebook_at, database_url)


def _ensure_book(conn: Connection) -> None:
    if conn.execute(select(BOOKS).where(BOOKS.c.name == "main")).one_or_none() is None:
        conn.execute(insert(BOOKS), {"name": "main"})


@pytest.fixture
async def notebook(open_notebook) -> Notebook:
    return await open_notebook()
