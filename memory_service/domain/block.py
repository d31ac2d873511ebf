"""A block: a small named text that is always in its bot's context."""

from dataclasses import dataclass, replace
from datetime import datetime

from memory_service.domain.errors import BlockReadOnly, BlockTextTooLong, EtagMismatch
from memory_service.domain.memory import ChangeKind, make_etag

DEFAULT_CHARACTERS = 4_000
MAX_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class BlockContent:
    """What a version of a block holds. `order` is its place among the bot's blocks, ties by name."""

    text: str = ""
    description: str = ""
    max_characters: int = DEFAULT_CHARACTERS
    read_only: bool = False
    order: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """`change`, `principal` and `update_time` say what made the present version, who and when."""

    bot: str
    id: str
    uid: str
    content: BlockContent
    create_time: datetime
    update_time: datetime
    version: int = 1
    change: ChangeKind = ChangeKind.PUT
    principal: str = ""

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/blocks/{self.id}"

    @property
    def etag(self) -> str:
        return make_etag(self.uid, self.version)


@dataclass(frozen=True, slots=True)
class BlockPatch:
    """The values to write; None leaves what is there, or the default in a new block."""

    text: str | None = None
    description: str | None = None
    max_characters: int | None = None
    read_only: bool | None = None
    order: int | None = None

    def applied_to(self, content: BlockContent) -> BlockContent:
        return BlockContent(
            text=content.text if self.text is None else self.text,
            description=content.description if self.description is None else self.description,
            max_characters=content.max_characters if self.max_characters is None else self.max_characters,
            read_only=content.read_only if self.read_only is None else self.read_only,
            order=content.order if self.order is None else self.order,
        )


def check_length(name: str, content: BlockContent) -> None:
    if len(content.text) > content.max_characters:
        raise BlockTextTooLong(name, len(content.text), content.max_characters)


def check_etag(block: Block, etag: str) -> None:
    if etag and etag != block.etag:
        raise EtagMismatch(block.name, etag)


def check_writable(name: str, before: BlockContent, after: BlockContent | None, *, trusted: bool) -> None:
    """Bots change no read-only block, nor whether one is; `after` is None when it is to be removed."""
    if not trusted and (before.read_only or (after is not None and after.read_only)):
        raise BlockReadOnly(name)


def put(block: Block, content: BlockContent, by: str, now: datetime) -> Block:
    """The block with other content; the very same object when nothing differs."""
    check_length(block.name, content)
    if content == block.content:
        return block
    return replace(
        block,
        content=content,
        version=block.version + 1,
        change=ChangeKind.UPDATE,
        principal=by,
        update_time=now,
    )
