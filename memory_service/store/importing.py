"""Writing what an export holds into a namespace, so that doing it again changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from sqlalchemy import ColumnElement, insert, update

from chassis.errors import AppError
from memory_service.domain import block as block_rules
from memory_service.domain.block import MAX_BLOCKS, Block, BlockContent
from memory_service.domain.embedder import VectorSet
from memory_service.domain.errors import (
    BlockLimitReached,
    ImportRecordInvalid,
    MemoryLimitReached,
)
from memory_service.domain.grant import Grant, GrantState
from memory_service.domain.memory import KEPT_VERSIONS, ChangeKind, Memory, text_key
from memory_service.domain.portability import (
    BlockAtVersion,
    Conflict,
    Header,
    Imported,
    MemoryAtVersion,
    MemoryWithVector,
    Record,
    VectorKind,
    renamed,
    renamed_slug,
)
from memory_service.models import BLOCK, BLOCK_VERSION, MEMORY, MEMORY_VERSION
from memory_service.store.blocks import add_block, block_to_row, find_block, find_block_version, save_block
from memory_service.store.codec import Stored, micros_or_none, version_to_row
from memory_service.store.fulltext import remove_entries
from memory_service.store.grants import create_grant, find_grant
from memory_service.store.memories import (
    MemoryRef,
    add_memories,
    find_memory,
    find_version,
    purge_memories,
    save_memory,
)
from memory_service.store.transaction import Namespace, Transaction
from memory_service.store.vectors import Embedded, add_set, engine_form_of_bytes, save_vectors, serving_set

ImportOutcome: TypeAlias = Imported | AppError


class Importer:
    """Imports records into the namespace of one bot, in one transaction, which `finish` ends.

    `by` is who imports; `vectors` is what the vectors are that come with memories, if queries can be embedded likewise.
    """

    def __init__(
        self,
        tx: Transaction,
        bot: str,
        conflict: Conflict,
        by: str,
        *,
        trusted: bool,
        max_memories: int,
        vectors: VectorKind | None = None,
    ) -> None:
        self._tx = tx
        self._bot = bot
        self._conflict = conflict
        self._by = by
        self._trusted = trusted
        self._max_memories = max_memories
        self._vectors = vectors
        self._taken_vectors: list[MemoryWithVector] = []
        self._namespace: Namespace = tx.ensure(bot)

    def take(self, record: Record) -> Imported:
        """Raises: AppError, and then nothing of the record is stored."""
        match record:
            case Header():
                return Imported.UNCHANGED
            case Memory():
                return self._take_memory(record)
            case MemoryWithVector():
                outcome = self._take_memory(record.memory)
                if outcome in (Imported.CREATED, Imported.UPDATED) and not record.memory.is_deleted:
                    self._taken_vectors.append(record)
                return outcome
            case MemoryAtVersion():
                return self._take_version(record.memory)
            case Block():
                return self._take_block(record)
            case BlockAtVersion():
                return self._take_block_version(record.block)
            case Grant():
                return self._take_grant(record)

    def finish(self) -> None:
        """Stores the vectors of what was taken, unless the bot's are others; the rest is made anew."""
        vectors = self._vector_set() if self._taken_vectors else None
        if vectors is None:
            return
        embedded: list[Embedded] = []
        for taken in self._taken_vectors:
            stored = self._of_uid(taken.memory)
            if stored is not None:
                vector = engine_form_of_bytes(self._tx.conn.dialect.name, taken.vector)
                embedded.append(Embedded(stored.key, text_key(taken.memory.content.text), vector))
        save_vectors(self._tx, vectors, embedded)

    def _vector_set(self) -> VectorSet | None:
        given = self._vectors
        if given is None:
            return None
        serving = serving_set(self._tx.conn, self._namespace.key)
        if serving is None:
            return add_set(self._tx, self._namespace, given.model, given.shape, serving=True)
        same = (serving.model.fingerprint, serving.shape) == (given.model.fingerprint, given.shape)
        return serving if same else None

    def _take_memory(self, memory: Memory) -> Imported:
        stored = self._find(memory.id)
        if stored is not None and stored.memory.uid != memory.uid and self._conflict is Conflict.RENAME:
            memory = replace(memory, id=renamed(memory.id, memory.uid))
            stored = self._find(memory.id)
        if stored is None:
            if self._namespace.size >= self._max_memories:
                raise MemoryLimitReached(self._bot, self._max_memories)
            self._add(memory)
            return Imported.CREATED
        present = stored.memory
        if present.uid == memory.uid and find_version(self._tx.conn, stored, memory.version) is not None:
            return Imported.UNCHANGED
        if self._conflict is not Conflict.REPLACE:
            return Imported.SKIPPED
        same = present.content == memory.content and present.is_deleted == memory.is_deleted
        if same:
            return Imported.UNCHANGED
        after = replace(
            present,
            content=memory.content,
            version=present.version + 1,
            change=ChangeKind.IMPORT,
            changed_by=self._by,
            update_time=self._tx.now,
            delete_time=memory.delete_time,
            purge_time=memory.purge_time,
        )
        save_memory(self._tx, self._namespace, stored, after)
        return Imported.UPDATED

    def _add(self, memory: Memory) -> None:
        add_memories(self._tx, self._namespace, [replace(memory, delete_time=None, purge_time=None)])
        if not memory.is_deleted:
            return
        stored = find_memory(self._tx.conn, self._namespace, MemoryRef(self._bot, memory.id))
        assert stored is not None
        remove_entries(self._tx.conn, [stored.key])
        times = {"delete_time": micros_or_none(memory.delete_time), "purge_time": micros_or_none(memory.purge_time)}
        self._tx.conn.execute(update(MEMORY).where(MEMORY.c.pk == stored.key).values(**times))
        self._namespace.live_count -= 1
        self._namespace.deleted_count += 1
        self._namespace.word_count -= stored.word_count

    def _find(self, memory_id: str) -> Stored | None:
        """An expired memory must not hold its id until a sweep comes by."""
        stored = find_memory(self._tx.conn, self._namespace, MemoryRef(self._bot, memory_id))
        if stored is not None and stored.memory.is_expired(self._tx.now):
            purge_memories(self._tx, self._namespace, [stored])
            return None
        return stored

    def _take_version(self, version: Memory) -> Imported:
        stored = self._of_uid(version)
        if stored is None:
            if self._find(version.id) is not None:
                return Imported.SKIPPED  # as the memory itself was
            raise ImportRecordInvalid("memory_version", "must come after its memory")
        number, present = version.version, stored.memory
        if number == present.version and present.change is ChangeKind.IMPORT and present.changed_by == self._by:
            return self._tell_who(stored, version)
        if number > present.version:
            raise ImportRecordInvalid("memory_version", "must not be newer than its memory")
        if find_version(self._tx.conn, stored, number) is not None:
            return Imported.UNCHANGED
        if number <= present.version - KEPT_VERSIONS:
            return Imported.SKIPPED
        self._tx.conn.execute(insert(MEMORY_VERSION), version_to_row(stored.key, version))
        self._tx.mark_changed(self._namespace)
        return Imported.CREATED

    def _of_uid(self, memory: Memory) -> Stored | None:
        for memory_id in (memory.id, renamed(memory.id, memory.uid)):
            stored = find_memory(self._tx.conn, self._namespace, MemoryRef(self._bot, memory_id))
            if stored is not None and stored.memory.uid == memory.uid:
                return stored
        return None

    def _tell_who(self, stored: Stored, version: Memory) -> Imported:
        """A memory's own record does not say who made its version and how; the record of the version does."""
        if (version.change, version.changed_by) == (stored.memory.change, stored.memory.changed_by):
            return Imported.UNCHANGED
        values = {"change": int(version.change), "changed_by": version.changed_by}
        self._tx.conn.execute(update(MEMORY).where(MEMORY.c.pk == stored.key).values(**values))
        self._tx.mark_changed(self._namespace)
        return Imported.CREATED

    def _take_block(self, block: Block) -> Imported:
        conn = self._tx.conn
        present = find_block(conn, self._namespace, self._bot, block.id)
        if present is not None and present.uid != block.uid and self._conflict is Conflict.RENAME:
            block = replace(block, id=renamed_slug(block.id, block.uid))
            present = find_block(conn, self._namespace, self._bot, block.id)
        block_rules.check_length(block.name, block.content)
        if present is None:
            block_rules.check_writable(block.name, BlockContent(), block.content, trusted=self._trusted)
            if add_block(self._tx, self._namespace, block, MAX_BLOCKS):
                return Imported.CREATED
            raise BlockLimitReached(self._bot, MAX_BLOCKS)
        if present.uid == block.uid and (
            present.version == block.version
            or find_block_version(conn, self._namespace, present, block.version) is not None
        ):
            return Imported.UNCHANGED
        if self._conflict is not Conflict.REPLACE:
            return Imported.SKIPPED
        block_rules.check_writable(present.name, present.content, block.content, trusted=self._trusted)
        after = block_rules.put(present, block.content, self._by, self._tx.now)
        if after is present:
            return Imported.UNCHANGED
        save_block(self._tx, self._namespace, present, replace(after, change=ChangeKind.IMPORT))
        return Imported.UPDATED

    def _take_block_version(self, version: Block) -> Imported:
        conn = self._tx.conn
        found = (
            find_block(conn, self._namespace, self._bot, each)
            for each in (version.id, renamed_slug(version.id, version.uid))
        )
        present = next((block for block in found if block is not None and block.uid == version.uid), None)
        if present is None:
            if find_block(conn, self._namespace, self._bot, version.id) is not None:
                return Imported.SKIPPED
            raise ImportRecordInvalid("block_version", "must come after its block")
        if version.version > present.version:
            raise ImportRecordInvalid("block_version", "must not be newer than its block")
        if version.version == present.version:
            told = (present.change, present.principal) == (version.change, version.principal)
            if told or present.change is not ChangeKind.IMPORT:
                return Imported.UNCHANGED
            values = {"change": int(version.change), "principal": version.principal}
            conn.execute(update(BLOCK).where(*self._block(present.id)).values(**values))
            self._tx.mark_changed(self._namespace)
            return Imported.CREATED
        if find_block_version(conn, self._namespace, present, version.version) is not None:
            return Imported.UNCHANGED
        if version.version <= present.version - KEPT_VERSIONS:
            return Imported.SKIPPED
        row = block_to_row(replace(version, id=present.id))
        kept = {name: row[name] for name in ("block_id", "version", "change", "principal", "update_time", "content")}
        conn.execute(insert(BLOCK_VERSION), {"namespace": self._namespace.key, **kept})
        self._tx.mark_changed(self._namespace)
        return Imported.CREATED

    def _block(self, block_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return BLOCK.c.namespace == self._namespace.key, BLOCK.c.block_id == block_id

    def _take_grant(self, grant: Grant) -> Imported:
        present = find_grant(self._tx.conn, self._bot, grant.id)
        if present is not None:
            same = replace(grant, key=present.key, access_count=present.access_count, access_time=present.access_time)
            return Imported.UNCHANGED if same == present else Imported.SKIPPED
        if grant.state(self._tx.now) is not GrantState.ACTIVE:
            return Imported.SKIPPED  # it lends nothing any more
        create_grant(self._tx, replace(grant, access_count=0, access_time=None))
        return Imported.CREATED


def import_records(take: Callable[[Record], Imported], records: Sequence[Record | AppError]) -> list[ImportOutcome]:
    """An outcome for each record, in order; those that could not be read keep their refusal."""
    outcomes: list[ImportOutcome] = []
    for record in records:
        if isinstance(record, AppError):
            outcomes.append(record)
            continue
        try:
            outcomes.append(take(record))
        except AppError as refusal:
            outcomes.append(refusal)
    return outcomes
