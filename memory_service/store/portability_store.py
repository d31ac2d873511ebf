"""Exports and imports."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from chassis.errors import Aborted, AppError
from memory_service.domain.errors import ResumeTokenTooOld
from memory_service.domain.portability import Conflict, ExportOptions, Record, VectorKind
from memory_service.store import exporting, ledger
from memory_service.store.exporting import ExportPlace
from memory_service.store.importing import Importer, ImportOutcome, import_records
from memory_service.store.ledger import Ticket
from memory_service.store.transaction import Transaction
from memory_service.store.transactions import Transactions

_AT_ONCE = 200
"""How many records one transaction imports, so that other writes need not wait long."""
RESUMABLE = timedelta(hours=24)


class PortabilityStore:
    def __init__(self, transactions: Transactions, *, max_memories: int) -> None:
        self._transactions = transactions
        self._max_memories = max_memories

    async def begin_export(self, bot: str, options: ExportOptions) -> ExportPlace:
        now = self._transactions.now()
        return await self._transactions.read(lambda conn: exporting.begin_export(conn, bot, options, now))

    async def read_page(self, bot: str, options: ExportOptions, place: ExportPlace) -> tuple[list[Record], ExportPlace]:
        """The next records, and the place after them.

        Raises:
            ResumeTokenTooOld: the export began too long ago, or the memory was erased since.
        """
        if self._transactions.now() > place.time + RESUMABLE:
            raise ResumeTokenTooOld

        def read(conn: Connection) -> tuple[list[Record], ExportPlace]:
            if exporting.was_erased_since(conn, bot, place.time):
                raise ResumeTokenTooOld
            return exporting.read_page(conn, bot, options, place)

        return await self._transactions.read(read)

    async def take(
        self,
        bot: str,
        records: Sequence[Record | AppError],
        conflict: Conflict,
        by: str,
        *,
        trusted: bool,
        dry_run: bool,
        vectors: VectorKind | None = None,
    ) -> list[ImportOutcome]:
        """An outcome for each record, in order; stored when this returns, unless it is a dry run. `vectors` is what
        those of the records are, if they can be used here."""
        outcomes: list[ImportOutcome] = []
        for start in range(0, len(records), _AT_ONCE):
            some = records[start : start + _AT_ONCE]

            def write(tx: Transaction, some: Sequence[Record | AppError] = some) -> list[ImportOutcome]:
                limit = self._max_memories
                importer = Importer(tx, bot, conflict, by, trusted=trusted, max_memories=limit, vectors=vectors)
                found = import_records(importer.take, some)
                importer.finish()
                if dry_run:
                    raise _OnlyAsked(found)
                return found

            try:
                outcomes.extend(await self._transactions.write(write))
            except _OnlyAsked as asked:
                outcomes.extend(asked.outcomes)
        return outcomes

    async def find_report(self, ticket: Ticket) -> dict[str, Any] | None:
        """The report of the same import, if it was made before."""
        found: Any = await self._transactions.write(lambda tx: ledger.find_record(tx, ticket))
        return found if found is None else dict(found)

    async def keep_report(self, ticket: Ticket, report: dict[str, Any]) -> None:
        kept = json.loads(json.dumps(report))
        if ticket.request_id:
            await self._transactions.write(lambda tx: ledger.keep_record(tx, ticket, kept))


class _OnlyAsked(Aborted):
    """Takes back what a dry run has written; never leaves the store."""

    def __init__(self, outcomes: list[ImportOutcome]) -> None:
        super().__init__("a dry run")
        self.outcomes = outcomes
