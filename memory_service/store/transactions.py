"""How the stores read and write: one snapshot for a read, one transaction with its namespaces for a write."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from chassis.clock import Clock, IdFactory
from chassis.database import Database
from memory_service.store.ledger import Ticket, once
from memory_service.store.transaction import Transaction

T = TypeVar("T")


class Transactions:
    """Shared by all stores on one database."""

    def __init__(self, database: Database, *, clock: Clock, new_id: IdFactory, retention: timedelta) -> None:
        self.database = database
        self._clock = clock
        self._new_id = new_id
        self._retention = retention
        self.on_written: Callable[[], None] = lambda: None
        """Called on the loop after each commit, for whoever works in the background on what was written."""

    def now(self) -> datetime:
        return self._clock.now()

    async def read(self, function: Callable[[Connection], T]) -> T:
        return await self.database.read(function)

    async def write(self, act: Callable[[Transaction], T]) -> T:
        """Returns after the commit. `act` may be called again after a rollback."""
        result = await self.database.writer.run(lambda conn: self.transact(conn, act))
        self.on_written()
        return result

    async def once(
        self,
        act: Callable[[Transaction], T],
        ticket: Ticket,
        record: Callable[[T], Any],
        recall: Callable[[Transaction, Any], T],
    ) -> T:
        """The same, unless the request was answered before; then that answer is made again."""

        def write(tx: Transaction) -> T:
            return once(tx, ticket, lambda: act(tx), record=record, recall=lambda kept: recall(tx, kept))

        return await self.write(write)

    def transact(self, conn: Connection, act: Callable[[Transaction], T]) -> T:
        tx = Transaction(conn, self._clock.now(), new_id=self._new_id, retention=self._retention)
        result = act(tx)
        tx.finish()
        return result
