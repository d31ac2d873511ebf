"""Opening, reading and losing databases."""

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from notes_service.models import NOTES
from sqlalchemy import func, insert, select
from sqlalchemy.exc import DBAPIError

from chassis.database import Database
from chassis.errors import FailedPrecondition, Unavailable

MIGRATIONS = "notes_service.migrations"


async def test_a_database_says_which_engine_it_is(notebook, database_url):
    assert database_url.startswith(notebook.database.engine_name)
    await notebook.database.ping()


async def test_a_read_sees_one_snapshot_while_writes_go_on(notebook):
    await notebook.database.writer.submit(notebook.note, 1)
    loop = asyncio.get_running_loop()
    count = select(func.count()).select_from(NOTES)

    def read(conn):
        before = conn.scalar(count)
        if notebook.database.engine_name == "sqlite":
            asyncio.run_coroutine_threadsafe(notebook.database.writer.submit(notebook.note, 2), loop).result(10)
        return before, conn.scalar(count)

    assert await notebook.database.read(read) == (1, 1)


async def test_reads_run_side_by_side(notebook):
    for n in range(20):
        await notebook.database.writer.submit(notebook.note, n)
    results = await asyncio.gather(*(notebook.stored() for _ in range(50)))
    assert all(result == list(range(20)) for result in results)


async def test_a_read_cannot_write(notebook):
    with pytest.raises(DBAPIError):
        await notebook.database.read(
            lambda conn: conn.execute(insert(NOTES), {"book": "main", "sequence": 1, "body": b""}) and None
        )
    assert await notebook.stored() == []


async def test_a_failing_read_leaves_the_connection_usable(notebook):
    def fail(conn):
        conn.execute(select(NOTES))
        raise ValueError("a bug in the caller")

    for _ in range(20):
        with pytest.raises(ValueError, match="a bug"):
            await notebook.database.read(fail)
    assert await notebook.stored() == []


async def test_data_outlives_the_process_that_wrote_it(open_notebook):
    first = await open_notebook()
    await first.database.writer.submit(first.note, 1)
    await first.database.close()
    assert await (await open_notebook()).stored() == [1]


async def test_a_sqlite_store_is_private(tmp_path, clock):
    path = tmp_path / "data" / "notes.sqlite3"
    database = await Database.open(f"sqlite:///{path}", migrations=MIGRATIONS, migrate=True, clock=clock)
    try:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    finally:
        await database.close()


async def test_a_sqlite_store_flushes_each_commit(sqlite_url, clock):
    database = await Database.open(sqlite_url, migrations=MIGRATIONS, migrate=True, clock=clock)
    pragmas = await database.writer.run(
        lambda conn: {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    )
    await database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_a_second_process_on_one_sqlite_store_is_refused_until_the_first_ends(tmp_path, clock):
    path = tmp_path / "notes.sqlite3"
    program = (
        "import asyncio, sys\n"
        "from chassis.clock import SystemClock\n"
        "from chassis.database import Database\n"
        "async def main():\n"
        f"    await Database.open('sqlite:///{path}', migrations='{MIGRATIONS}', migrate=True, clock=SystemClock())\n"
        "    print('open', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parent) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(FailedPrecondition) as caught:
            await Database.open(f"sqlite:///{path}", migrations=MIGRATIONS, migrate=True, clock=clock)
        other.kill()
        other.wait()
    assert caught.value.message.startswith(f"another mobot is running on {path} (process {other.pid})")
    database = await Database.open(f"sqlite:///{path}", migrations=MIGRATIONS, migrate=True, clock=clock)
    await database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/x", "sqlite:///path or postgresql://"),
        ("nonsense", "sqlite:///path or postgresql://"),
        ("sqlite://", "needs a file"),
        ("sqlite:////proc/none/x.sqlite3", "cannot use the database file /proc/none/x.sqlite3"),
    ],
)
async def test_a_url_that_cannot_be_used_is_explained(url, words, clock):
    with pytest.raises(FailedPrecondition, match=words):
        await Database.open(url, migrations=MIGRATIONS, migrate=True, clock=clock)


