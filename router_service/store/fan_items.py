"""Items that make several messages or children at once: spawns, publications and schedules that are due."""

from dataclasses import dataclass, field

from router_service.domain.mail import NewMessage
from router_service.domain.spawning import NewSpawn, OpenSpawn
from router_service.domain.state import MessageState
from router_service.store.items import Item
from router_service.store.policies import Entry


@dataclass(slots=True, eq=False)
class PutSpawn(Item):
    """Puts the task of a child that was wished for into its mailbox; `done` is False when that was done before, or the
    wish was withdrawn."""

    spawn: OpenSpawn = field(kw_only=True)
    message: NewMessage = field(kw_only=True)
    created: bool = field(kw_only=True)
    done: bool = False


@dataclass(slots=True, eq=False)
class Publish(Item):
    """A copy of the message for every subscriber of the topic but its source, all or none."""

    message: NewMessage = field(kw_only=True)
    topic: str = field(kw_only=True)
    # The receipt.
    id: str = ""
    run: str = ""
    session: str = ""
    state: MessageState = MessageState.QUEUED
    duplicate: bool = False
    queue_position: int = 0
    fan_out: int = 0


@dataclass(slots=True, eq=False)
class Fire(Item):
    """Sends what a schedule owes, if nobody has done so since `expected_us` was read as its next time.

    `refused` are the reasons of what was not accepted, such as MAILBOX_FULL: those times are left out.
    """

    schedule: str = field(kw_only=True)
    version: int = field(kw_only=True)
    expected_us: int = field(kw_only=True)
    next_us: int | None = field(kw_only=True)
    sends: tuple[NewMessage, ...] = ()
    publications: tuple[Publish, ...] = ()
    spawns: tuple[NewSpawn, ...] = ()
    done: bool = False
    refused: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Record(Item):
    """Puts on record what was done by `about`, if it did something."""

    entry: Entry = field(kw_only=True)
    about: Item = field(kw_only=True)


FAN_ITEMS = (PutSpawn, Publish, Fire, Record)
