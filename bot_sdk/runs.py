"""The runs this worker has: each is one task around a handler, ended in exactly one way."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Protocol, runtime_checkable

from bot_sdk import convert
from bot_sdk.appends import AppendQueue
from bot_sdk.attachment import Attachment, Result
from bot_sdk.deltas import DeltaPublisher
from bot_sdk.errors import LeaseLost, NeedsDecision, Retryable, TurnFailed
from bot_sdk.meters import TurnMeters
from bot_sdk.model import BotProfile, Lease
from bot_sdk.stubs import TRANSIENT, Stubs
from bot_sdk.turn import Turn
from chassis import errors
from chassis.telemetry import CURRENT_TRACEPARENT
from mobot.router.v1 import message_pb2

Handler = Callable[[Turn], Awaitable[str | None]]


@runtime_checkable
class AfterReply(Protocol):
    """A handler that wants a word when a run has its committed reply, before the run is completed.

    It is called in every attempt that completes the run, also in one that finds the reply of an earlier attempt and
    does not call the handler.
    """

    async def after_reply(self, turn: Turn) -> None: ...


STOP_GRACE_S = 3.0
HANDLER_ERROR = "HANDLER_ERROR"
_NOT_SERVED_DELAY_S = 1.0

_log = logging.getLogger("mobot.sdk.runs")


class _Ending(Enum):
    CANCELLED = auto()
    HANDED_BACK = auto()
    LOST = auto()


class _Run:
    __slots__ = ("began", "cancels", "ending", "given", "handler", "handler_ended", "lease", "over", "task", "turn")

    def __init__(self, lease: Lease, turn: Turn, handler: Handler) -> None:
        self.lease = lease
        self.turn = turn
        self.handler = handler
        self.began = time.perf_counter()
        self.task: asyncio.Task[None] | None = None
        self.ending: _Ending | None = None
        self.cancels = 0
        self.handler_ended = False
        self.given = False
        self.over = False


class Runs:
    """Takes deliveries, works on them, and gives their results to the attachment."""

    def __init__(
        self,
        stubs: Stubs,
        appends: AppendQueue,
        deltas: DeltaPublisher,
        *,
        handlers: Mapping[str, Handler],
        profiles: Mapping[str, BotProfile],
        on_load: Callable[[], None],
        meters: TurnMeters,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        """`handlers` and `profiles` are by bot name and may change; `on_load` hears of bots that began or rest."""
        self._stubs = stubs
        self._appends = appends
        self._deltas = deltas
        self._handlers = handlers
        self._profiles = profiles
        self._on_load = on_load
        self._meters = meters
        self._stop_grace_s = stop_grace_s
        self._attachment: Attachment | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._runs: dict[str, _Run] = {}
        self._in_flight: dict[str, int] = {}
        self._working = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, tasks: asyncio.TaskGroup, attachment: Attachment) -> None:
        """`tasks` owns the runs' tasks; `attachment` takes their results."""
        self._tasks = tasks
        self._attachment = attachment

    def in_flight(self, bot: str) -> int:
        """Turns of the bot that are worked on now."""
        return self._in_flight.get(bot, 0)

    @property
    def working(self) -> int:
        return self._working

    async def all_ended(self) -> None:
        """Returns when no handler runs."""
        await self._idle.wait()

    def drain(self) -> None:
        """Begins no more turns: what was on its way to this worker goes back at once."""
        self._draining = True

    def hand_back(self) -> None:
        """Stops every turn and gives its message back, for another worker to go on with."""
        for run in list(self._runs.values()):
            self._stop(run, _Ending.HANDED_BACK)

    # Attached

    def held(self) -> Sequence[tuple[str, int]]:
        return [(run.lease.run, run.lease.epoch) for run in self._runs.values()]

    def deliver(self, delivery: message_pb2.Delivery) -> None:
        lease = convert.to_lease(delivery)
        known = self._runs.get(lease.run)
        if known is not None:
            if known.lease.epoch >= lease.epoch:
                return  # told twice
            self._stop(known, _Ending.LOST)
            self._drop(known)
        handler = self._handlers.get(lease.bot)
        assert self._attachment is not None
        assert self._tasks is not None
        if self._draining:
            self._attachment.give(lease, _handed_back(lease))
            return
        if handler is None:
            failure = _failure(lease, "BOT_NOT_SERVED", f"this worker does not serve {lease.bot} any more", True)
            failure.retry_delay.CopyFrom(convert.to_duration(_NOT_SERVED_DELAY_S))
            self._attachment.give(lease, failure)
            return
        turn = Turn(
            lease,
            convert.to_inbound(delivery.message, delivery.sequence),
            self._profiles.get(lease.bot) or BotProfile(lease.bot),
            stubs=self._stubs,
            appends=self._appends,
            deltas=self._deltas,
            collected=[convert.to_inbound(message) for message in delivery.collected],
            take_in=self._attachment.take_in,
            all_taken_in=self._attachment.all_taken_in,
            extend=self._attachment.extend,
            decision=convert.to_decision(delivery),
            note=self._attachment.note,
            meters=self._meters,
            notes=frozenset(step.step for step in delivery.steps),
        )
        run = _Run(lease, turn, handler)
        self._runs[lease.run] = run
        self._count(lease.bot, 1)
        self._attachment.begin(lease)
        run.task = self._tasks.create_task(self._work(run), name="turn")

    def cancel(self, run: str, epoch: int, reason: str) -> None:
        known = self._find(run, epoch)
        if known is not None:
            _log.info("turn cancelled", extra={"run": run, "reason": reason})
            self._stop(known, _Ending.CANCELLED)

    def lose(self, run: str, epoch: int, reason: str) -> None:
        known = self._find(run, epoch)
        if known is not None:
            _log.warning("lease lost", extra={"run": run, "epoch": epoch, "reason": reason})
            self._stop(known, _Ending.LOST)
            if known.given:
                self._drop(known)

    def steer(self, steering: message_pb2.Steering) -> None:
        known = self._find(steering.run, steering.epoch)
        if known is not None and not known.over:
            known.turn.steer(convert.to_inbound(steering.message, steering.sequence))

    def settled(self, run: str, epoch: int) -> None:
        known = self._find(run, epoch)
        if known is not None and known.given:
            self._drop(known)

    def _find(self, run: str, epoch: int) -> _Run | None:
        known = self._runs.get(run)
        return known if known is not None and known.lease.epoch == epoch else None

    def _drop(self, run: _Run) -> None:
        if self._runs.get(run.lease.run) is run:
            del self._runs[run.lease.run]

    def _stop(self, run: _Run, ending: _Ending) -> None:
        """Ends a turn before its handler is through. Losing the lease overrides every other end."""
        if run.over or (run.ending is not None and ending is not _Ending.LOST):
            return
        run.ending = ending
        if ending is _Ending.CANCELLED:
            run.turn.cancelled.set()
        else:
            run.turn.answer.close()
        assert run.task is not None
        run.cancels += 1
        run.task.cancel()
        asyncio.get_running_loop().call_later(self._stop_grace_s, self._abandon, run)

    async def _work(self, run: _Run) -> None:
        if run.turn.message.traceparent:
            CURRENT_TRACEPARENT.set(run.turn.message.traceparent)
        while True:
            try:
                if run.ending is None:
                    result = await self._attempt(run)
                else:
                    run.handler_ended = True
                    result = await self._end(run)
            except asyncio.CancelledError as error:
                if run.task is None or run.task.cancelling() > run.cancels:
                    raise  # not by us: the worker itself is being taken down
                if run.ending is not None:
                    continue
                # Nobody cancelled this turn: the handler let a cancellation of something of its own pass.
                result = _failure_of(run.lease, error)
            break
        self._over(run, result)

    async def _attempt(self, run: _Run) -> Result | None:
        """Runs the handler. None when nothing is to be told, because the lease is lost."""
        turn, lease = run.turn, run.lease
        try:
            if lease.attempt > 1 and await turn.answer.is_committed():
                return await self._completed(run)
            await turn.answer.finish(await run.handler(turn))
            return await self._completed(run)
        except LeaseLost:
            _log.warning("turn fenced", extra={"run": lease.run, "epoch": lease.epoch})
            return None
        except Exception as error:  # noqa: BLE001 - a handler's failure ends one attempt, never the worker
            return _failure_of(lease, _cause(error))

    async def _completed(self, run: _Run) -> Result:
        if isinstance(run.handler, AfterReply) and await run.turn.answer.is_committed():
            await run.handler.after_reply(run.turn)
        return run.turn.answer.completion()

    async def _end(self, run: _Run) -> Result | None:
        """What is told of a turn that was stopped."""
        turn, lease = run.turn, run.lease
        if run.ending is _Ending.LOST:
            return None
        try:
            if await turn.answer.is_committed():
                return turn.answer.completion()
            if run.ending is _Ending.HANDED_BACK:
                return _handed_back(lease)
            await turn.answer.keep_partial()
        except LeaseLost:
            return None
        except errors.AppError as error:
            _log.warning("partial answer not kept", extra={"run": lease.run, "reason": error.reason or error.code})
        failure = _failure(lease, "CANCELLED", "the run was cancelled", False)
        failure.cancelled = True
        return failure

    def _abandon(self, run: _Run) -> None:
        """A handler that goes on although it was cancelled is left alone; its turn takes no more from it."""
        if run.over or run.handler_ended or self._tasks is None:
            return
        _log.warning("handler ignores its cancellation", extra={"run": run.lease.run})
        run.turn.answer.close()
        self._tasks.create_task(self._end_without_handler(run), name="abandoned turn")

    async def _end_without_handler(self, run: _Run) -> None:
        self._over(run, await self._end(run))

    def _over(self, run: _Run, result: Result | None) -> None:
        if run.over:
            return
        run.over = True
        run.turn.answer.close()
        self._count(run.lease.bot, -1)
        reason = result.error.reason if isinstance(result, message_pb2.Failure) else ""
        outcome = _outcome(run, result)
        failed = outcome in ("failed", "retryable")
        self._meters.turn_ended(outcome, time.perf_counter() - run.began, reason=reason if failed else "")
        if result is None:
            self._drop(run)
            return
        run.given = True
        assert self._attachment is not None
        self._attachment.give(run.lease, result)

    def _count(self, bot: str, change: int) -> None:
        before = self._in_flight.get(bot, 0)
        self._in_flight[bot] = before + change
        self._working += change
        if not self._working:
            self._idle.set()
        else:
            self._idle.clear()
        if not before or not self._in_flight[bot]:
            self._on_load()


