"""memory_save, memory_search, memory_list, memory_forget: what a bot keeps across sessions and restarts."""

from typing import Annotated, Literal

from pydantic import Field

from bot_runner.tools.tool import Call, Params, Tool
from bot_sdk.model import Memory, MemorySource
from bot_sdk.steps import Json

Kind = Literal["note", "fact", "preference", "episode", "task", "procedure", "summary"]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class MemorySaveParams(Params):
    text: Annotated[str, Field(min_length=1, max_length=8_000)] = Field(
        description="What to remember, in a sentence that makes sense on its own."
    )
    kind: Kind = Field("note", description="What kind of thing it is.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32)] = Field((), description="Words to select it by.")
    importance: float | None = Field(None, ge=0, le=1, description="How much it matters, 0 to 1.")


async def memory_save(call: Call, params: MemorySaveParams) -> Json:
    stored = await call.turn.memory.store(
        params.text,
        kind=params.kind,
        tags=params.tags,
        importance=params.importance,
        request_id=call.key,
        source=MemorySource.TOOL,
        near_duplicates=3,
    )
    answer: dict[str, Json] = {
        "status": "ok",
        "memory": stored.memory.name,
        "text": stored.memory.text,
        "known": not stored.created,
    }
    if stored.near_duplicates:
        answer["similar"] = [{"memory": near.memory, "text": near.excerpt} for near in stored.near_duplicates]
    return answer


class MemorySearchParams(Params):
    query: Annotated[str, Field(min_length=1, max_length=4_096)] = Field(description="What to look for.")
    limit: int = Field(8, ge=1, le=50, description="Memories at most.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32)] = Field((), description="Tags they must all have.")
    kinds: tuple[Kind, ...] = Field((), description="Only these kinds.")


async def memory_search(call: Call, params: MemorySearchParams) -> Json:
    found = await call.turn.memory.search(
        params.query, limit=params.limit, tags=params.tags, kinds=params.kinds, record_use=True
    )
    return {"results": [{**_row(memory), "score": round(memory.score, 4)} for memory in found]}


class MemoryListParams(Params):
    limit: int = Field(20, ge=1, le=100, description="Memories at most, the newest first.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32)] = Field((), description="Tags they must all have.")
    kinds: tuple[Kind, ...] = Field((), description="Only these kinds.")
    page_token: Annotated[str, Field(max_length=4_096)] = Field(
        "", description="nextPageToken of the page before, with everything else the same."
    )


async def memory_list(call: Call, params: MemoryListParams) -> Json:
    page = await call.turn.memory.list(
        limit=params.limit, page_token=params.page_token, tags=params.tags, kinds=params.kinds
    )
    return {"memories": [_row(memory) for memory in page.memories], "nextPageToken": page.next_page_token}


class MemoryForgetParams(Params):
    memory: Annotated[str, Field(min_length=1, max_length=300)] = Field(
        description="The memory, as memory_save, memory_search and memory_list name it."
    )


async def memory_forget(call: Call, params: MemoryForgetParams) -> Json:
    await call.turn.memory.forget(params.memory, request_id=call.key)
    return {"status": "ok", "forgotten": params.memory}


MEMORY_SAVE = Tool(
    "memory_save",
    "Remembers something across all sessions and restarts. Saving the same text again changes nothing. `similar` names "
    "what you remember already that says nearly the same.",
    MemorySaveParams,
    memory_save,
)
MEMORY_SEARCH = Tool(
    "memory_search", "Finds what you remember by words and meaning, best first.", MemorySearchParams, memory_search
)
MEMORY_LIST = Tool("memory_list", "Lists what you remember, newest first, page by page.", MemoryListParams, memory_list)
MEMORY_FORGET = Tool(
    "memory_forget",
    "Forgets one memory: it is found no more. Use it when something is no longer true or was asked to be forgotten.",
    MemoryForgetParams,
    memory_forget,
)


def _row(memory: Memory) -> dict[str, Json]:
    row: dict[str, Json] = {
        "memory": memory.name,
        "text": memory.text,
        "kind": memory.kind,
        "tags": list(memory.tags),
        "savedAt": "" if memory.create_time is None else memory.create_time.isoformat(timespec="seconds"),
    }
    if memory.session:
        row["session"] = memory.session
    if memory.pinned:
        row["pinned"] = True
    return row
