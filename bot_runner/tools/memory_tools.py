"""memory_save, memory_search: what a bot keeps across sessions and restarts."""

from typing import Annotated, Literal

from pydantic import Field

from bot_runner.tools.tool import Call, Params, Tool
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
    memory = await call.turn.memory.put(
        params.text,
        kind=params.kind,
        tags=params.tags,
        importance=params.importance,
        request_id=call.key,
        from_tool=True,
    )
    return {"status": "ok", "memory": memory.name, "text": memory.text}


class MemorySearchParams(Params):
    query: Annotated[str, Field(min_length=1, max_length=4_096)] = Field(description="What to look for.")
    limit: int = Field(8, ge=1, le=50, description="Memories at most.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32)] = Field((), description="Tags they must all have.")


async def memory_search(call: Call, params: MemorySearchParams) -> Json:
    found = await call.turn.memory.search(params.query, limit=params.limit, tags=params.tags, record_use=True)
    return {
        "results": [
            {
                "memory": memory.name,
                "text": memory.text,
                "kind": memory.kind,
                "tags": list(memory.tags),
                "score": round(memory.score, 4),
                "savedAt": "" if memory.create_time is None else memory.create_time.isoformat(timespec="seconds"),
            }
            for memory in found
        ]
    }


MEMORY_SAVE = Tool(
    "memory_save",
    "Remembers something across all sessions and restarts. Saving the same text again changes nothing.",
    MemorySaveParams,
    memory_save,
)
MEMORY_SEARCH = Tool(
    "memory_search", "Finds what you remember by words and meaning, best first.", MemorySearchParams, memory_search
)
