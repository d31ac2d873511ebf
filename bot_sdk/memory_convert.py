"""Between the memory service's messages and `bot_sdk.model`."""

from collections.abc import Iterable

from bot_sdk import convert, model
from chassis import errors, resource_names
from mobot.memory.v1 import block_pb2, memory_pb2, memory_service_pb2

_MAX_RUN_CHARS = 128


def to_memory(memory: memory_pb2.Memory, *, score: float = 0.0) -> model.Memory:
    return model.Memory(
        name=memory.name,
        text=memory.text,
        kind=convert.short(memory_pb2.MemoryKind.DESCRIPTOR, memory.kind, "MEMORY_KIND_").lower(),
        tags=tuple(memory.tags),
        create_time=convert.to_time(memory.create_time),
        score=score,
        importance=memory.importance if memory.HasField("importance") else 0.5,
        pinned=memory.pinned,
        author=memory.author,
        session=memory.provenance.session,
        event_sequence=memory.provenance.event_sequence,
        run=memory.provenance.run_id,
    )


def to_found(hits: Iterable[memory_service_pb2.SearchHit]) -> tuple[model.Memory, ...]:
    return tuple(to_memory(hit.memory, score=hit.score) for hit in hits)


def to_stored(result: memory_pb2.PutResult) -> model.Stored:
    return model.Stored(
        memory=to_memory(result.memory),
        created=result.outcome == memory_pb2.PUT_OUTCOME_CREATED,
        near_duplicates=tuple(
            model.NearDuplicate(near.memory, near.similarity, near.excerpt) for near in result.near_duplicates
        ),
    )


def to_block(block: block_pb2.Block) -> model.Block:
    return model.Block(
        name=block.name,
        text=block.text,
        description=block.description,
        max_characters=block.max_characters,
        read_only=block.read_only,
        version=block.version,
        etag=block.etag,
    )


def from_memory_kind(kind: str) -> "memory_pb2.MemoryKind.ValueType":
    """ "fact" -> MEMORY_KIND_FACT.

    Raises:
        InvalidArgument: there is no such kind.
    """
    name = f"MEMORY_KIND_{kind.upper()}"
    names = memory_pb2.MemoryKind.DESCRIPTOR.values_by_name
    if name not in names or kind.upper() == "UNSPECIFIED":
        kinds = ", ".join(key.removeprefix("MEMORY_KIND_").lower() for key in list(names)[1:])
        raise errors.field_invalid("kind", f"must be one of {kinds}")
    return memory_pb2.MemoryKind.Value(name)


def from_source(source: model.MemorySource) -> "memory_pb2.MemorySource.ValueType":
    return memory_pb2.MemorySource.Value(f"MEMORY_SOURCE_{source.name}")


def from_provenance(session: str, event_sequence: int, run: str, source: model.MemorySource) -> memory_pb2.Provenance:
    return memory_pb2.Provenance(
        session=session,
        event_sequence=event_sequence,
        run_id=run if len(run) <= _MAX_RUN_CHARS else "",
        source=from_source(source),
    )


def memory_name(bot: str, memory: str) -> str:
    """The resource name of a memory that is given as one, or as its id within `bots/{bot}`.

    Raises:
        InvalidArgument: it is neither.
    """
    if "/" in memory:
        parsed = resource_names.parse_memory(memory, field="memory")
        return resource_names.memory_name(parsed.bot, parsed.memory)
    owner = resource_names.parse_bot(bot, field="bot")
    return resource_names.memory_name(owner, resource_names.check_memory_id(memory, field="memory"))


def block_name(bot: str, block: str) -> str:
    """The resource name of a block that is given as one, or as its id within `bots/{bot}`."""
    return block if "/" in block else f"{bot}/blocks/{block}"
