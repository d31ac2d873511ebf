"""A bot's memory as its turns use it: memories that are found again, and blocks that are always there."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot_sdk import convert, memory_convert
from bot_sdk.model import Block, Memory, MemoryPage, MemorySource, Recollection, Stored
from bot_sdk.stubs import Stubs, acting_for, answer
from chassis import errors
from mobot.memory.v1 import block_pb2, memory_pb2, memory_service_pb2

MAX_QUERY_CHARS = 4_096
RECALLED = 16
PINNED = 32
_BYTES_PER_TOKEN = 4
_EDITS = 5

_log = logging.getLogger("mobot.sdk.memory")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where what is put comes from: written down with it. `event_sequence` is 0 when no event is meant."""

    session: str = ""
    event_sequence: int = 0
    run: str = ""


class MemoryStore:
    """The memories and blocks of one bot, `bots/{bot}`."""

    def __init__(
        self,
        stubs: Stubs,
        bot: str,
        *,
        origin: Origin | None = None,
        key: Callable[..., str] | None = None,
        cite: Callable[[Sequence[Memory]], None] | None = None,
    ) -> None:
        """`key` makes ids of requests that are the same in every attempt of a run; without one a request that is
        repeated is done again. `cite` hears of what was used."""
        self._stubs = stubs
        self._bot = bot
        self._origin = origin or Origin()
        self._key = key
        self._cite = cite
        self._metadata = acting_for(bot)
        self._puts: dict[str, int] = {}

    async def put(
        self,
        text: str,
        *,
        kind: str = "note",
        tags: Sequence[str] = (),
        importance: float | None = None,
        ttl_s: float | None = None,
        request_id: str = "",
        from_tool: bool = False,
    ) -> Memory:
        """Remembers `text` and returns it as stored; the same text again only counts as used.

        `kind` is note, fact, preference, episode, task, procedure or summary.
        """
        source = MemorySource.TOOL if from_tool else MemorySource.API
        stored = await self.store(
            text, kind=kind, tags=tags, importance=importance, ttl_s=ttl_s, request_id=request_id, source=source
        )
        return stored.memory

    async def store(
        self,
        text: str,
        *,
        kind: str = "note",
        tags: Sequence[str] = (),
        importance: float | None = None,
        ttl_s: float | None = None,
        request_id: str = "",
        source: MemorySource = MemorySource.API,
        near_duplicates: int = 0,
        origin: Origin | None = None,
    ) -> Stored:
        """`put`, and what became of it: whether it is new, and up to 10 memories that say nearly the same."""
        where = origin or self._origin
        draft = memory_pb2.MemoryDraft(
            memory=memory_pb2.Memory(
                text=convert.clean(text),
                kind=memory_convert.from_memory_kind(kind),
                tags=tags,
                importance=importance,
                provenance=memory_convert.from_provenance(where.session, where.event_sequence, where.run, source),
            ),
            near_duplicate_limit=near_duplicates,
        )
        if ttl_s is not None:
            draft.ttl.CopyFrom(convert.to_duration(ttl_s))
        made_id = self._id_of_put("\0".join((text, kind, *tags)))
        request = memory_service_pb2.PutMemoryRequest(parent=self._bot, draft=draft, request_id=request_id or made_id)
        response = await answer(self._stubs.memory.PutMemory(request, metadata=self._metadata))
        return memory_convert.to_stored(response.result)

    def _id_of_put(self, what: str) -> str:
        """Which put of the run this is: the nth of its content."""
        if self._key is None:
            return ""
        nth = self._puts[what] = self._puts.get(what, 0) + 1
        return self._key("memory", what, str(nth))

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        tags: Sequence[str] = (),
        kinds: Sequence[str] = (),
        record_use: bool = False,
    ) -> tuple[Memory, ...]:
        """The memories that fit best by words and meaning, best first; `tags` must all be there.

        With `record_use` they count as used, and the reply of the turn cites them.
        """
        request = memory_service_pb2.SearchMemoriesRequest(
            parent=self._bot, query=convert.clean(query)[:MAX_QUERY_CHARS], page_size=limit, record_use=record_use
        )
        _narrow(request.filter, tags, kinds)
        response = await answer(self._stubs.memory.SearchMemories(request, metadata=self._metadata))
        found = memory_convert.to_found(response.hits)
        if record_use and self._cite is not None:
            self._cite(found)
        return found

    async def list(
        self,
        *,
        limit: int = 20,
        page_token: str = "",
        tags: Sequence[str] = (),
        kinds: Sequence[str] = (),
        pinned: bool | None = None,
    ) -> MemoryPage:
        """A page of memories, the newest first."""
        request = memory_service_pb2.ListMemoriesRequest(parent=self._bot, page_size=limit, page_token=page_token)
        _narrow(request.filter, tags, kinds)
        if pinned is not None:
            request.filter.pinned = pinned
        response = await answer(self._stubs.memory.ListMemories(request, metadata=self._metadata))
        return MemoryPage(tuple(map(memory_convert.to_memory, response.memories)), response.next_page_token)

    async def list_newest(self, *, limit: int = 10) -> tuple[Memory, ...]:
        """The newest memories."""
        return (await self.list(limit=limit)).memories

    async def get(self, memory: str) -> Memory:
        """One memory, by id or name.

        Raises:
            NotFound: there is none, or it is another bot's.
        """
        request = memory_service_pb2.GetMemoryRequest(name=memory_convert.memory_name(self._bot, memory))
        response = await answer(self._stubs.memory.GetMemory(request, metadata=self._metadata))
        return memory_convert.to_memory(response.memory)

    async def forget(self, memory: str, *, request_id: str = "") -> None:
        """Deletes a memory, by id or name; people can bring it back for a while.

        Raises:
            NotFound: there is none, or it is another bot's.
        """
        name = memory_convert.memory_name(self._bot, memory)
        made_id = "" if self._key is None else self._key("forget", name)
        request = memory_service_pb2.DeleteMemoryRequest(name=name, request_id=request_id or made_id)
        await answer(self._stubs.memory.DeleteMemory(request, metadata=self._metadata))

    async def blocks(self) -> tuple[Block, ...]:
        """Every block of the bot, in their order."""
        found: list[Block] = []
        request = memory_service_pb2.ListBlocksRequest(parent=self._bot, page_size=1_000)
        while True:
            response = await answer(self._stubs.memory.ListBlocks(request, metadata=self._metadata))
            found.extend(map(memory_convert.to_block, response.blocks))
            if not response.next_page_token:
                return tuple(found)
            request.page_token = response.next_page_token

    async def block(self, block: str) -> Block:
        """One block, by id or name.

        Raises:
            NotFound: there is none.
        """
        request = memory_service_pb2.GetBlockRequest(name=memory_convert.block_name(self._bot, block))
        response = await answer(self._stubs.memory.GetBlock(request, metadata=self._metadata))
        return memory_convert.to_block(response.block)

    async def put_block(
        self, block: str, text: str, *, description: str = "", etag: str = "", request_id: str = ""
    ) -> Block:
        """Writes a block whole, and makes it if there is none. With `etag` only if nobody changed it meanwhile.

        Raises:
            FailedPrecondition: it is read-only for bots (BLOCK_READ_ONLY).
            InvalidArgument: the text is longer than the block's limit.
            Aborted: it has changed since the etag.
        """
        name = memory_convert.block_name(self._bot, block)
        request = memory_service_pb2.PutBlockRequest(
            block=block_pb2.Block(name=name, text=convert.clean(text), description=description, etag=etag),
            request_id=request_id,
        )
        request.update_mask.paths.append("text")
        if description:
            request.update_mask.paths.append("description")
        response = await answer(self._stubs.memory.PutBlock(request, metadata=self._metadata))
        return memory_convert.to_block(response.block)

    async def edit_block(self, block: str, change: Callable[[str], str], *, request_id: str = "") -> Block:
        """Changes a block's text from what it is; a change by somebody else meanwhile is not lost.

        With a `request_id` the change is made once: a repetition gives the block as it is now.
        """
        for _ in range(_EDITS):
            before = await self.block(block)
            try:
                return await self.put_block(before.name, change(before.text), etag=before.etag, request_id=request_id)
            except errors.Aborted as error:
                if error.reason != "ETAG_MISMATCH":
                    raise
            except errors.InvalidArgument as error:
                if error.reason != errors.REQUEST_ID_REUSED:
                    raise
                # The same request came before, from another text: this change is in the block already.
                return before
        raise errors.Aborted(f"{block} is being changed by others all the time", reason="ETAG_MISMATCH")

    async def recall(self, query: str, *, budget_tokens: int = 1_024, limit: int = RECALLED) -> Recollection:
        """What to tell a brain before it works on `query`: every block, the pinned memories, and those that fit.

        Memories take at most `budget_tokens` (0: none); blocks have limits of their own and are always there. The
        turn's reply cites the memories. What cannot be had now is left out: forgetting for a moment is better than
        not answering.
        """
        async with asyncio.TaskGroup() as tasks:
            blocks = tasks.create_task(self._known_blocks())
            memories = tasks.create_task(self._fitting(query, budget_tokens, limit))
        recalled = Recollection(blocks.result(), memories.result())
        if recalled.memories and self._cite is not None:
            self._cite(recalled.memories)
        return recalled

    async def _known_blocks(self) -> tuple[Block, ...]:
        try:
            return await self.blocks()
        except errors.AppError as error:
            _log.warning("no blocks", extra={"bot": self._bot, "reason": error.reason or error.code})
            return ()

    async def _fitting(self, query: str, budget_tokens: int, limit: int) -> tuple[Memory, ...]:
        if budget_tokens <= 0:
            return ()
        kept: dict[str, Memory] = {}
        left = budget_tokens * _BYTES_PER_TOKEN
        for memory in (*await self._pinned(), *await self._found(query, limit)):
            size = len(memory.text.encode())
            # A long one that does not fit gives its place to the next that does.
            if memory.name not in kept and size <= left:
                kept[memory.name] = memory
                left -= size
        return tuple(kept.values())

    async def _pinned(self) -> tuple[Memory, ...]:
        try:
            return (await self.list(limit=PINNED, pinned=True)).memories
        except errors.AppError as error:
            _log.warning("nothing pinned", extra={"bot": self._bot, "reason": error.reason or error.code})
            return ()

    async def _found(self, query: str, limit: int) -> tuple[Memory, ...]:
        words = convert.clean(query).strip()
        if not words:
            return ()
        request = memory_service_pb2.SearchMemoriesRequest(
            parent=self._bot, query=words[:MAX_QUERY_CHARS], page_size=limit, record_use=True
        )
        try:
            response = await answer(self._stubs.memory.SearchMemories(request, metadata=self._metadata))
        except errors.AppError as error:
            _log.warning("nothing recalled", extra={"bot": self._bot, "reason": error.reason or error.code})
            return ()
        return memory_convert.to_found(response.hits)


def _narrow(wanted: memory_pb2.MemoryFilter, tags: Sequence[str], kinds: Sequence[str]) -> None:
    wanted.all_tags.extend(tags)
    wanted.kinds.extend(map(memory_convert.from_memory_kind, kinds))
