"""Blocks, both ways."""

from collections.abc import Iterable

from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import field_invalid
from memory_service.convert import checks
from memory_service.convert.memories import to_proto_time
from memory_service.domain.block import Block, BlockPatch
from memory_service.domain.grant import Reach
from mobot.memory.v1 import block_pb2, memory_pb2

MAX_CHARACTERS = 32_000
MAX_DESCRIPTION = 512
_WRITABLE = ("text", "description", "max_characters", "read_only", "order")


def to_proto_block(block: Block, reach: Reach | None = None) -> block_pb2.Block:
    """As the caller with that reach sees it; the owner without one."""
    grant = None if reach is None else reach.grant_of_block(block.id)
    return block_pb2.Block(
        name=block.name,
        grant="" if grant is None else grant.name,
        text=block.content.text,
        description=block.content.description,
        max_characters=block.content.max_characters,
        read_only=block.content.read_only,
        order=block.content.order,
        version=block.version,
        etag=block.etag,
        uid=block.uid,
        create_time=to_proto_time(block.create_time),
        update_time=to_proto_time(block.update_time),
        principal=block.principal,
    )


def to_proto_block_version(block: Block) -> block_pb2.BlockVersion:
    return block_pb2.BlockVersion(
        name=f"{block.name}/versions/{block.version}",
        block=to_proto_block(block),
        change=memory_pb2.ChangeKind.ValueType(block.change),
        principal=block.principal,
        create_time=to_proto_time(block.update_time),
    )


def from_proto_block(block: block_pb2.Block, mask: FieldMask) -> tuple[BlockPatch, BlockPatch]:
    """What to change in a block that exists, and what a new one gets: all that is populated."""
    for path in mask.paths:
        if path not in block_pb2.Block.DESCRIPTOR.fields_by_name:
            raise field_invalid("update_mask", f"must hold names of fields of a block (has {path[:80]!a})")
    checks.no_nul("block.text", block.text)
    checks.text("block.description", block.description, MAX_DESCRIPTION)
    checks.between("block.max_characters", block.max_characters, 0, MAX_CHARACTERS)
    populated = [descriptor.name for descriptor, _ in block.ListFields()]
    return _patch(block, mask.paths or populated), _patch(block, populated)


def _patch(block: block_pb2.Block, paths: Iterable[str]) -> BlockPatch:
    named = set(paths).intersection(_WRITABLE)
    return BlockPatch(
        text=block.text if "text" in named else None,
        description=block.description if "description" in named else None,
        max_characters=(block.max_characters or None) if "max_characters" in named else None,
        read_only=block.read_only if "read_only" in named else None,
        order=block.order if "order" in named else None,
    )
