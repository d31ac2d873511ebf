"""What one turn says: the draft it streams, the messages it commits, its one reply, and how the run is completed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bot_sdk import convert
from bot_sdk.appends import AppendQueue
from bot_sdk.deltas import DeltaPublisher, Draft
from bot_sdk.errors import LeaseLost
from bot_sdk.events import EventFactory, reply_id
from bot_sdk.model import Consumption, Entry, InboundMessage, Lease, Memory, Said
from chassis import errors
from mobot.router.v1 import message_pb2
from mobot.session.v1 import event_pb2

SKIP = "skip"
"""The reason to stop of a turn that chose not to reply: nothing is sent to who asked."""


class Answer:
    """Belongs to its turn; handlers reach it through `Turn`, the worker that ends the turn uses it directly."""

    def __init__(
        self,
        lease: Lease,
        message: InboundMessage,
        *,
        appends: AppendQueue,
        deltas: DeltaPublisher,
        earlier: Callable[[], Awaitable[Sequence[Entry]]],
        all_taken_in: Callable[[Lease], Awaitable[None]],
    ) -> None:
        """`earlier`: what earlier attempts of the run committed. `all_taken_in` returns when the router has on disk
        what the turn took in.
        """
        self.events = EventFactory(lease, message)
        self._lease = lease
        self._appends = appends
        self._deltas = deltas
        self._earlier = earlier
        self._all_taken_in = all_taken_in
        self._draft = Draft(lease)
        self._reply: asyncio.Future[int] | None = None
        self._text = ""
        self._used: Consumption | None = None
        self._stop_reason = ""
        self._skipped = False
        self._cited: dict[str, None] = {}
        self._enclosed: list[message_pb2.MessageDraft] = []
        self._closed = False

    # For the turn

    @property
    def streamed(self) -> str:
        """What was streamed since the last committed message."""
        return self._draft.text

    @property
    def replied(self) -> bool:
        return self._reply is not None

    def stream(self, piece: str) -> None:
        """Shows a piece to whoever watches; never waits."""
        self.check_open()
        if piece and self._draft.write(convert.clean(piece)):
            self._deltas.touch(self._draft)

    async def say(self, step: str, text: str | None) -> int:
        """Commits a message before the reply, what was streamed by default; returns its sequence."""
        said = self._draft.text if text is None else text
        sequence = await self.write([self.events.said(step, said)])
        self._deltas.forget(self._draft)
        self._draft = Draft(self._lease, self._draft.step + 1)
        return sequence

    async def reply(
        self,
        text: str | None = None,
        *,
        model: str = "",
        used: Consumption | None = None,
        stop_reason: str = "stop",
        cited_memories: Sequence[str] = (),
    ) -> int:
        """Commits the one reply of the run: see `Turn.reply`."""
        await self._all_taken_in(self._lease)  # else a death would have it answered again, in a turn of its own
        if self._reply is not None:
            raise RuntimeError("a turn replies once; use say() for messages before the reply")
        self._text = self._draft.text if text is None else text
        self._used = used
        self._stop_reason = stop_reason
        event = self.events.reply(
            self._text,
            model=model,
            used=used,
            stop_reason=stop_reason,
            cited_memories=tuple(dict.fromkeys((*cited_memories, *self._cited))),
        )
        self._reply = self.write([event])
        self._deltas.forget(self._draft)
        # A reply on its way is not taken back by a cancellation: half of the watchers might have seen it.
        return await asyncio.shield(self._reply)

    def skip(self, stop_reason: str) -> None:
        """There will be no reply, whatever the handler returns."""
        self.check_open()
        self._skipped = True
        self._stop_reason = stop_reason
        self._deltas.forget(self._draft)

    def cite(self, memories: Sequence[Memory]) -> None:
        """The reply names these memories as what it rests on."""
        self._cited.update(dict.fromkeys(memory.name for memory in memories))

    def enclose(self, draft: message_pb2.MessageDraft) -> None:
        """Mail that is accepted in the commit that completes the run."""
        self._enclosed.append(draft)

    def write(self, events: Sequence[event_pb2.Event]) -> asyncio.Future[int]:
        """Queues events of the session; the future gives the sequence of the last one after the commit."""
        self.check_open()
        committed = self._appends.append(self._lease, events)
        # Not every commit is waited for; what became of it must not be reported as forgotten.
        committed.add_done_callback(_retrieve)
        return committed

    def check_open(self) -> None:
        """Raises LeaseLost when the turn is over."""
        if self._closed:
            raise LeaseLost("the turn is over: nothing more can be written")

    # For the worker

    async def finish(self, text: str | None) -> None:
        """Replies with what the handler returned or streamed, if it has not replied."""
        if self._reply is None and not self._skipped and (text or self._draft.text):
            await self.reply(text or None)

    async def is_committed(self) -> bool:
        """Whether the reply is committed, by this attempt or an earlier one."""
        if self._reply is not None:
            try:
                await asyncio.shield(self._reply)
            except errors.AppError:
                return False
            return True
        if self._lease.attempt == 1:
            return False
        wanted = reply_id(self._lease.run)
        for entry in await self._earlier():
            if isinstance(entry, Said) and entry.event_id == wanted:
                self._text = entry.text
                self._stop_reason = "stop"
                return True
        return False

    async def keep_partial(self) -> None:
        """Commits what there is of an answer that was stopped."""
        text = self._draft.text
        if text and self._reply is None:
            event = self.events.reply(text, stop_reason="aborted", partial=True)
            await self._appends.append(self._lease, [event])

    def completion(self) -> message_pb2.Completion:
        """What the router is told when the turn went well."""
        completion = message_pb2.Completion(
            run=self._lease.run, epoch=self._lease.epoch, stop_reason=self._stop_reason or "stop"
        )
        if self._text and self._stop_reason != SKIP:
            completion.reply.extend(convert.text_parts(self._text))
        if self._used is not None:
            completion.usage.CopyFrom(convert.from_consumption(self._used))
        completion.outbox.extend(self._enclosed)
        return completion

    def close(self) -> None:
        """Nothing can be written or streamed from now on."""
        self._closed = True
        self._deltas.forget(self._draft)


def _retrieve(committed: asyncio.Future[int]) -> None:
    if not committed.cancelled():
        committed.exception()
