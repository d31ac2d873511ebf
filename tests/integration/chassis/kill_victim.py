"""A process that writes notes and says which are acknowledged, until it ends itself without warning around a commit."""

import asyncio
import itertools
import os
import sys

from notes_service.models import BOOKS, NOTES
from sqlalchemy import insert, select

from chassis.clock import SystemClock
from chassis.database import Database


async def main(url: str, moment: str, commits: int) -> None:
    left = itertools.count(commits, -1)

    def hook(now: str) -> None:
        if now == moment and next(left) == 0:
            os._exit(9)

    database = await Database.open(
        url, migrations="notes_service.migrations", migrate=True, clock=SystemClock(), commit_hook=hook
    )

    def ensure_book(conn):
        if conn.execute(select(BOOKS)).first() is None:
            conn.execute(insert(BOOKS), {"name": "main"})

    await database.writer.run(ensure_book)
    start = await database.read(lambda conn: max(conn.scalars(select(NOTES.c.sequence)), default=-1) + 1)

    def append(conn, numbers):
        conn.execute(insert(NOTES), [{"book": "main", "sequence": n, "body": b"x" * 100} for n in numbers])
        return numbers

    kind = database.writer.kind("append", append)
    numbers = itertools.count(start)

    async def write() -> None:
        while True:
            os.write(1, b"%d\n" % await database.writer.submit(kind, next(numbers)))

    await asyncio.gather(*(write() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
