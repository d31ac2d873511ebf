"""A long work on one bot's memory: what it is, where it stands, and when it may be cancelled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from memory_service.domain.errors import OperationNotCancellable


class OperationKind(IntEnum):
    ERASE = 1
    REINDEX = 2


class OperationState(IntEnum):
    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


UNFINISHED = (OperationState.PENDING, OperationState.RUNNING)


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """Why an attempt failed; `code` is the canonical name, such as "UNAVAILABLE"."""

    code: str
    reason: str
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """`arguments` are what was asked for, `progress` is the worker's own note of where it stands, `result` what came of
    it: JSON objects, whose keys the worker of the kind knows. `owner` is the process that works on it."""

    key: int
    bot: str
    id: str
    kind: OperationKind
    state: OperationState
    create_time: datetime
    update_time: datetime
    principal: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    done_count: int = 0
    total_count: int = 0
    phase: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    attempt_count: int = 0
    failure_count: int = 0
    error: OperationFailure | None = None
    owner: str = ""

    @property
    def name(self) -> str:
        return f"bots/{self.bot}/operations/{self.id}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED


def check_cancellable(operation: Operation) -> None:
    """A re-index may be cancelled until its end, an erasure until it begins to erase."""
    begun = operation.kind is OperationKind.ERASE and operation.state is OperationState.RUNNING
    if begun or not operation.is_unfinished:
        raise OperationNotCancellable(operation.name, operation.state.name)