async def test_a_file_that_is_no_database_is_explained(tmp_path, clock):
    path = tmp_path / "notes.sqlite3"
    path.write_text("these are no notes" * 100)
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="file is not a database"):
            await Database.open(f"sqlite:///{path}", migrations=MIGRATIONS, migrate=True, clock=clock)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/test_", "/nowhere_"), "does not exist"),
        (("postgres@", "nobody:secret@"), 'role "nobody" does not exist'),
        (("host=", "hosts=x&host="), "has the parameter 'hosts'; it may have host, port"),
    ],
)
async def test_a_server_that_refuses_is_explained_without_the_password(postgresql_url, clock, change, words):
    with pytest.raises(FailedPrecondition, match=words) as caught:
        await Database.open(postgresql_url.replace(*change), migrations=MIGRATIONS, migrate=True, clock=clock)
    assert "secret" not in caught.value.message


async def test_an_unreachable_server_is_unavailable(tmp_path, clock):
    with pytest.raises(Unavailable, match="not reachable"):
        await Database.open(
            f"postgresql://postgres@/none?host={tmp_path}", migrations=MIGRATIONS, migrate=True, clock=clock
        )


async def test_a_server_that_restarts_between_calls_is_not_noticed(
    postgres_server, postgresql_url, clock, open_notebook_at
):
    notebook = await open_notebook_at(postgresql_url)
    await notebook.database.writer.submit(notebook.note, 1)
    await asyncio.gather(*(notebook.stored() for _ in range(4)))
    postgres_server.kill()
    postgres_server.start()
    assert await notebook.stored() == [1]
    assert await notebook.database.writer.submit(notebook.note, 2) == 20
    assert await notebook.stored() == [1, 2]


async def test_a_read_whose_connection_breaks_at_its_end_is_made_again(
    postgres_server, postgresql_url, open_notebook_at
):
    notebook = await open_notebook_at(postgresql_url)
    await notebook.database.writer.submit(notebook.note, 1)
    reads = []

    def read(conn):
        found = list(conn.scalars(select(NOTES.c.sequence)))
        reads.append(found)
        if len(reads) == 1:
            postgres_server.kill()
            postgres_server.start()
        return found

    assert await notebook.database.read(read) == [1]
    assert reads == [[1], [1]]


async def test_a_read_whose_server_goes_away_at_its_end_is_unavailable(
    postgres_server, postgresql_url, open_notebook_at
):
    notebook = await open_notebook_at(postgresql_url)

    def read(conn):
        conn.scalar(select(1))
        postgres_server.kill()

    with pytest.raises(Unavailable, match="not reachable"):
        await notebook.database.read(read)
    postgres_server.start()
    assert await notebook.stored() == []


async def test_a_server_that_is_away_makes_calls_unavailable_and_loses_nothing_acknowledged(
    postgres_server, postgresql_url, open_notebook_at
):
    notebook = await open_notebook_at(postgresql_url)
    writer = notebook.database.writer
    acknowledged, retry_times_s = [], []
    refused, again, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(start):
        n = start
        while not stop.is_set():
            try:
                acknowledged.append(await writer.submit(notebook.note, n) // 10)
                if refused.is_set():
                    again.set()
            except Unavailable as error:
                retry_times_s.append(error.retry_after_s)
                refused.set()
                await asyncio.sleep(0.02)
            n += 1

    async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
        for start in range(8):
            tasks.create_task(write(start * 100_000))
        await asyncio.sleep(0.2)
        postgres_server.kill()
        await refused.wait()
        with pytest.raises(Unavailable):
            await notebook.database.ping()
        again.clear()
        postgres_server.start()
        await again.wait()
        stop.set()
    assert all(retry_times_s)
    assert set(acknowledged) <= set(await notebook.stored())


async def test_a_glance_sees_what_was_committed_and_cannot_write(notebook):
    count = select(func.count()).select_from(NOTES)
    assert await notebook.database.glance(lambda conn: conn.scalar(count)) == 0
    await notebook.database.writer.submit(notebook.note, 1)
    assert await notebook.database.glance(lambda conn: conn.scalar(count)) == 1
    with pytest.raises(DBAPIError):
        await notebook.database.glance(
            lambda conn: conn.execute(insert(NOTES), {"book": "main", "sequence": 9, "body": b""})
        )
    assert await notebook.database.glance(lambda conn: conn.scalar(count)) == 1


async def test_glances_without_end_leave_others_their_turns(notebook):
    count = select(func.count()).select_from(NOTES)
    written = asyncio.create_task(notebook.database.writer.submit(notebook.note, 1))
    async with asyncio.timeout(60):
        while not await notebook.database.glance(lambda conn: conn.scalar(count)):
            pass
    await written
