"""A bot's memory as its turns use it."""

from collections.abc import Sequence

from bot_sdk import convert
from bot_sdk.model import Memory
from bot_sdk.stubs import Stubs, acting_for, answer
from mobot.memory.v1 import memory_pb2, memory_service_pb2


class MemoryStore:
    """The memories of one bot, `bots/{bot}`. `session` and `run` are written down as where a memory came from."""

    def __init__(self, stubs: Stubs, bot: str, *, session: str = "", run: str = "") -> None:
        self._stubs = stubs
        self._bot = bot
        self._session = session
        self._run = run
        self._metadata = acting_for(bot)

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
        draft = memory_pb2.MemoryDraft(
            memory=memory_pb2.Memory(
                text=text,
                kind=convert.from_memory_kind(kind),
                tags=tags,
                importance=importance,
                provenance=memory_pb2.Provenance(
                    session=self._session,
                    run_id=self._run if len(self._run) <= 128 else "",
                    source=memory_pb2.MEMORY_SOURCE_TOOL if from_tool else memory_pb2.MEMORY_SOURCE_API,
                ),
            )
        )
        if ttl_s is not None:
            draft.ttl.CopyFrom(convert.to_duration(ttl_s))
        request = memory_service_pb2.PutMemoryRequest(parent=self._bot, draft=draft, request_id=request_id)
        response = await answer(self._stubs.memory.PutMemory(request, metadata=self._metadata))
        return convert.to_memory(response.result.memory)

    async def search(
        self, query: str, *, limit: int = 10, tags: Sequence[str] = (), record_use: bool = False
    ) -> tuple[Memory, ...]:
        """The memories that fit the words best, best first; `tags` must all be there."""
        request = memory_service_pb2.SearchMemoriesRequest(
            parent=self._bot, query=query[:4_096], page_size=limit, record_use=record_use
        )
        if tags:
            request.filter.all_tags.extend(tags)
        response = await answer(self._stubs.memory.SearchMemories(request, metadata=self._metadata))
        return convert.to_found(response.hits)

    async def list_newest(self, *, limit: int = 10) -> tuple[Memory, ...]:
        """The newest memories."""
        request = memory_service_pb2.ListMemoriesRequest(parent=self._bot, page_size=limit, order_by="create_time desc")
        response = await answer(self._stubs.memory.ListMemories(request, metadata=self._metadata))
        return tuple(convert.to_memory(memory) for memory in response.memories)
