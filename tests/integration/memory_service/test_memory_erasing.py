"""Erasing on both engines: closed from the answer to the end, gone from every index, whatever dies meanwhile."""

from datetime import timedelta
from pathlib import Path

import pytest
from memory_store import ME, delete, found, listed, new, put, put_all, ref, ticket, undelete
from sqlalchemy import text

from chassis.clock import FakeClock
from memory_service.domain.errors import MemoryNotFound, NamespaceErasing, OperationNotCancellable
from memory_service.domain.grant import Reach
from memory_service.domain.operation import Operation, OperationKind, OperationState
from memory_service.operations.erasing import EraseWorker
from memory_service.operations.runner import OperationRunner
from memory_service.store.erase_store import EraseStore
from memory_service.store.ledger import Refused
from memory_service.store.operation_store import OperationStore
from memory_service.store.store import MemoryStore


class Desk:
    """A store with what erases it, at work only when told to."""

    def __init__(self, store: MemoryStore, clock: FakeClock, owner: str = "p1") -> None:
        worker = EraseWorker(store.transactions)
        undo = {OperationKind.ERASE: worker.undo, OperationKind.REINDEX: lambda tx, operation: None}
        self.erasures = EraseStore(store.transactions, undo=undo)
        self.operations = OperationStore(store.transactions, undo=undo)
        self.runner = OperationRunner(self.operations, {OperationKind.ERASE: worker}, owner=owner, clock=clock)

    async def start(self, bot: str = "main") -> Operation:
        return await self.erasures.start(bot, ME, ticket("EraseNamespace"), keep_blocks=False, keep_accesses=False)

    async def finish(self, operation: Operation) -> Operation:
        while await self.runner.run_pieces():
            pass
        return await self.operations.get(operation.bot, operation.id)


async def test_while_it_is_erased_nothing_is_found_and_nothing_written(store: MemoryStore, clock: FakeClock):
    memory = await put(store, "tea", id="m1")
    gone = await put(store, "milk", id="m2")
    await delete(store, gone)
    desk = Desk(store, clock)
    operation = await desk.start()
    assert (await desk.start()).id == operation.id
    assert await found(store, "tea") == []
    assert await listed(store) == []
    assert (await store.stats("main")).kinds == {}
    assert (await store.stats("main")).operation == operation.name
    with pytest.raises(MemoryNotFound):
        await store.get_memory(ref(memory))
    with pytest.raises(NamespaceErasing):
        await put(store, "more tea")
    with pytest.raises(NamespaceErasing):
        await store.put_memories(Reach("main"), [new("x")], ticket(), atomic=False)
    for call in (delete(store, memory), undelete(store, gone)):
        with pytest.raises(NamespaceErasing):
            await call
    assert await store.sweep() == 0
    await put(store, "tea", bot="other")
    assert await found(store, "tea", bot="other") == ["tea"]
    cancelled = await desk.operations.cancel("main", operation.id, ticket())
    assert cancelled.state is OperationState.CANCELLED
    assert await found(store, "tea") == ["tea"]
    await put(store, "more tea")


async def test_an_erasure_that_has_begun_is_not_cancelled(store: MemoryStore, clock: FakeClock):
    await put(store, "tea")
    desk = Desk(store, clock)
    operation = await desk.start()
    await desk.runner.run_pieces()
    with pytest.raises(OperationNotCancellable):
        await desk.operations.cancel("main", operation.id, ticket())
    assert (await desk.finish(operation)).state is OperationState.SUCCEEDED


async def test_thousands_go_in_pieces_and_another_bots_stay(store: MemoryStore, clock: FakeClock):
    await put_all(store, [f"tea {number}" for number in range(1_300)])
    await put_all(store, [f"tea {number}" for number in range(10)], bot="other")
    desk = Desk(store, clock)
    operation = await desk.start()
    pieces, steps = [], 0
    while await desk.runner.run_pieces():
        pieces.append((await desk.operations.get("main", operation.id)).done_count)
        steps += 1
    ended = await desk.operations.get("main", operation.id)
    assert ended.result["memory_count"] == 1_300
    assert {500, 1_000, 1_300} <= set(pieces)
    assert len(await found(store, "tea", bot="other")) == 10
    assert (await store.stats(None)).bot_count == 1


