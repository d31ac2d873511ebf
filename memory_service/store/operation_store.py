"""Operations for callers, who see and cancel them, and for the runner, which works on them."""

from collections.abc import Mapping
from datetime import datetime

from memory_service.domain.operation import (
    Operation,
    OperationFailure,
    OperationKind,
    OperationState,
    check_cancellable,
)
from memory_service.store import operations
from memory_service.store.ledger import Ticket
from memory_service.store.lists import Page, Position
from memory_service.store.operations import Undo
from memory_service.store.transaction import Transaction
from memory_service.store.transactions import Transactions


class OperationStore:
    """`undo` has for each kind what takes back an operation that is cancelled."""

    def __init__(self, transactions: Transactions, *, undo: Mapping[OperationKind, Undo]) -> None:
        self._transactions = transactions
        self._undo = undo
        # Only one process can have an SQLite file open.
        self._alone = transactions.database.engine_name == "sqlite"

    async def get(self, bot: str, operation_id: str) -> Operation:
        """Raises: OperationNotFound."""
        return await self._transactions.read(lambda conn: operations.read_operation(conn, bot, operation_id))

    async def list(
        self,
        bot: str | None,
        kinds: frozenset[OperationKind],
        states: frozenset[OperationState],
        size: int,
        after: Position,
    ) -> Page[Operation]:
        return await self._transactions.read(
            lambda conn: operations.list_operations(conn, bot, kinds, states, size, after)
        )

    async def cancel(self, bot: str, operation_id: str, ticket: Ticket) -> Operation:
        """Raises: OperationNotFound, OperationNotCancellable."""

        def write(tx: Transaction) -> Operation:
            tx.find_erasing(bot)  # the namespace is locked before its operations, by everyone
            operation = operations.lock_operation(tx, bot, operation_id)
            check_cancellable(operation)
            return operations.cancel(tx, operation, self._undo[operation.kind])

        return await self._transactions.once(write, ticket, record_operation, recall_operation)

    async def find_due(self, owner: str) -> "tuple[Operation, ...]":
        """What the process `owner` has to work on, the oldest first."""
        now = self._transactions.now()
        found = await self._transactions.read(lambda conn: operations.find_due(conn, owner, now, alone=self._alone))
        return tuple(found)

    async def take_up(self, operation: Operation, owner: str) -> Operation | None:
        """The operation, now to be worked on by `owner`; None when it has ended or another process has it."""
        return await self._transactions.write(lambda tx: operations.take_up(tx, operation, owner, alone=self._alone))

    async def note_failure(
        self, operation: Operation, failure: OperationFailure, retry_time: datetime | None
    ) -> Operation | None:
        """Without a time for the next attempt the operation has failed. None when it is no longer the caller's."""
        return await self._transactions.write(lambda tx: operations.note_failure(tx, operation, failure, retry_time))

    async def forget_ended(self) -> None:
        """Removes operations that ended long ago."""
        await self._transactions.write(operations.forget_ended)


def record_operation(operation: Operation) -> list[str]:
    """What the request ledger keeps of an operation in an answer."""
    return [operation.bot, operation.id]


def recall_operation(tx: Transaction, record: list[str]) -> Operation:
    """The operation as it stands."""
    return operations.read_operation(tx.conn, *record)
