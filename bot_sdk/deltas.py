"""The live text of all running turns of this process, over one PublishDeltas stream.

A turn never waits here. Its draft keeps the whole text, and what is not sent yet is joined into the next frame, at
most `interval_s` later; so a slow stream makes pieces larger, not queues longer. After a broken stream every running
draft starts again with its whole text.
"""

import asyncio
import logging
import time

import grpc.aio

from bot_sdk.backoff import Backoff
from bot_sdk.model import Lease
from bot_sdk.stubs import Stubs
from mobot.session.v1 import event_pb2, session_service_pb2

INTERVAL_S = 0.03
MAX_DRAFT_CHARS = 1_000_000
_MAX_PIECE_CHARS = 16_000  # a piece is at most 64 KiB, and a code point at most 4 bytes
_MAX_FRAME_CHARS = 250_000
_STEADY_S = 5.0  # a stream that lived this long was a good one: the next failure starts with a short wait

_log = logging.getLogger("mobot.sdk.deltas")


class Draft:
    """The text of one assistant message while it is being written. `step` counts the messages of the run from 0."""

    __slots__ = ("_kept", "_lease", "_replace", "_sent_chars", "_unsent", "_unsent_chars", "step")

    def __init__(self, lease: Lease, step: int = 0) -> None:
        self.step = step
        self._lease = lease
        self._kept: list[str] = []
        self._unsent: list[str] = []
        self._unsent_chars = 0
        self._sent_chars = 0
        # Watchers may still show what an earlier attempt wrote.
        self._replace = lease.attempt > 1

    @property
    def text(self) -> str:
        return "".join(self._kept)

    @property
    def has_unsent(self) -> bool:
        return self._unsent_chars > 0

    def write(self, piece: str) -> bool:
        """Adds a piece; False when the draft is as long as drafts may be, and the piece was dropped."""
        if self._sent_chars + self._unsent_chars + len(piece) > MAX_DRAFT_CHARS:
            return False
        self._kept.append(piece)
        self._unsent.append(piece)
        self._unsent_chars += len(piece)
        return True

    def start_again(self) -> None:
        """What was sent may not have arrived: sends everything once more, as a replacement."""
        if self._kept:
            self._unsent = [self.text]
            self._unsent_chars = len(self._unsent[0])
            self._sent_chars = 0
            self._replace = True

    def take(self) -> list[event_pb2.Delta]:
        """What was not sent yet."""
        unsent = "".join(self._unsent)
        deltas = []
        for start in range(0, len(unsent), _MAX_PIECE_CHARS):
            piece = unsent[start : start + _MAX_PIECE_CHARS]
            deltas.append(
                event_pb2.Delta(
                    session=self._lease.session,
                    run=self._lease.run,
                    offset=self._sent_chars,
                    text=piece,
                    replace=self._replace,
                    kind=event_pb2.DELTA_KIND_TEXT,
                    epoch=self._lease.epoch,
                    step=self.step,
                )
            )
            self._sent_chars += len(piece)
            self._replace = False
        self._unsent.clear()
        self._unsent_chars = 0
        return deltas


class DeltaPublisher:
    """`run` must be running for anything to be sent; its owner is the worker."""

    def __init__(self, stubs: Stubs, *, interval_s: float = INTERVAL_S) -> None:
        self._stubs = stubs
        self._interval_s = interval_s
        self._drafts: set[Draft] = set()
        self._dirty: dict[Draft, None] = {}
        self._wake = asyncio.Event()

    def touch(self, draft: Draft) -> None:
        """The draft has something to send."""
        self._drafts.add(draft)
        self._dirty[draft] = None
        self._wake.set()

    def forget(self, draft: Draft) -> None:
        """The draft was committed or given up; what was not sent is superseded."""
        self._drafts.discard(draft)
        self._dirty.pop(draft, None)

    async def run(self) -> None:
        """Sends until it is cancelled. The stream is opened with the first delta."""
        backoff = Backoff()
        while True:
            await self._wake.wait()
            opened_at = time.monotonic()
            call = self._stubs.session.PublishDeltas()
            try:
                await self._publish(call)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                _log.info("delta stream broken", extra={"cause": type(error).__name__})
            finally:
                call.cancel()
            for draft in self._drafts:
                draft.start_again()
                if draft.has_unsent:
                    self._dirty[draft] = None
            if time.monotonic() - opened_at > _STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _publish(
        self,
        call: grpc.aio.StreamUnaryCall[
            session_service_pb2.PublishDeltasRequest, session_service_pb2.PublishDeltasResponse
        ],
    ) -> None:
        while not call.done():
            await self._wake.wait()
            while frame := self._take():
                await call.write(session_service_pb2.PublishDeltasRequest(deltas=frame))
            self._wake.clear()
            # The pace of the frames, not a synchronisation: words that come meanwhile travel together.
            await asyncio.sleep(self._interval_s)

    def _take(self) -> list[event_pb2.Delta]:
        frame: list[event_pb2.Delta] = []
        chars = 0
        while self._dirty and chars < _MAX_FRAME_CHARS:
            draft = next(iter(self._dirty))
            del self._dirty[draft]
            for delta in draft.take():
                frame.append(delta)
                chars += len(delta.text)
        return frame
