"""The group writer, on both engines."""

import asyncio
import threading

import pytest
from notes_service.models import BOOKS, NOTES
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only

from chassis.database import Database
from chassis.errors import AppError, NotFound, ResourceExhausted, Unavailable


async def test_a_write_is_readable_when_it_is_answered(notebook):
    assert await notebook.database.writer.submit(notebook.note, 1) == 10
    assert await notebook.stored() == [1]


async def test_writes_happen_in_the_order_they_were_submitted(notebook):
    numbers = [(n * 7919) % 500 for n in range(500)]
    await asyncio.gather(*(notebook.database.writer.submit(notebook.note, n) for n in numbers))
    assert [n for call in notebook.calls for n in call] == numbers


async def test_submitters_continue_in_queue_order(notebook):
    order = []

    async def submit(n):
        order.append(await notebook.database.writer.submit(notebook.note, n))

    await asyncio.gather(*(submit(n) for n in range(200)))
    assert order == [n * 10 for n in range(200)]


async def test_writes_that_queue_together_share_transactions(notebook):
    await asyncio.gather(*(notebook.database.writer.submit(notebook.note, n) for n in range(500)))
    assert len(notebook.calls) < 10


async def test_a_transaction_takes_no_more_than_its_limit(notebook):
    lists = [range(n * 1_000, n * 1_000 + 1_000) for n in range(6)]
    await asyncio.gather(*(notebook.database.writer.submit_many(notebook.note, numbers) for numbers in lists))
    assert all(len(call) <= 3_000 for call in notebook.calls)
    assert len(await notebook.stored()) == 6_000


async def test_an_error_for_one_item_is_raised_for_that_item_alone(notebook):
    results = await asyncio.gather(
        *(notebook.database.writer.submit(notebook.note, n) for n in (1, -2, 3)), return_exceptions=True
    )
    assert results[::2] == [10, 30]
    assert isinstance(results[1], NotFound)
    assert await notebook.stored() == [1, 3]
    assert notebook.rollbacks == 0


async def test_a_list_is_one_entry_with_a_result_for_each_item(notebook):
    results = await notebook.database.writer.submit_many(notebook.note, [1, -2, 3])
    assert (results[0], results[2]) == (10, 30)
    assert isinstance(results[1], AppError)
    assert notebook.calls == [[1, -2, 3]]


async def test_an_empty_list_needs_no_transaction(notebook):
    assert await notebook.database.writer.submit_many(notebook.note, []) == []
    assert notebook.calls == []


async def test_consecutive_items_of_one_kind_are_handled_together_and_kinds_in_queue_order(notebook):
    calls = []
    writer = notebook.database.writer

    def recorder(name):
        return lambda conn, items: calls.append((name, list(items))) or items

    first, second = writer.kind("first", recorder("first")), writer.kind("second", recorder("second"))
    plan = [(first, 1), (first, 2), (second, 3), (first, 4), (second, 5), (second, 6)]
    await asyncio.gather(*(writer.submit(kind, n) for kind, n in plan))
    assert calls == [("first", [1, 2]), ("second", [3]), ("first", [4]), ("second", [5, 6])]


async def test_only_the_guilty_write_fails_and_with_its_own_exception(notebook):
    results = await asyncio.gather(
        *(notebook.database.writer.submit(notebook.note, n) for n in (1, 2, 666_666, 3)), return_exceptions=True
    )
    assert results[:2] + results[3:] == [10, 20, 30]
    assert type(results[2]) is RuntimeError
    assert await notebook.stored() == [1, 2, 3]
    assert notebook.rollbacks > 0


async def test_a_broken_constraint_fails_only_its_own_write(notebook):
    await notebook.database.writer.submit(notebook.note, 5)
    results = await asyncio.gather(
        *(notebook.database.writer.submit(notebook.note, n) for n in (4, 5, 6)), return_exceptions=True
    )
    assert [results[0], results[2]] == [40, 60]
    assert isinstance(results[1], IntegrityError)
    assert await notebook.stored() == [4, 5, 6]


async def test_results_are_told_once_a_transaction_before_submitters_continue(notebook):
    seen = []

    async def submit(n):
        await notebook.database.writer.submit(notebook.note, n)
        seen.append([m for results in notebook.committed for m in results].index(n * 10))

    await asyncio.gather(*(submit(n) for n in range(100)), notebook.database.writer.submit_many(notebook.note, [-1]))
    assert seen == list(range(100))
    assert len(notebook.committed) <= len(notebook.calls)


async def test_a_failing_listener_does_not_keep_the_answer_from_the_submitter(notebook, caplog):
    def fail(results):
        raise ValueError("a bug in the feed")

    kind = notebook.database.writer.kind("heard", lambda conn, items: items, after_commit=fail)
    assert await notebook.database.writer.submit(kind, 1) == 1
    assert "after_commit failed" in caplog.text


async def test_an_admin_write_returns_what_its_function_returned(notebook):
    def rename(conn):
        conn.execute(insert(BOOKS), {"name": "other"})
        return conn.scalars(select(BOOKS.c.name).order_by(BOOKS.c.name)).all()

    assert await notebook.database.writer.run(rename) == ["main", "other"]


