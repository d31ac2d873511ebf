"""Lists of blocks: a bot's own, and after them those that grants lend it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from memory_service.domain.block import Block
from memory_service.domain.grant import Reach
from memory_service.store.blocks import read_blocks
from memory_service.store.lists import Position
from memory_service.store.transaction import read_namespace


@dataclass(frozen=True, slots=True)
class BlockPage:
    """The blocks in order, in runs of one reach. `next` is the place after this page, empty on the last one."""

    by_reach: tuple[tuple[Reach, tuple[Block, ...]], ...]
    next: tuple[str | int, ...]
    revision: int


def list_blocks(conn: Connection, reach: Reach, lent: Sequence[Reach], size: int, after: Position) -> BlockPage:
    """A bot has few blocks, so those before a page are read again with it; `lent` is in order of its bots."""
    reaches = [*([] if reach.is_lent else [reach]), *lent]
    found = [(each, block) for each in reaches for block in _blocks_of(conn, each)]
    if after:
        found = [(each, block) for each, block in found if _place(each, block) > tuple(after)]
    page = found[:size]
    runs = ((each, tuple(block for holder, block in page if holder is each)) for each in reaches)
    return BlockPage(
        tuple(run for run in runs if run[1]),
        _place(*page[-1]) if len(found) > size else (),
        read_namespace(conn, reach.bot).revision,
    )


def _place(reach: Reach, block: Block) -> tuple[str | int, ...]:
    return int(reach.is_lent), block.bot, block.content.order, block.id


def _blocks_of(conn: Connection, reach: Reach) -> list[Block]:
    blocks = read_blocks(conn, read_namespace(conn, reach.bot))
    return blocks if not reach.is_lent else [block for block in blocks if reach.grant_of_block(block.id)]
