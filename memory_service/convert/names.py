"""The names of memories, blocks and their versions."""

import re

from chassis import resource_names
from chassis.errors import RESOURCE_NAME_INVALID, FieldViolation, InvalidArgument
from memory_service.store.memories import MemoryRef

_BLOCK_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


def parse_memory(name: str, field: str = "name") -> MemoryRef:
    return MemoryRef(*resource_names.parse_memory(name, field=field))


def parse_memory_version(name: str) -> tuple[MemoryRef, int]:
    memory, _, version = name.rpartition("/versions/")
    if not memory or not _VERSION.fullmatch(version):
        raise _invalid("name", name, "must look like bots/{bot}/memories/{memory}/versions/{version}")
    return parse_memory(memory), int(version)


def parse_block(name: str, field: str = "name") -> tuple[str, str]:
    """The ids of the bot and of the block."""
    segments = name.split("/")
    if len(segments) != 4 or segments[0] != "bots" or segments[2] != "blocks":
        raise _invalid(field, name, "must look like bots/{bot}/blocks/{block}")
    if not _BLOCK_ID.fullmatch(segments[3]):
        raise _invalid(field, name, f"block id must match ^{_BLOCK_ID.pattern}$")
    return resource_names.check_bot_id(segments[1], field=field), segments[3]


def _invalid(field: str, value: str, rule: str) -> InvalidArgument:
    shown = ascii(value if len(value) <= 80 else value[:80] + "...")
    return InvalidArgument(
        f"{field}: {rule} (was {shown})",
        reason=RESOURCE_NAME_INVALID,
        metadata={"field": field, "value": shown, "rule": rule},
        violations=(FieldViolation(field, rule),),
    )
