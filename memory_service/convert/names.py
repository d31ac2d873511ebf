"""The names of memories, blocks and their versions."""

import re

from chassis import resource_names
from memory_service.store.memories import MemoryRef

_VERSION = re.compile(r"[1-9][0-9]{0,17}")


def parse_memory(name: str, field: str = "name") -> MemoryRef:
    return MemoryRef(*resource_names.parse_memory(name, field=field))


def parse_memory_version(name: str) -> tuple[MemoryRef, int]:
    memory, _, version = name.rpartition("/versions/")
    if not memory or not _VERSION.fullmatch(version):
        raise resource_names.name_invalid(
            "name", name, "must look like bots/{bot}/memories/{memory}/versions/{version}"
        )
    return parse_memory(memory), int(version)


def parse_block(name: str, field: str = "name") -> tuple[str, str]:
    """The ids of the bot and of the block."""
    return resource_names.parse_block(name, field=field)
