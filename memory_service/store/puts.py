"""Putting memories: many of one bot are looked up together and written together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from chassis.errors import AppError, field_invalid
from memory_service.domain.errors import MemoryAlreadyExists, MemoryDuplicate, MemoryLimitReached, NamespaceErasing
from memory_service.domain.grant import Reach
from memory_service.domain.memory import Dedupe, Memory, NewMemory, Outcome, Put, text_key, touch
from memory_service.store import ledger
from memory_service.store.codec import Stored, memory_from_row
from memory_service.store.grants import record_access
from memory_service.store.ledger import PutShown, Ticket
from memory_service.store.memories import add_memories, batches, purge_memories, save_touched
from memory_service.store.rows import rows_with
from memory_service.store.transaction import Transaction

_WEIGHT = 16
_CHARACTERS = 32
"""How many characters of a text weigh as much as an item."""


@dataclass(frozen=True, slots=True)
class PutItem:
    """One put of its own, which shares its transaction with all that queued beside it."""

    reach: Reach
    draft: NewMemory
    ticket: Ticket

    @property
    def weight(self) -> int:
        """In items of the writer: a put takes as long as several of those, and a long text longer still."""
        content = self.draft.content
        return _WEIGHT + (len(content.text) + len(content.context)) // _CHARACTERS


class PutBatch:
    """Puts into one namespace. Later puts see earlier ones; nothing is written before `finish`."""

    def __init__(self, tx: Transaction, bot: str, drafts: Sequence[NewMemory], limit: int) -> None:
        self._tx = tx
        self._bot = bot
        self._limit = limit
        self._namespace = tx.ensure(bot)
        self._added: dict[str, Memory] = {}
        self._touched: dict[str, Stored] = {}
        self._keys = [text_key(draft.content.text) for draft in drafts]
        self._by_id: dict[str, Stored] = {}
        self._by_text: dict[str, list[str]] = {}
        """Text key -> ids of the memories that say it, the oldest first."""
        self._look_up(drafts)

    def put(self, index: int, draft: NewMemory, reach: Reach) -> Put:
        """Decides the draft at `index`. Through a grant nothing is touched that it does not lend.

        Raises:
            MemoryDuplicate, MemoryAlreadyExists, MemoryLimitReached
            InvalidArgument: through a grant, the draft chooses its id or does not lie in the slice.
        """
        key = self._keys[index]
        if reach.is_lent:
            self._check_lent(draft, reach)
        same = None if draft.dedupe is Dedupe.ALLOW else self._same(key, reach)
        if same is not None:
            if draft.dedupe is Dedupe.REJECT:
                raise MemoryDuplicate(self._memory(same).name)
            return Put(Outcome.TOUCHED, self._touch(same, draft))
        if draft.id and (draft.id in self._by_id or draft.id in self._added):
            raise MemoryAlreadyExists(f"bots/{self._bot}/memories/{draft.id}")
        if self._namespace.size + len(self._added) >= self._limit:
            raise MemoryLimitReached(self._bot, self._limit)
        memory = self._make(draft)
        self._added[memory.id] = memory
        self._by_text.setdefault(key, []).append(memory.id)
        return Put(Outcome.CREATED, memory)

    def finish(self) -> None:
        add_memories(self._tx, self._namespace, list(self._added.values()))
        save_touched(self._tx, self._namespace, list(self._touched.values()))

    def _look_up(self, drafts: Sequence[NewMemory]) -> None:
        expired: dict[str, Stored] = {}
        for stored in self._find("memory_id", {draft.id for draft in drafts if draft.id}):
            target = expired if stored.memory.is_expired(self._tx.now) else self._by_id
            target[stored.memory.id] = stored
        # An expired memory must not hold its id until a sweep comes by.
        purge_memories(self._tx, self._namespace, list(expired.values()))
        # Nothing is the same for a draft that may repeat another.
        compared = {key for key, draft in zip(self._keys, drafts, strict=True) if draft.dedupe is not Dedupe.ALLOW}
        for stored in self._find("text_key", compared):
            memory = stored.memory
            if not memory.is_deleted and not memory.is_expired(self._tx.now):
                self._by_id[memory.id] = stored
                self._by_text.setdefault(text_key(memory.content.text), []).append(memory.id)

    def _same(self, key: str, reach: Reach) -> str | None:
        """The memory that is touched for a text, of several the oldest."""
        return next((each for each in self._by_text.get(key, ()) if reach.admits(self._memory(each))), None)

    def _check_lent(self, draft: NewMemory, reach: Reach) -> None:
        if draft.id:
            raise field_invalid("draft.memory_id", "must be empty through a grant")
        reach.check_written("draft.memory", self._make(draft))

    def _find(self, column: Literal["memory_id", "text_key"], values: set[str]) -> list[Stored]:
        found: list[Stored] = []
        for some in batches(values):
            rows = rows_with(self._tx.conn, self._namespace.key, column, some)
            found.extend(memory_from_row(row, self._bot) for row in rows)
        return found

    def _memory(self, memory_id: str) -> Memory:
        return self._added.get(memory_id) or self._by_id[memory_id].memory

    def _touch(self, memory_id: str, draft: NewMemory) -> Memory:
        after = touch(self._memory(memory_id), draft.content.expire_time, self._tx.now)
        if memory_id in self._added:
            self._added[memory_id] = after
        else:
            self._by_id[memory_id] = self._touched[memory_id] = replace(self._by_id[memory_id], memory=after)
        return after

    def _make(self, draft: NewMemory) -> Memory:
        return Memory(
            bot=self._bot,
            id=draft.id or self._tx.new_id(),
            uid=self._tx.new_id(),
            content=draft.content,
            provenance=draft.provenance,
            create_time=self._tx.now,
            update_time=self._tx.now,
            changed_by=draft.provenance.principal,
        )


def put_all(
    tx: Transaction, bot: str, asked: Sequence[tuple[Reach, NewMemory | AppError]], limit: int, *, atomic: bool
) -> list[Put | AppError]:
    """A result for each draft, put with its reach; those that were refused before keep their refusal.

    Raises:
        AppError: with `atomic`, the first refusal, and nothing is written.
    """
    batch = PutBatch(tx, bot, [draft for _, draft in asked if isinstance(draft, NewMemory)], limit)
    results: list[Put | AppError] = []
    index = 0
    for reach, draft in asked:
        if isinstance(draft, AppError):
            results.append(draft)
            continue
        try:
            results.append(batch.put(index, draft, reach))
        except AppError as refusal:
            if atomic:
                raise
            results.append(refusal)
        index += 1
    batch.finish()
    return results


def put_each(tx: Transaction, items: Sequence[PutItem], limit: int) -> list[PutShown | AppError]:
    """A result for each item, in order. A refused one has written nothing."""
    queue = _PutQueue(tx, limit)
    for place, item in enumerate(items):
        queue.add(place, item)
    queue.flush()
    return [queue.results[place] for place in range(len(items))]


class _PutQueue:
    """Collects puts by bot, so that those of one are looked up and written together."""

    def __init__(self, tx: Transaction, limit: int) -> None:
        self.results: dict[int, PutShown | AppError] = {}
        self._tx = tx
        self._limit = limit
        self._waiting: dict[str, list[tuple[int, PutItem]]] = {}
        self._request_ids: set[tuple[str, str]] = set()

    def add(self, place: int, item: PutItem) -> None:
        request = (item.ticket.principal, item.ticket.request_id)
        if request in self._request_ids:
            self.flush()  # the ledger must have the first of the two before the second is looked up
        try:
            known = ledger.find_record(self._tx, item.ticket)
        except AppError as refusal:
            self.results[place] = refusal
            return
        if known is not None:
            self.results[place] = ledger.recall_put_shown(self._tx, known)
            return
        if item.ticket.request_id:
            self._request_ids.add(request)
        self._waiting.setdefault(item.reach.bot, []).append((place, item))

    def flush(self) -> None:
        for bot, waiting in self._waiting.items():
            asked = [(item.reach, item.draft) for _, item in waiting]
            try:
                results = put_all(self._tx, bot, asked, self._limit, atomic=False)
            except NamespaceErasing as refusal:
                results = [refusal] * len(waiting)
            for (place, item), result in zip(waiting, results, strict=True):
                if isinstance(result, AppError):
                    self.results[place] = result
                    continue
                shown = PutShown(result.outcome, result.memory)
                record_access(self._tx, item.reach, [result.memory])
                self.results[place] = shown
                if item.ticket.request_id:
                    ledger.keep_record(self._tx, item.ticket, ledger.record_put(shown))
        self._waiting.clear()
        self._request_ids.clear()
