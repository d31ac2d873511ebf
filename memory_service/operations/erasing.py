"""The work of erasing a bot's memory: counted, removed, the index written anew, and then searched for what is left."""

from typing import Any

from memory_service.domain.errors import EraseIncomplete
from memory_service.domain.operation import Operation
from memory_service.store import erasing, operations
from memory_service.store.codec import micros
from memory_service.store.transaction import Namespace, Transaction
from memory_service.store.transactions import Transactions
from memory_service.store.wiping import compact_some

_MAX_ROUNDS = 3
_PHASES = ("memories", "blocks", "grants", "accesses", "requests", "postings", "verify")


class EraseWorker:
    """Phase by phase, each repeatable: what is gone already is simply not there to be removed."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def advance(self, operation: Operation) -> Operation:
        phase = str(operation.progress.get("phase", "inventory"))
        if phase == "inventory":
            return await self._take_inventory(operation)
        if phase == "verify":
            return await self._verify(operation)
        return await self._transactions.write(lambda tx: _remove(tx, operation, phase))

    def undo(self, tx: Transaction, operation: Operation) -> None:
        erasing.give_up_erasing(tx, operation)

    async def _take_inventory(self, operation: Operation) -> Operation:
        key = await self._transactions.write(lambda tx: _namespace(tx, operation).key)
        options = _options(operation)
        inventory = await self._transactions.read(
            lambda conn: erasing.take_inventory(conn, key, operation.bot, **options)
        )
        progress = {"phase": _PHASES[0], "inventory": erasing.inventory_to_json(inventory), "rounds": 1}
        return await self._transactions.write(
            lambda tx: operations.save_progress(
                tx, operation, done_count=0, total_count=inventory.total, phase=_PHASES[0], progress=progress
            )
        )

    async def _verify(self, operation: Operation) -> Operation:
        key = await self._transactions.write(lambda tx: _namespace(tx, operation).key)
        options = _options(operation)
        left = await self._transactions.read(lambda conn: erasing.count_left(conn, key, operation.bot, **options))
        if left:
            return await self._again(operation, left)
        return await self._transactions.write(
            lambda tx: erasing.finish_erasing(tx, operation, operation.progress["inventory"], micros(tx.now))
        )

    async def _again(self, operation: Operation, left: int) -> Operation:
        rounds = int(operation.progress["rounds"]) + 1
        if rounds > _MAX_ROUNDS:
            raise EraseIncomplete(operation.bot, left)
        progress = {**operation.progress, "phase": _PHASES[0], "rounds": rounds}
        return await self._transactions.write(lambda tx: _save(tx, operation, _PHASES[0], progress, 0))


def _remove(tx: Transaction, operation: Operation, phase: str) -> Operation:
    """A piece of one phase; when it finds nothing more to do, the next phase begins."""
    namespace = _namespace(tx, operation)
    options, progress = _options(operation), dict(operation.progress)
    done = 0
    more = False
    match phase:
        case "memories":
            done = erasing.erase_memories(tx, namespace)
            more = done > 0
        case "blocks":
            done = 0 if options["keep_blocks"] else erasing.erase_blocks(tx, namespace)
            erasing.erase_vector_sets(tx, namespace)
        case "grants":
            done = erasing.erase_grants(tx, operation.bot)
        case "accesses":
            done = 0 if options["keep_accesses"] else erasing.erase_accesses(tx, operation.bot)
            more = done > 0
        case "requests":
            after = erasing.erase_requests(tx, operation.bot, progress.get("after", []))
            progress["after"] = after
            more = bool(after)
        case _:
            more = compact_some(tx.conn, begun=bool(progress.get("compacting")))
            progress["compacting"] = more
    following = phase if more else _PHASES[_PHASES.index(phase) + 1]
    return _save(tx, operation, following, {**progress, "phase": following}, done)


def _save(tx: Transaction, operation: Operation, phase: str, progress: dict[str, Any], done: int) -> Operation:
    return operations.save_progress(
        tx,
        operation,
        done_count=operation.done_count + done,
        total_count=max(operation.total_count, operation.done_count + done),
        phase=phase,
        progress=progress,
    )


def _namespace(tx: Transaction, operation: Operation) -> Namespace:
    namespace = tx.find_erasing(operation.bot)
    assert namespace is not None  # whoever began to erase made it, and nobody removes it
    return namespace


def _options(operation: Operation) -> dict[str, bool]:
    return {name: bool(operation.arguments.get(name)) for name in ("keep_blocks", "keep_accesses")}
