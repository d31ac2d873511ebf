"""Operations on both engines: each goes on where its last commit was, whatever happens to who works on it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from memory_store import ME, ticket

from chassis.clock import FakeClock
from chassis.errors import Unavailable
from memory_service.domain.errors import OperationNotCancellable, OperationNotFound, OperationStopped
from memory_service.domain.operation import Operation, OperationKind, OperationState
from memory_service.operations.runner import MAX_FAILURES, OperationRunner
from memory_service.store import operations
from memory_service.store.operation_store import OperationStore
from memory_service.store.store import MemoryStore
from memory_service.store.transaction import Transaction

STEPS = 3


class Counting:
    """Counts to three, a commit for each; `trouble` is called before each piece."""

    def __init__(self, store: MemoryStore, trouble: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._trouble = trouble
        self.undone: list[str] = []

    async def advance(self, operation: Operation) -> Operation:
        self._trouble()

        def write(tx: Transaction) -> Operation:
            count = operation.progress.get("count", 0) + 1
            if count > STEPS:
                return operations.succeed(tx, operation, {"embedded_count": count - 1})
            return operations.save_progress(
                tx, operation, done_count=count, total_count=STEPS, phase="counting", progress={"count": count}
            )

        return await self._store.transactions.write(write)

    def undo(self, tx: Transaction, operation: Operation) -> None:
        self.undone.append(operation.id)


def desk(store: MemoryStore, worker: Counting) -> OperationStore:
    return OperationStore(store.transactions, undo={OperationKind.REINDEX: worker.undo})


def runner_of(
    store: MemoryStore, worker: Counting, clock: FakeClock, *, owner: str = "p1", **options
) -> OperationRunner:
    workers = {OperationKind.REINDEX: worker}
    return OperationRunner(desk(store, worker), workers, owner=owner, clock=clock, **options)


async def start(store: MemoryStore, bot: str = "main") -> Operation:
    return await store.transactions.write(
        lambda tx: operations.add_operation(tx, bot, OperationKind.REINDEX, ME, {"asked": 1})
    )


async def run_out(runner: OperationRunner) -> None:
    while await runner.run_pieces():
        pass


async def test_an_operation_runs_to_its_end_and_tells_of_its_progress(store: MemoryStore, clock: FakeClock):
    worker = Counting(store)
    made = await start(store)
    assert (made.state, made.attempt_count) == (OperationState.PENDING, 0)
    runner = runner_of(store, worker, clock)
    assert await runner.run_pieces()
    midway = await desk(store, worker).get("main", made.id)
    assert (midway.state, midway.done_count, midway.total_count, midway.phase) == (
        OperationState.RUNNING,
        1,
        3,
        "counting",
    )
    await run_out(runner)
    ended = await desk(store, worker).get("main", made.id)
    assert (ended.state, ended.result, ended.attempt_count) == (OperationState.SUCCEEDED, {"embedded_count": 3}, 1)
    assert ended.end_time == clock.now()


async def test_another_process_goes_on_where_the_first_one_died(open_store, clock: FakeClock):
    store = await open_store()
    made = await start(store)
    worker = Counting(store)
    await runner_of(store, worker, clock).run_pieces()
    await store.close()
    again = await open_store()
    clock.advance(operations.LEASE)
    await run_out(runner_of(again, Counting(again), clock, owner="p2"))
    ended = await desk(again, worker).get("main", made.id)
    assert (ended.state, ended.attempt_count, ended.done_count) == (OperationState.SUCCEEDED, 2, 3)


async def test_two_processes_do_not_work_on_one_operation(open_store, clock: FakeClock, database_url: str):
    if database_url.startswith("sqlite"):
        pytest.skip("one process alone can have the file open")
    first, second = await open_store(), await open_store()
    made = await start(first)
    await runner_of(first, Counting(first), clock).run_pieces()
    assert not await runner_of(second, Counting(second), clock, owner="p2").run_pieces()
    clock.advance(operations.LEASE)
    await run_out(runner_of(second, Counting(second), clock, owner="p2"))
    assert (await desk(second, Counting(second)).get("main", made.id)).attempt_count == 2
    stale = made
    with pytest.raises(OperationStopped):
        await first.transactions.write(lambda tx: operations.succeed(tx, stale, {}))


async def test_a_failed_attempt_is_repeated_later_and_told(store: MemoryStore, clock: FakeClock):
    calls = 0

    def trouble() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("the embedder is away", reason="EMBEDDER_UNAVAILABLE")

    made = await start(store)
    worker = Counting(store, trouble)
    runner = runner_of(store, worker, clock)
    await run_out(runner)
    midway = await desk(store, worker).get("main", made.id)
    assert (midway.state, midway.done_count) == (OperationState.RUNNING, 1)
    assert midway.error is not None
    assert midway.error.reason == "EMBEDDER_UNAVAILABLE"
    clock.advance(timedelta(seconds=2))
    await run_out(runner)
    ended = await desk(store, worker).get("main", made.id)
    assert (ended.state, ended.attempt_count, ended.error) == (OperationState.SUCCEEDED, 2, None)


async def test_an_operation_that_always_fails_gives_up_in_the_end(store: MemoryStore, clock: FakeClock):
    def trouble() -> None:
        raise RuntimeError("a defect")

    ended: list[Operation] = []
    made = await start(store)
    worker = Counting(store, trouble)
    runner = runner_of(store, worker, clock, on_ended=ended.append)
    for _ in range(MAX_FAILURES):
        await run_out(runner)
        clock.advance(timedelta(minutes=2))
    failed = await desk(store, worker).get("main", made.id)
    assert (failed.state, failed.failure_count) == (OperationState.FAILED, MAX_FAILURES)
    assert ended == [failed]
    assert not await runner.run_pieces()


async def test_a_cancelled_operation_is_undone_and_its_worker_stopped(store: MemoryStore, clock: FakeClock):
    made = await start(store)
    worker = Counting(store)
    runner = runner_of(store, worker, clock)
    await runner.run_pieces()
    running = await desk(store, worker).get("main", made.id)
    cancelled = await desk(store, worker).cancel("main", made.id, ticket(request_id="r"))
    assert (cancelled.state, worker.undone) == (OperationState.CANCELLED, [made.id])
    assert await desk(store, worker).cancel("main", made.id, ticket(request_id="r")) == cancelled
    with pytest.raises(OperationNotCancellable):
        await desk(store, worker).cancel("main", made.id, ticket())
    with pytest.raises(OperationStopped):
        await worker.advance(running)
    assert not await runner.run_pieces()


async def test_ended_operations_are_kept_for_ninety_days(store: MemoryStore, clock: FakeClock):
    worker = Counting(store)
    made = await start(store)
    await run_out(runner_of(store, worker, clock))
    waiting = await start(store, "other")
    clock.advance(timedelta(days=89))
    await desk(store, worker).forget_ended()
    await desk(store, worker).get("main", made.id)
    clock.advance(timedelta(days=1))
    await desk(store, worker).forget_ended()
    with pytest.raises(OperationNotFound):
        await desk(store, worker).get("main", made.id)
    page = await desk(store, worker).list(None, frozenset(), frozenset(), 10, ())
    assert [each.id for each in page.items] == [waiting.id]


async def test_a_ring_begins_the_work_at_once(store: MemoryStore, clock: FakeClock):
    done = asyncio.Event()
    worker = Counting(store)
    runner = runner_of(store, worker, clock, poll_s=3_600, on_ended=lambda _: done.set())
    runner.start()
    try:
        await start(store)
        runner.ring()
        async with asyncio.timeout(60):
            await done.wait()
    finally:
        await runner.close()