async def test_the_ledger_forgets_what_it_knew_of_the_bot_alone(store: MemoryStore, clock: FakeClock):
    await put(store, "tea", id="m1", request_id="r1")
    theirs = await put(store, "tea", id="main", bot="other", request_id="r2")
    batch = [new("a", id="main"), new("b", id="b1")]
    await store.put_memories(Reach("other"), batch, ticket("Batch", "r3"), atomic=False)
    await store.put_memories(Reach("main"), [new("c")], ticket("Batch", "r4"), atomic=False)
    desk = Desk(store, clock)
    await desk.finish(await desk.start())
    again = await put(store, "new tea", id="m1", request_id="r1")
    assert again.content.text == "new tea"
    assert (await put(store, "else", id="main", bot="other", request_id="r2")).uid == theirs.uid
    answers = await store.put_memories(Reach("other"), batch, ticket("Batch", "r3"), atomic=False)
    assert isinstance(answers[0], Refused)

    def kept(conn) -> list[str]:
        return list(conn.execute(text("SELECT request_id FROM request_ledger ORDER BY request_id")).scalars())

    assert await store.transactions.read(kept) == ["r1", "r2", "r3"]


async def test_no_byte_of_what_was_erased_is_left_in_the_file(
    open_store, database_url: str, clock: FakeClock, tmp_path: Path
):
    if database_url.startswith("postgresql"):
        pytest.skip("PostgreSQL's vacuum sees to that")
    store = await open_store()
    await put_all(store, [f"common {number} words" for number in range(300)], bot="other")
    for number in range(40):
        memory = await put(store, f"zanzibarite{number} quixotically", context="vexillology")
        await delete(store, memory, purge=number % 2 == 0)
    desk = Desk(store, clock)
    assert (await desk.finish(await desk.start())).state is OperationState.SUCCEEDED
    await store.close()
    content = (tmp_path / "store.sqlite3").read_bytes()
    assert b"words" in content
    for secret in (b"zanzibarite", b"quixotically", b"vexillology"):
        assert secret not in content


async def test_an_erasure_that_is_taken_over_is_finished(open_store, clock: FakeClock, database_url: str):
    store = await open_store()
    await put_all(store, [f"tea {number}" for number in range(700)])
    desk = Desk(store, clock)
    operation = await desk.start()
    for _ in range(2):
        await desk.runner.run_pieces()
    await store.close()
    again = await open_store()
    assert await found(again, "tea") == []
    clock.advance(timedelta(minutes=2))
    ended = await Desk(again, clock, "p2").finish(operation)
    assert (ended.state, ended.result["memory_count"], ended.result["left_count"]) == (OperationState.SUCCEEDED, 700, 0)
    assert ended.attempt_count == 2


async def test_what_was_purged_leaves_the_file_with_the_next_compaction(
    open_store, database_url: str, clock: FakeClock, tmp_path: Path
):
    if database_url.startswith("postgresql"):
        pytest.skip("PostgreSQL's vacuum sees to that")
    store = await open_store()
    await put_all(store, [f"common {number} words" for number in range(300)])
    memory = await put(store, "zanzibarite", context="vexillology")
    await delete(store, memory, purge=True)
    assert not await store.compact(timedelta(hours=1))
    clock.advance(timedelta(hours=1))
    assert await store.compact(timedelta(hours=1))
    clock.advance(timedelta(hours=1))
    assert not await store.compact(timedelta(hours=1))
    assert len(await found(store, "common", size=500)) == 300
    await store.close()
    content = (tmp_path / "store.sqlite3").read_bytes()
    assert b"words" in content
    for secret in (b"zanzibarite", b"vexillology"):
        assert secret not in content
