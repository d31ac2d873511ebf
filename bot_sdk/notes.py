"""What a run leaves with the router for its next attempts: short notes, durable when their receipts have come.

The log remembers what a run did and said. A note is for what is no part of the conversation, but must survive the
worker: that a person's answer has been made use of.
"""

import asyncio
from collections.abc import Iterator

from bot_sdk.errors import LeaseLost
from bot_sdk.model import Lease
from chassis import errors
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2

_Name = tuple[str, int, str]


class Notes:
    """Belongs to the attachment, which sends what `fill` puts into its frames."""

    def __init__(self) -> None:
        self._untold: dict[_Name, None] = {}
        self._waiting: dict[_Name, asyncio.Future[None]] = {}

    async def write(self, lease: Lease, note: str) -> None:
        """Returns when the note (at most 128 characters) is durable.

        Raises:
            LeaseLost: another attempt has the run.
            chassis.errors.AppError: the router refuses it, for example because the run has left too many.
        """
        name = (lease.run, lease.epoch, note)
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = asyncio.get_running_loop().create_future()
            self._untold[name] = None
        await asyncio.shield(waiting)

    def fill(self, frame: router_service_pb2.AttachRequest) -> None:
        for run, epoch, note in self._untold:
            frame.steps.add(run=run, epoch=epoch, step=note, effect=event_pb2.TOOL_EFFECT_IDEMPOTENT)
        self._untold.clear()

    def answered(self, receipt: message_pb2.StepReceipt, refusal: errors.AppError | None) -> None:
        waiting = self._waiting.pop((receipt.run, receipt.epoch, receipt.step), None)
        if waiting is None or waiting.done():
            return
        if refusal is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(refusal if refusal.reason != "LEASE_LOST" else LeaseLost(refusal.message))

    def attached(self) -> None:
        """A new stream knows nothing of what the last one may have lost."""
        self._untold = dict.fromkeys(self._waiting)

    def tell_again(self, run: str, epoch: int) -> None:
        """The router could not write what it was told of this lease."""
        self._untold.update(dict.fromkeys(self._of(run, epoch)))

    def forget(self, run: str, epoch: int) -> None:
        """The lease is over."""
        for name in list(self._of(run, epoch)):
            self._untold.pop(name, None)
            waiting = self._waiting.pop(name)
            if not waiting.done():
                waiting.set_exception(LeaseLost("the lease is over"))
                waiting.exception()  # whether or not anybody still waits

    def _of(self, run: str, epoch: int) -> Iterator[_Name]:
        return (name for name in self._waiting if name[:2] == (run, epoch))
