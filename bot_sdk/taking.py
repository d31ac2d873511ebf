"""Steered messages that running turns have taken in, told to the router until it has that on disk.

A turn that answers a message it took in must not do so before the router knows: were the worker to die in between, the
message would get a turn of its own as well, and a second answer. So what is taken in goes out with a step of the run
behind it, whose receipt says that all before it is durable; a stream that breaks before the receipt is told both again.
"""

import asyncio
from dataclasses import dataclass, field

from bot_sdk.model import Lease
from mobot.router.v1 import message_pb2, router_service_pb2
from mobot.session.v1 import event_pb2

STEP = "mobot.taken-in"
"""The step's name. It is one and the same for all of a run: the router answers a repetition too."""

Key = tuple[str, int]


@dataclass(slots=True)
class _Taken:
    """Of one lease: runs that are to be told, runs that were told and not answered, and who waits for all of them."""

    untold: list[str]
    told: list[str] = field(default_factory=list)
    durable: asyncio.Event = field(default_factory=asyncio.Event)


class TakenIn:
    """Belongs to the attachment, which sends what `fill` puts into its frames."""

    def __init__(self) -> None:
        self._leases: dict[Key, _Taken] = {}

    def add(self, lease: Lease, run: str) -> None:
        """The turn of the lease has taken in the steered message with this run."""
        taken = self._leases.get((lease.run, lease.epoch))
        if taken is None:
            self._leases[lease.run, lease.epoch] = _Taken([run])
        else:
            taken.untold.append(run)

    async def durable(self, lease: Lease) -> None:
        """Returns when the router has all that the turn of the lease took in, or when the lease is over."""
        taken = self._leases.get((lease.run, lease.epoch))
        if taken is not None:
            await taken.durable.wait()

    def fill(self, frame: router_service_pb2.AttachRequest) -> None:
        for (run, epoch), taken in self._leases.items():
            if taken.told or not taken.untold:
                continue  # one question at a time, so that an answer says which
            taken.told, taken.untold = taken.untold, []
            frame.begun.extend(message_pb2.HeldLease(run=each, epoch=epoch) for each in taken.told)
            frame.steps.add(run=run, epoch=epoch, step=STEP, effect=event_pb2.TOOL_EFFECT_IDEMPOTENT)

    def answered(self, receipt: message_pb2.StepReceipt) -> None:
        """A refusal is an answer too: the lease is lost, or the steps are full and what stood before them was done."""
        taken = self._leases.get((receipt.run, receipt.epoch))
        if taken is None or receipt.step != STEP:
            return
        taken.told = []
        if not taken.untold:
            self.forget((receipt.run, receipt.epoch))

    def attached(self) -> None:
        """A new stream knows nothing of what the last one may have lost."""
        for key in self._leases:
            self.tell_again(key)

    def tell_again(self, key: Key) -> None:
        """The router could not write what it was told of this lease."""
        taken = self._leases.get(key)
        if taken is not None:
            taken.told, taken.untold = [], taken.told + taken.untold

    def forget(self, key: Key) -> None:
        """Nothing more is to be told of this lease."""
        taken = self._leases.pop(key, None)
        if taken is not None:
            taken.durable.set()
