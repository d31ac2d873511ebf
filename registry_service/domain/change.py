"""The registry's log: one numbered entry for each thing that changed, from which watchers are told."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from registry_service.domain.bot import Bot
from registry_service.domain.selection import BotFilter
from registry_service.domain.status import BotStatus
from registry_service.domain.worker import Worker


class ChangeKind(StrEnum):
    BOT = "BOT"
    STATUS = "STATUS"
    BOT_REMOVED = "BOT_REMOVED"
    WORKER = "WORKER"
    WORKER_REMOVED = "WORKER_REMOVED"


@dataclass(frozen=True, slots=True)
class BotChanged:
    bot: Bot


@dataclass(frozen=True, slots=True)
class StatusChanged:
    bot: str
    status: BotStatus


@dataclass(frozen=True, slots=True)
class BotRemoved:
    bot: str


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    worker: Worker


@dataclass(frozen=True, slots=True)
class WorkerRemoved:
    worker: str


What: TypeAlias = BotChanged | StatusChanged | BotRemoved | WorkerChanged | WorkerRemoved


@dataclass(frozen=True, slots=True)
class Change:
    """`position` is the entry's number, dense and growing; 0 for what is part of a snapshot."""

    position: int
    time: datetime
    what: What


class Phase(StrEnum):
    """What a frame of a watch belongs to."""

    RESET = "RESET"
    SNAPSHOT = "SNAPSHOT"
    SNAPSHOT_END = "SNAPSHOT_END"
    CHANGES = "CHANGES"
    CHECKPOINT = "CHECKPOINT"


@dataclass(frozen=True, slots=True)
class Frame:
    """`position` is where to go on after it; None inside a snapshot."""

    phase: Phase
    changes: tuple[Change, ...] = ()
    position: int | None = None


@dataclass(frozen=True, slots=True)
class WatchOrder:
    """What a watcher wants. `after` is None for a snapshot; `window` and `max_batch` count changes."""

    selected: BotFilter
    after: int | None
    workers: bool
    window: int
    max_batch: int
    checkpoint_s: float
    fail_when_too_old: bool
