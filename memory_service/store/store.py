"""The memory's store: every read and every write that the service makes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from chassis import idempotency
from chassis.clock import Clock, IdFactory
from chassis.database import Database
from chassis.errors import AppError
from memory_service.domain import memory as rules
from memory_service.domain.block import Block, BlockPatch
from memory_service.domain.grant import Reach
from memory_service.domain.likeness import NearDuplicate
from memory_service.domain.memory import Content, Memory, NewMemory, Purged, Put
from memory_service.models import LEDGER
from memory_service.store import block_lists, blocks, grants, ledger, lists, memories, near, puts, stats, sweeps
from memory_service.store.block_lists import BlockPage
from memory_service.store.fulltext import is_due, post_due
from memory_service.store.ledger import PutAnswer, PutShown, Shown, Ticket, show_put
from memory_service.store.lists import ListQuery, Page, Position
from memory_service.store.memories import MemoryRef
from memory_service.store.puts import PutItem
from memory_service.store.stats import Stats
from memory_service.store.transaction import Transaction
from memory_service.store.transactions import Transactions
from memory_service.store.wiping import compact_some


@dataclass(frozen=True, slots=True)
class Limits:
    """`retention` is how long a deleted memory can be brought back."""

    max_memories: int
    retention: timedelta


class MemoryStore:
    """Made with an open database, which it closes."""

    def __init__(self, database: Database, *, clock: Clock, new_id: IdFactory, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self.transactions = Transactions(database, clock=clock, new_id=new_id, retention=limits.retention)
        self._once = self.transactions.once
        self._write = self.transactions.write
        self._puts = database.writer.kind("put", self._write_puts, brief=True, weigh=lambda item: item.weight)
        # What an earlier process purged is not known, so the first compaction is always made.
        self._purged = True
        self._compact_time = clock.now()

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()

    # Memories.

    async def put_memory(self, reach: Reach, draft: NewMemory, ticket: Ticket) -> PutShown:
        """Raises: MemoryDuplicate, MemoryAlreadyExists, MemoryLimitReached."""
        shown = await self._database.writer.submit(self._puts, PutItem(reach, draft, ticket))
        self.transactions.on_written()
        return shown

    async def put_items(self, items: Sequence[PutItem]) -> list[PutShown | AppError]:
        """A result for each, all in one commit; a refused one hinders no other."""
        results = await self._database.writer.submit_many(self._puts, items)
        self.transactions.on_written()
        return results

    async def near_duplicates(self, reach: Reach, put: Sequence[tuple[Memory, int]]) -> list[list[NearDuplicate]]:
        """For each memory, with how many are wanted at most, those that say nearly the same; the nearest first."""
        now = self._clock.now()
        if await self._database.glance(is_due):
            await self._write(lambda tx: post_due(tx.conn))
        return await self._database.read(lambda conn: near.find_near(conn, reach, put, now))

    async def put_memories(
        self, reach: Reach, drafts: Sequence[NewMemory | AppError], ticket: Ticket, *, atomic: bool
    ) -> Sequence[PutAnswer]:
        """An answer for each draft, in one commit. With `atomic` the first refusal is raised and nothing is stored."""

        def write(tx: Transaction) -> Sequence[PutAnswer]:
            asked = [(reach, draft) for draft in drafts]
            results = puts.put_all(tx, reach.bot, asked, self._limits.max_memories, atomic=atomic)
            stored = [result.memory for result in results if isinstance(result, Put)]
            grants.record_access(tx, reach, stored)
            return [show_put(result) for result in results]

        return await self._once(
            write,
            ticket,
            lambda answers: [ledger.record_put(answer) for answer in answers],
            lambda tx, records: [ledger.recall_put(tx, record) for record in records],
        )

    async def get_memory(self, ref: MemoryRef) -> Memory:
        now = self._clock.now()
        return (await self._database.read(lambda conn: memories.read_memory(conn, ref, now))).memory

    async def list_memories(self, bot: str, query: ListQuery) -> Page[Memory]:
        now = self._clock.now()
        return await self._database.read(lambda conn: lists.list_memories(conn, bot, query, now))

    async def update_memory(
        self,
        ref: MemoryRef,
        etag: str,
        change: Callable[[Content], Content],
        by: str,
        ticket: Ticket,
        reach: Reach,
    ) -> Shown:
        """Raises: MemoryNotFound, MemoryDeleted, EtagMismatch."""

        def write(tx: Transaction) -> Shown:
            namespace, stored = memories.open_memory(tx, ref)
            reach.check(stored.memory)
            rules.check_etag(stored.memory, etag)
            after = rules.update(stored.memory, change(stored.memory.content), by, tx.now)
            reach.check_written("memory", after)
            grants.record_access(tx, reach, [after])
            return memories.save_memory(tx, namespace, stored, after)

        return await self._once(write, ticket, ledger.record_memory, ledger.recall_memory)

    async def delete_memory(
        self, ref: MemoryRef, etag: str, by: str, ticket: Ticket, reach: Reach, *, purge: bool
    ) -> Shown:
        """Raises: MemoryNotFound, EtagMismatch."""

        def write(tx: Transaction) -> Shown:
            namespace, stored = memories.open_memory(tx, ref)
            reach.check(stored.memory)
            grants.record_access(tx, reach, [stored.memory])
            if purge:
                rules.check_etag(stored.memory, etag)
                memories.purge_memories(tx, namespace, [stored])
                return Purged(stored.memory.name, stored.memory.uid)
            if not stored.memory.is_deleted:
                rules.check_etag(stored.memory, etag)
            after = rules.delete(stored.memory, tx.retention, by, tx.now)
            return memories.save_memory(tx, namespace, stored, after)

        self._purged = self._purged or purge
        return await self._once(write, ticket, ledger.record_memory, ledger.recall_memory)

    async def undelete_memory(self, ref: MemoryRef, by: str, ticket: Ticket) -> Shown:
        """Raises: MemoryNotFound, MemoryNotDeleted."""

        def write(tx: Transaction) -> Shown:
            namespace, stored = memories.open_memory(tx, ref)
            return memories.save_memory(tx, namespace, stored, rules.undelete(stored.memory, by, tx.now))

        return await self._once(write, ticket, ledger.record_memory, ledger.recall_memory)

    async def list_versions(self, ref: MemoryRef, size: int, after: Position) -> Page[Memory]:
        now = self._clock.now()
        return await self._database.read(lambda conn: lists.list_versions(conn, ref, size, after, now))

    async def restore_version(self, ref: MemoryRef, version: int, etag: str, by: str, ticket: Ticket) -> Shown:
        """Raises: MemoryNotFound, VersionNotFound, EtagMismatch."""

        def write(tx: Transaction) -> Shown:
            namespace, stored = memories.open_memory(tx, ref)
            rules.check_etag(stored.memory, etag)
            earlier = memories.get_version(tx.conn, stored, version)
            after = rules.restore(stored.memory, earlier, by, tx.now)
            return memories.save_memory(tx, namespace, stored, after)

        return await self._once(write, ticket, ledger.record_memory, ledger.recall_memory)

    # Blocks.

    async def get_block(self, bot: str, block_id: str, version: int) -> Block:
        """Raises: BlockNotFound, VersionNotFound. Version 0 is the newest."""
        return await self._database.read(lambda conn: blocks.read_block(conn, bot, block_id, version))

    async def list_blocks(self, reach: Reach, lent: Sequence[Reach], size: int, after: Position) -> BlockPage:
        """The bot's own blocks, unless `reach` itself is lent, and after them those that are lent."""
        return await self._database.read(lambda conn: block_lists.list_blocks(conn, reach, lent, size, after))

    async def list_block_versions(self, bot: str, block_id: str, size: int, after: Position) -> Page[Block]:
        return await self._database.read(lambda conn: blocks.list_block_versions(conn, bot, block_id, size, after))

    async def put_block(
        self,
        reach: Reach,
        block_id: str,
        patch: BlockPatch,
        ticket: Ticket,
        *,
        whole: BlockPatch,
        etag: str,
        must_be_new: bool,
        trusted: bool,
        by: str,
    ) -> tuple[Block, bool]:
        """Raises: EtagMismatch, BlockReadOnly, BlockTextTooLong, BlockLimitReached."""

        def write(tx: Transaction) -> tuple[Block, bool]:
            grants.record_access(tx, reach, (), [block_id])
            return blocks.put_block(
                tx,
                reach.bot,
                block_id,
                patch,
                must_exist=reach.is_lent,
                whole=whole,
                etag=etag,
                must_be_new=must_be_new,
                trusted=trusted,
                by=by,
            )

        return await self._once(
            write,
            ticket,
            lambda answer: [blocks.record_block(answer[0]), answer[1]],
            lambda tx, record: (blocks.recall_block(tx, record[0]), bool(record[1])),
        )

    async def delete_block(self, bot: str, block_id: str, etag: str, ticket: Ticket, *, trusted: bool) -> Block:
        """Raises: BlockNotFound, EtagMismatch, BlockReadOnly."""
        return await self._once(
            lambda tx: blocks.delete_block(tx, bot, block_id, etag, trusted=trusted),
            ticket,
            blocks.record_block,
            blocks.recall_block,
        )

    # Upkeep.

    async def stats(self, bot: str | None) -> Stats:
        """The figures of one bot, or of all with None."""
        now = self._clock.now()
        return await self._database.read(lambda conn: stats.read_stats(conn, bot, now))

    async def sweep(self) -> int:
        """Purges what has expired and what was deleted long ago; returns how many memories that were."""
        await self._write(lambda tx: idempotency.sweep(tx.conn, LEDGER, tx.now))
        purged = 0
        while swept := await self._write(sweeps.sweep_some):
            purged += swept
        self._purged = self._purged or purged > 0
        return purged

    async def compact(self, interval: timedelta) -> bool:
        """Writes the index of words anew without what was purged; says whether it was time for that.

        It is when something was purged since the last time, which is longer ago than `interval`.
        """
        now = self._clock.now()
        if not self._purged or now - self._compact_time < interval:
            return False
        self._purged, self._compact_time = False, now
        begun = False
        while await self._write(lambda tx: compact_some(tx.conn, begun=begun)):  # noqa: B023 - called at once
            begun = True
        return True

    def _write_puts(self, conn: Connection, items: Sequence[PutItem]) -> Sequence[PutShown | AppError]:
        return self.transactions.transact(conn, lambda tx: puts.put_each(tx, items, self._limits.max_memories))
