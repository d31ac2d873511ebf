"""The worker's one stream to the router: deliveries in, results out, attached again whenever it breaks.

Results gather while a frame is on its way and leave together. A result counts as delivered only when the router has
settled it: until then its run stays among the held leases, and the result is sent again over the next stream.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc.aio
from google.rpc import code_pb2

from bot_sdk import convert
from bot_sdk.backoff import Backoff
from bot_sdk.errors import WorkerReplaced
from bot_sdk.model import Lease
from bot_sdk.notes import Notes
from bot_sdk.stubs import Stubs, failure_of
from bot_sdk.taking import TakenIn
from chassis import errors, status
from mobot.router.v1 import message_pb2, router_service_pb2

CONTRACT_VERSION = "v1"
BEGUN_DELAY_S = 0.02
_MAX_RESULTS_PER_FRAME = 500
_STEADY_S = 5.0
_ENDED = "STREAM_ENDED"

# A result that was refused so is given again: the router could not write, and the lease lives on.
_NOT_WRITTEN = frozenset({code_pb2.DEADLINE_EXCEEDED, code_pb2.RESOURCE_EXHAUSTED, code_pb2.UNAVAILABLE})

# What no waiting mends: a wrong token, a malformed hello, a router of another contract.
_FATAL = (errors.Unauthenticated, errors.PermissionDenied, errors.InvalidArgument, errors.Unimplemented)

_log = logging.getLogger("mobot.sdk.attachment")

Result = message_pb2.Completion | message_pb2.Failure
Call = grpc.aio.StreamStreamCall[router_service_pb2.AttachRequest, router_service_pb2.AttachResponse]


class Attached(Protocol):
    """Who works on what the stream brings."""

    def held(self) -> Sequence[tuple[str, int]]:
        """Run and epoch of every run that is worked on or waits for its settlement."""

    def deliver(self, delivery: message_pb2.Delivery) -> None: ...

    def cancel(self, run: str, epoch: int, reason: str) -> None: ...

    def lose(self, run: str, epoch: int, reason: str) -> None:
        """The lease is lost: the run must write nothing more."""

    def steer(self, steering: message_pb2.Steering) -> None: ...

    def settled(self, run: str, epoch: int) -> None:
        """The run needs nothing more of this worker."""


class Attachment:
    """`run` keeps the stream; its owner is the worker."""

    def __init__(
        self, stubs: Stubs, worker: str, attached: Attached, *, credit: int, bots: Callable[[], list[str]]
    ) -> None:
        """`bots` tells the names of the bots to serve now; with none the stream stays closed."""
        self._stubs = stubs
        self._worker = worker
        self._attached = attached
        self._credit = credit
        self._bots = bots
        self._unsettled: dict[tuple[str, int], Result] = {}
        self._results: dict[tuple[str, int], Result] = {}
        self._begun: dict[tuple[str, int], None] = {}
        self._begun_due = False
        self._again = Backoff()
        self._taken = TakenIn()
        self._notes = Notes()
        self._extensions: list[message_pb2.Extension] = []
        self._draining = False
        self._drain_told = False
        self._bots_told: list[str] = []
        self._open = False
        self._wake = asyncio.Event()
        self._bots_changed = asyncio.Event()
        self.attached = asyncio.Event()
        """Set while the router has welcomed this worker."""
        self._idle = asyncio.Event()
        self._idle.set()

    def give(self, lease: Lease, result: Result) -> None:
        """Hands in how a run ended; sent until the router has settled it."""
        key = (lease.run, lease.epoch)
        self._unsettled[key] = result
        self._idle.clear()
        self._begun.pop(key, None)
        if self._open:
            self._results[key] = result
            self._wake.set()

    def begin(self, lease: Lease) -> None:
        """A run has begun. Told a moment later, because most quick runs have ended by then and need no word of it."""
        self._begun[lease.run, lease.epoch] = None
        if not self._begun_due:
            self._begun_due = True
            asyncio.get_running_loop().call_later(BEGUN_DELAY_S, self._tell_begun)

    def take_in(self, lease: Lease, run: str) -> None:
        """The running turn of a lease has taken the steered message with this run in: it ends as the turn ends."""
        self._taken.add(lease, run)
        self._wake.set()

    async def all_taken_in(self, lease: Lease) -> None:
        """Returns when the router has on disk what the turn took in."""
        await self._taken.durable(lease)

    async def note(self, lease: Lease, note: str) -> None:
        """Leaves a note for later attempts of the run; see `Notes.write`."""
        self._wake.set()
        await self._notes.write(lease, note)

    def extend(self, extension: message_pb2.Extension) -> None:
        self._extensions.append(extension)
        self._wake.set()

    def bots_changed(self) -> None:
        """The bots to serve are others now."""
        self._bots_changed.set()
        self._wake.set()

    def drain(self) -> None:
        """Takes no more deliveries from now on."""
        self._draining = True
        self._wake.set()

    async def all_settled(self) -> None:
        """Returns when no result waits for its settlement."""
        await self._idle.wait()

    async def run(self) -> None:
        """Attaches, and attaches again, until it is cancelled.

        Raises:
            WorkerReplaced: another process attached under the same worker id.
            chassis.errors.AppError: the router refuses this worker for good.
        """
        backoff = Backoff()
        while True:
            # A worker that drains attaches again only to give what it still owes.
            while not self._bots() or (self._draining and not self._attached.held()):
                self._bots_changed.clear()
                await self._bots_changed.wait()
            opened_at = time.monotonic()
            try:
                await self._attach()
            except errors.AppError as error:
                if error.reason == "WORKER_REPLACED":
                    raise WorkerReplaced(error.message) from error
                if isinstance(error, _FATAL):
                    raise
                if not (self._draining and error.reason == _ENDED):
                    _log.warning("detached from the router", extra={"reason": error.reason or error.code})
                if time.monotonic() - opened_at > _STEADY_S:
                    backoff.reset()
                await asyncio.sleep(backoff.next_s(error.retry_after_s))

    async def _attach(self) -> None:
        call = self._stubs.router.Attach()
        writer: asyncio.Task[None] | None = None
        try:
            await call.write(self._hello())
            async for frame in call:
                if frame.HasField("welcome"):
                    self._welcomed(frame.welcome)
                    writer = asyncio.get_running_loop().create_task(self._write(call), name="attachment writer")
                self._read(frame)
            raise errors.Unavailable("the router ended the stream", reason=_ENDED)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        except asyncio.InvalidStateError as error:
            raise await failure_of(call) from error
        finally:
            self._open = False
            self.attached.clear()
            self._results.clear()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            call.cancel()

    def _hello(self) -> router_service_pb2.AttachRequest:
        self._bots_changed.clear()
        self._bots_told = self._bots()
        self._drain_told = False
        held = [message_pb2.HeldLease(run=run, epoch=epoch) for run, epoch in self._attached.held()]
        return router_service_pb2.AttachRequest(
            hello=router_service_pb2.AttachHello(
                worker=self._worker,
                bots=self._bots_told,
                credit=self._credit,
                held_leases=held,
                contract_version=CONTRACT_VERSION,
            )
        )

    def _welcomed(self, welcome: router_service_pb2.AttachWelcome) -> None:
        for lost in welcome.lost_leases:
            self._forget((lost.run, lost.epoch))
            self._attached.lose(lost.run, lost.epoch, "the lease ended while the worker was away")
        self._results = dict(self._unsettled)
        self._taken.attached()
        self._notes.attached()
        self._open = True
        self.attached.set()
        self._wake.set()
        _log.info(
            "attached to the router",
            extra={"bots": len(self._bots_told), "confirmed": len(welcome.confirmed_leases)},
        )

    def _read(self, frame: router_service_pb2.AttachResponse) -> None:
        for settlement in frame.settlements:
            self._settle(settlement)
        for cancellation in frame.cancellations:
            if cancellation.lease_lost:
                self._forget((cancellation.run, cancellation.epoch))
                self._attached.lose(cancellation.run, cancellation.epoch, cancellation.reason)
            else:
                self._attached.cancel(cancellation.run, cancellation.epoch, cancellation.reason)
        for delivery in frame.deliveries:
            self._attached.deliver(delivery)
        for steering in frame.steerings:
            self._attached.steer(steering)
        for receipt in frame.step_receipts:
            self._remembered(receipt)

    def _remembered(self, receipt: message_pb2.StepReceipt) -> None:
        refusal = receipt.refusal if receipt.HasField("refusal") else None
        if refusal is not None and refusal.code in _NOT_WRITTEN:
            self._later(refusal, self._tell_steps_again, (receipt.run, receipt.epoch))
            return
        self._taken.answered(receipt)
        self._notes.answered(receipt, None if refusal is None else convert.to_error(refusal, dict(refusal.metadata)))
        self._wake.set()

    def _settle(self, settlement: message_pb2.Settlement) -> None:
        key = (settlement.run, settlement.epoch)
        if settlement.HasField("refusal"):
            refusal = settlement.refusal
            _log.warning("result refused", extra={"run": settlement.run, "reason": refusal.reason or refusal.code})
            if refusal.code in _NOT_WRITTEN and key in self._unsettled:
                self._later(refusal, self._give_again, key)
                return
        else:
            self._again.reset()
        self._forget(key)
        self._attached.settled(settlement.run, settlement.epoch)

    def _later(
        self, refusal: message_pb2.Refusal, tell: Callable[[tuple[str, int]], None], key: tuple[str, int]
    ) -> None:
        delay_s = self._again.next_s(refusal.retry_delay.ToNanoseconds() / 1e9)
        asyncio.get_running_loop().call_later(delay_s, self._tell, tell, key)

    def _tell(self, tell: Callable[[tuple[str, int]], None], key: tuple[str, int]) -> None:
        tell(key)
        self._wake.set()

    def _tell_steps_again(self, key: tuple[str, int]) -> None:
        self._taken.tell_again(key)
        self._notes.tell_again(*key)

    def _give_again(self, key: tuple[str, int]) -> None:
        result = self._unsettled.get(key)
        if result is not None and self._open:  # else it goes with the next stream
            self._results[key] = result

    def _forget(self, key: tuple[str, int]) -> None:
        self._unsettled.pop(key, None)
        self._results.pop(key, None)
        self._begun.pop(key, None)
        self._taken.forget(key)
        self._notes.forget(*key)
        if not self._unsettled:
            self._idle.set()

    def _tell_begun(self) -> None:
        self._begun_due = False
        if self._begun:
            self._wake.set()

    async def _write(self, call: Call) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                # Turns that end in this round of the loop share the frame.
                await asyncio.sleep(0)
                while (frame := self._frame()) is not None:
                    await call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader sees why the stream ended

    def _frame(self) -> router_service_pb2.AttachRequest | None:
        frame = router_service_pb2.AttachRequest()
        for key in list(self._results)[:_MAX_RESULTS_PER_FRAME]:
            result = self._results.pop(key)
            if isinstance(result, message_pb2.Completion):
                frame.completions.append(result)
            else:
                frame.failures.append(result)
        if not self._begun_due and self._begun:
            frame.begun.extend(message_pb2.HeldLease(run=run, epoch=epoch) for run, epoch in self._begun)
            self._begun.clear()
        self._taken.fill(frame)
        self._notes.fill(frame)
        if self._extensions:
            frame.extensions.extend(self._extensions)
            self._extensions.clear()
        if self._bots_changed.is_set():
            self._bots_changed.clear()
            bots = self._bots()
            # An empty list would say "no change": with no bot left the worker drains instead.
            if bots and bots != self._bots_told:
                frame.bots.extend(bots)
                self._bots_told = bots
        if self._draining and not self._drain_told:
            frame.drain = self._drain_told = True
        return frame if frame.ByteSize() else None