async def test_an_admin_write_that_raises_leaves_nothing_behind_and_disturbs_nobody(notebook):
    def half(conn):
        conn.execute(insert(BOOKS), {"name": "half"})
        raise NotFound("no such book")

    def broken(conn):
        conn.execute(insert(BOOKS), {"name": "main"})

    writer = notebook.database.writer
    results = await asyncio.gather(
        writer.submit(notebook.note, 1), writer.run(half), writer.run(broken), writer.submit(notebook.note, 2),
        return_exceptions=True,
    )  # fmt: skip
    assert (results[0], results[3]) == (10, 20)
    assert isinstance(results[1], NotFound)
    assert isinstance(results[2], IntegrityError)
    assert await notebook.database.read(lambda conn: conn.scalars(select(BOOKS.c.name)).all()) == ["main"]
    assert notebook.rollbacks == 0


async def test_a_wrong_number_of_results_is_an_error_and_writes_nothing(notebook):
    def forgetful(conn, items):
        conn.execute(insert(NOTES), {"book": "main", "sequence": 1, "body": b""})
        return []

    kind = notebook.database.writer.kind("forgetful", forgetful)
    with pytest.raises(RuntimeError, match="gave 0 results for 1 items"):
        await notebook.database.writer.submit(kind, 1)
    assert await notebook.stored() == []


async def test_a_full_queue_refuses_with_a_time_to_try_again(open_notebook):
    notebook = await open_notebook(max_queued=10)
    writer = notebook.database.writer
    tasks = [asyncio.create_task(writer.submit(notebook.note, n)) for n in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as caught:
        await writer.submit(notebook.note, 10)
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after_s > 0
    await asyncio.gather(*tasks)
    assert await writer.submit(notebook.note, 10) == 100
    assert writer.queued == 0


async def test_close_finishes_what_is_queued_and_refuses_what_comes(open_notebook):
    notebook = await open_notebook()
    writer = notebook.database.writer
    tasks = [asyncio.create_task(writer.submit(notebook.note, n)) for n in range(3_000)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await writer.submit(notebook.note, 9_999)
    assert caught.value.reason == "DRAINING"
    await closing
    assert await asyncio.gather(*tasks) == [n * 10 for n in range(3_000)]
    assert len(await notebook.stored()) == 3_000


async def test_closing_twice_is_harmless(open_notebook):
    notebook = await open_notebook()
    await notebook.database.close()
    await notebook.database.close()


async def test_a_submitter_that_stops_waiting_does_not_disturb_the_others(notebook):
    writer = notebook.database.writer
    tasks = [asyncio.create_task(writer.submit(notebook.note, n)) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[2]] == [0, 20]
    assert isinstance(results[1], asyncio.CancelledError)
    assert await notebook.stored() == [0, 1, 2]


async def test_a_failure_before_the_commit_writes_nothing_and_later_writes_succeed(open_notebook):
    failures = []

    def hook(moment):
        if failures and moment == "before":
            raise failures.pop()

    notebook = await open_notebook(commit_hook=hook)
    failures.append(OSError("no space"))
    with pytest.raises(OSError, match="no space"):
        await notebook.database.writer.submit(notebook.note, 1)
    assert await notebook.stored() == []
    assert await notebook.database.writer.submit(notebook.note, 2) == 20


async def test_a_failure_after_the_commit_says_that_the_fate_is_unknown_and_writes_once(open_notebook):
    failures = []

    def hook(moment):
        if failures and moment == "after":
            raise failures.pop()

    notebook = await open_notebook(commit_hook=hook)
    failures.append(OSError("died"))
    with pytest.raises(Unavailable, match="may or may not have happened") as caught:
        await notebook.database.writer.submit(notebook.note, 1)
    assert caught.value.retry_after_s > 0
    assert await notebook.stored() == [1]
    assert await notebook.database.writer.submit(notebook.note, 2) == 20


async def test_writes_go_on_while_the_loop_is_saturated(notebook):
    done = asyncio.Event()

    async def saturate():
        while not done.is_set():
            sum(range(2_000))
            await asyncio.sleep(0)

    busy = asyncio.create_task(saturate())
    async with asyncio.timeout(40):
        for n in range(20):
            await notebook.database.writer.submit(notebook.note, n)
            await notebook.stored()
    done.set()
    await busy


async def test_replicas_that_deadlock_try_again(postgresql_url, clock):
    databases = [
        await Database.open(postgresql_url, migrations="notes_service.migrations", migrate=True, clock=clock)
        for _ in range(2)
    ]
    await databases[0].writer.run(lambda conn: conn.execute(insert(BOOKS), [{"name": "a"}, {"name": "b"}]) and None)
    calls = [0, 0]
    held = [asyncio.Event(), asyncio.Event()]

    def touch(replica, mine, other):
        def run(conn):
            calls[replica] += 1
            conn.execute(update(BOOKS).where(BOOKS.c.name == mine).values(name=mine))
            held[replica].set()
            if calls[replica] == 1:
                await_only(held[1 - replica].wait())
            conn.execute(update(BOOKS).where(BOOKS.c.name == other).values(name=other))
            return replica

        return run

    assert await asyncio.gather(
        databases[0].writer.run(touch(0, "a", "b")), databases[1].writer.run(touch(1, "b", "a"))
    ) == [0, 1]
    assert sum(calls) == 3
    for database in databases:
        await database.close()


async def test_one_thread_writes_on_sqlite(sqlite_url, clock):
    database = await Database.open(sqlite_url, migrations="notes_service.migrations", migrate=True, clock=clock)
    names = {await database.writer.run(lambda conn: threading.current_thread().name) for _ in range(3)}
    await database.close()
    assert names == {"group-writer"}
