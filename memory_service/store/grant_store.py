"""Grants for those who give them, and the reach they give to others."""

from collections.abc import Iterable
from datetime import datetime

from memory_service.domain import access
from memory_service.domain.grant import NO_REACH, Access, Grant, GrantAccess, GrantState, Reach
from memory_service.domain.memory import Memory
from memory_service.store import grants
from memory_service.store.grants import AccessQuery
from memory_service.store.ledger import Ticket
from memory_service.store.lists import Page, Position
from memory_service.store.transaction import Transaction
from memory_service.store.transactions import Transactions


class GrantStore:
    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def create(self, grant: Grant, ticket: Ticket) -> Grant:
        """Without an id it gets one. Raises: GrantAlreadyExists, BlockNotFound."""
        return await self._transactions.once(
            lambda tx: grants.create_grant(tx, grant), ticket, _record_grant, _recall_grant
        )

    async def revoke(self, bot: str, grant_id: str, ticket: Ticket) -> Grant:
        """Raises: GrantNotFound, GrantEnded."""
        return await self._transactions.once(
            lambda tx: grants.revoke_grant(tx, bot, grant_id), ticket, _record_grant, _recall_grant
        )

    async def list_given(self, bot: str, states: frozenset[GrantState], size: int, after: Position) -> Page[Grant]:
        now = self._transactions.now()
        return await self._transactions.read(lambda conn: grants.list_given(conn, bot, states, size, after, now))

    async def list_received(self, bot: str, size: int, after: Position) -> Page[Grant]:
        now = self._transactions.now()
        return await self._transactions.read(lambda conn: grants.list_received(conn, bot, size, after, now))

    async def list_accesses(self, bot: str, wanted: AccessQuery, size: int, after: Position) -> Page[Access]:
        return await self._transactions.read(lambda conn: grants.list_accesses(conn, bot, wanted, size, after))

    async def reach(self, actor: str, bot: str, needed: GrantAccess, *, method: str = "", trace_id: str = "") -> Reach:
        """What `actor` reaches of the memory of `bot`; NO_REACH when that is nothing.

        Raises:
            PermissionDenied: the actor is neither a bot nor trusted.
        """
        if access.owns(actor, bot):
            return Reach(bot)
        lent = await self._in_force(actor.partition("/")[2], needed, bot)
        return Reach(bot, lent, method, trace_id) if lent else NO_REACH

    async def lent_to(self, bot: str, *, method: str = "", trace_id: str = "") -> list[Reach]:
        """What grants lend `bot` to read, of each other bot by its id."""
        by_owner: dict[str, list[Grant]] = {}
        for grant in await self._in_force(bot, GrantAccess.READ, None):
            by_owner.setdefault(grant.bot, []).append(grant)
        return [Reach(owner, tuple(lent), method, trace_id) for owner, lent in sorted(by_owner.items())]

    async def record(self, reach: Reach, memories: Iterable[Memory], block_ids: Iterable[str] = ()) -> None:
        """Puts a read on record and returns after the commit; nothing for an owner."""
        if reach.is_lent:
            seen, blocks = list(memories), list(block_ids)
            await self._transactions.write(lambda tx: grants.record_access(tx, reach, seen, blocks))

    async def forget_old(self) -> None:
        """Removes audit entries and ended grants that are older than they need be kept."""
        await self._transactions.write(grants.forget_old_accesses)

    async def _in_force(self, grantee: str, needed: GrantAccess, bot: str | None) -> tuple[Grant, ...]:
        now: datetime = self._transactions.now()
        return await self._transactions.read(lambda conn: grants.grants_in_force(conn, grantee, needed, now, bot=bot))


def _record_grant(grant: Grant) -> list[str]:
    return [grant.bot, grant.id]


def _recall_grant(tx: Transaction, record: list[str]) -> Grant:
    return grants.read_grant(tx.conn, *record)
