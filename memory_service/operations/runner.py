"""The runner of operations: it takes up what is on record and works on it, a piece of each in turn, until it is done.

Everything it knows is in the database, so that a restart goes on where the last commit was.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from chassis.clock import Clock
from chassis.errors import AppError
from chassis.waiting import within
from memory_service.domain.errors import OperationStopped
from memory_service.domain.operation import Operation, OperationFailure, OperationKind
from memory_service.store.operation_store import OperationStore
from memory_service.store.transaction import Transaction

MAX_FAILURES = 20
"""How many failed attempts an operation survives; restarts are none."""
_FIRST_RETRY = timedelta(seconds=1)
_LAST_RETRY = timedelta(minutes=1)

_log = logging.getLogger("mobot.memory")


class OperationWorker(Protocol):
    """Does the work of one kind of operation.

    A worker keeps nothing between pieces: what it has to know is in `Operation.arguments` and `Operation.progress`.
    """

    async def advance(self, operation: Operation) -> Operation:
        """Does one bounded piece (a second at most), and returns the operation as that left it.

        The piece and `operations.save_progress`, or at the end `operations.succeed`, are one transaction; when that
        raises OperationStopped, so does this. Any other AppError is a failed attempt, which is repeated later.
        """
        ...

    def undo(self, tx: Transaction, operation: Operation) -> None:
        """Takes back what the operation has begun, in the transaction that cancels it."""
        ...


class OperationMetrics:
    """How many operations have ended, and how."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "memory_operations_ended", "Operations that have ended.", ("kind", "state"), registry=registry
        )

    def note_end(self, operation: Operation) -> None:
        self._ended.labels(operation.kind.name, operation.state.name).inc()


class OperationRunner:
    """Belongs to the event loop on which it was started. `owner` tells this process from all others."""

    def __init__(
        self,
        store: OperationStore,
        workers: Mapping[OperationKind, OperationWorker],
        *,
        owner: str,
        clock: Clock,
        poll_s: float = 5.0,
        on_ended: Callable[[Operation], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._owner = owner
        self._clock = clock
        self._poll_s = poll_s
        self._on_ended = on_ended
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="memory-operations")

    def ring(self) -> None:
        """There is something to do. Nothing is lost without it; it only begins sooner."""
        self._bell.set()

    async def close(self) -> None:
        """Stops between two pieces, or in one, which is then done again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_pieces(self) -> bool:
        """Does a piece of each operation that is due; says whether there was any."""
        due = [each for each in await self._store.find_due(self._owner) if each.kind in self._workers]
        worked = False
        for operation in due:
            worked = await self._work(operation) or worked
        return worked

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                worked = await self.run_pieces()
            except AppError as error:  # the database is away; what is due stays due
                _log.warning("operations wait", extra={"reason": error.reason, "code": error.code})
                worked = False
            if not worked:
                await within(self._poll_s, self._bell.wait())

    async def _work(self, found: Operation) -> bool:
        operation: Operation | None = found
        if found.owner != self._owner:
            operation = await self._store.take_up(found, self._owner)
            if operation is None:
                return False
            _log.info("operation taken up", extra=_told(operation))
        assert operation is not None
        try:
            operation = await self._workers[operation.kind].advance(operation)
        except OperationStopped:
            _log.info("operation stopped", extra=_told(operation))
            return False  # there is nothing to hurry for
        except AppError as error:
            await self._fail(operation, OperationFailure(error.code, error.reason, str(error.message)))
            return True
        except Exception as error:  # noqa: BLE001 - a defect in one operation must not hold up all others
            _log.exception("operation raised", extra=_told(operation))
            await self._fail(operation, OperationFailure("INTERNAL", "INTERNAL_ERROR", type(error).__name__))
            return True
        if not operation.is_unfinished:
            _log.info("operation ended", extra=_told(operation))
            self._on_ended(operation)
        return True

    async def _fail(self, operation: Operation, failure: OperationFailure) -> None:
        failures = operation.failure_count + 1
        delay = min(_LAST_RETRY, _FIRST_RETRY * 2 ** min(failures - 1, 10))
        retry_time = self._clock.now() + delay if failures < MAX_FAILURES else None
        after = await self._store.note_failure(operation, failure, retry_time)
        _log.warning(
            "operation failed" if retry_time is None else "operation is tried again",
            extra=_told(operation) | {"reason": failure.reason, "code": failure.code, "failures": failures},
        )
        if after is not None and not after.is_unfinished:
            self._on_ended(after)


def _told(operation: Operation) -> dict[str, object]:
    return {
        "operation": operation.name,
        "kind": operation.kind.name,
        "state": operation.state.name,
        "phase": operation.phase,
        "done": operation.done_count,
        "attempt": operation.attempt_count,
    }