def _outcome(run: _Run, result: Result | None) -> str:
    """How an attempt ended, as it is counted."""
    if result is None:
        return "lost"
    if isinstance(result, message_pb2.Completion):
        return "succeeded"
    if result.cancelled:
        return "cancelled"
    if result.HasField("decision_request"):
        return "asked"
    if run.ending is _Ending.HANDED_BACK:
        return "handed_back"
    return "retryable" if result.retryable else "failed"


def _cause(error: Exception) -> BaseException:
    """What a group of one is about: tasks that a handler runs side by side fail as a group."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause


def _failure_of(lease: Lease, error: BaseException) -> message_pb2.Failure:
    where = {"run": lease.run, "attempt": lease.attempt}
    retry_after_s: float | None = None
    if isinstance(error, TurnFailed):
        _log.info("turn failed", extra={**where, "reason": error.reason})
        failure = _failure(lease, error.reason, error.message, isinstance(error, Retryable))
        if isinstance(error, Retryable):
            retry_after_s = error.retry_after_s
        if isinstance(error, NeedsDecision):
            failure.decision_request.question = error.message
            failure.decision_request.choices.extend(error.choices)
            failure.decision_request.call_id = error.call_id
    elif isinstance(error, errors.AppError):
        reason = error.reason or error.code
        _log.warning("turn failed", extra={**where, "reason": reason})
        failure = _failure(lease, reason, error.message, isinstance(error, TRANSIENT))
        retry_after_s = error.retry_after_s
    else:
        _log.error("handler raised", extra=where, exc_info=error)
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failure = _failure(lease, HANDLER_ERROR, text[:500], True)
    if retry_after_s is not None:
        failure.retry_delay.CopyFrom(convert.to_duration(retry_after_s))
    return failure


def _handed_back(lease: Lease) -> message_pb2.Failure:
    """The message goes to the next worker at once."""
    failure = _failure(lease, "WORKER_DRAINING", "the worker is stopping", True)
    failure.retry_delay.CopyFrom(convert.to_duration(0))
    return failure


def _failure(lease: Lease, reason: str, message: str, retryable: bool) -> message_pb2.Failure:
    return message_pb2.Failure(
        run=lease.run, epoch=lease.epoch, error=convert.error_of_run(reason, message), retryable=retryable
    )
