"""Asking for a bot's memory to be erased."""

from collections.abc import Mapping

from memory_service.domain.operation import Operation, OperationKind
from memory_service.store import erasing
from memory_service.store.ledger import Ticket
from memory_service.store.operation_store import recall_operation, record_operation
from memory_service.store.operations import Undo
from memory_service.store.transactions import Transactions


class EraseStore:
    """`undo` takes back what an erasure cancels."""

    def __init__(self, transactions: Transactions, *, undo: Mapping[OperationKind, Undo]) -> None:
        self._transactions = transactions
        self._undo = undo

    async def start(self, bot: str, by: str, ticket: Ticket, *, keep_blocks: bool, keep_accesses: bool) -> Operation:
        """The operation, on record; from now on nothing of the bot's memory is found or written."""
        arguments = {"keep_blocks": keep_blocks, "keep_accesses": keep_accesses}
        return await self._transactions.once(
            lambda tx: erasing.start_erasing(tx, bot, by, arguments, self._undo),
            ticket,
            record_operation,
            recall_operation,
        )
