"""What waits to be written to one socket: bounded, in order, with deltas of one run joined while they wait."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway import frames

# Bookkeeping of a queued frame beside its bytes, so that a flood of tiny frames is bounded too.
_FRAME_OVERHEAD_BYTES = 128


class SlowConsumer(Exception):
    """The socket reads slower than events come; the numbers say by how much."""

    def __init__(self, queued_frames: int, queued_bytes: int) -> None:
        super().__init__(f"{queued_frames} frames with {queued_bytes} bytes wait")
        self.queued_frames = queued_frames
        self.queued_bytes = queued_bytes


@dataclass(frozen=True, slots=True)
class Event:
    """An event as broadcast: the payload is shared by all sockets. `run_id` keeps a run's frames in order."""

    name: str
    payload: bytes
    run_id: str = ""
    state_version: bytes | None = None


@dataclass(slots=True)
class StreamDelta:
    """A piece of a streamed answer, which clients hear twice: as `agent` (stream assistant) and as `chat` (delta).

    The heads hold the fields of each payload that do not depend on the text. `new_text` is the text since the
    piece before, `text` the whole answer so far; `replace` says that `text` does not continue what was sent.
    """

    run_id: str
    agent_head: Mapping[str, object]
    chat_head: Mapping[str, object]
    new_text: str
    text: str
    timestamp_ms: int
    replace: bool = False

    def to_payloads(self) -> tuple[bytes, bytes]:
        """The payloads of the agent event and of the chat event."""
        chat: dict[str, object] = {
            **self.chat_head,
            "state": "delta",
            "deltaText": self.new_text,
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": self.text}],
                "timestamp": self.timestamp_ms,
            },
        }
        data: dict[str, object] = {"text": self.text, "delta": self.new_text}
        if self.replace:
            chat["replace"] = True
            data["replace"] = True
        agent = {**self.agent_head, "stream": "assistant", "ts": self.timestamp_ms, "data": data}
        return frames.dump(agent), frames.dump(chat)

    def joined(self, later: "StreamDelta") -> "StreamDelta":
        """One piece that says what this and the later one say."""
        return replace(
            later,
            new_text=later.new_text if later.replace else self.new_text + later.new_text,
            replace=self.replace or later.replace,
        )


@dataclass(slots=True)
class _Waiting:
    """A queued delta: later ones of its run are joined to it until it is written.

    `payloads` are those serialised once for all sockets, until something is joined.
    """

    delta: StreamDelta
    payloads: tuple[bytes, bytes] | None
    size: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last item: close the socket once everything before it is written."""

    code: int
    reason: str


@dataclass(slots=True)
class Outbox:
    """The queue of one socket. `put*` never waits; `take` does."""

    max_frames: int
    max_bytes: int = frames.MAX_BUFFERED_BYTES
    queued_bytes: int = 0
    _queue: "deque[bytes | Event | _Waiting | Goodbye]" = field(default_factory=deque)
    _open_deltas: dict[str, _Waiting] = field(default_factory=dict)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _event_seq: int = 0
    _second_half: bytes | None = None

    @property
    def is_empty(self) -> bool:
        return not self._queue and self._second_half is None

    def put_response(self, frame: bytes) -> None:
        self._append(frame, len(frame))

    def put_event(self, event: Event) -> None:
        if event.run_id:
            # Whatever comes next of this run comes after this event: the waiting delta is complete.
            self._open_deltas.pop(event.run_id, None)
        self._append(event, len(event.payload))

    def put_delta(self, delta: StreamDelta, payloads: tuple[bytes, bytes]) -> None:
        """`payloads` are the delta serialised once for all sockets; used unless this socket is behind."""
        size = len(payloads[0]) + len(payloads[1])
        waiting = self._open_deltas.get(delta.run_id)
        if waiting is None:
            waiting = _Waiting(delta, payloads, size)
            self._append(waiting, size)
            self._open_deltas[delta.run_id] = waiting
            return
        waiting.delta = waiting.delta.joined(delta)
        waiting.payloads = None
        self.queued_bytes += size - waiting.size
        waiting.size = size

    def put_goodbye(self, goodbye: Goodbye) -> None:
        self._queue.append(goodbye)
        self._filled.set()

    async def take(self) -> bytes | Goodbye:
        """The next frame, complete. Waits until there is one."""
        while (item := self.take_waiting()) is None:
            self._filled.clear()
            await self._filled.wait()
        return item

    def take_waiting(self) -> bytes | Goodbye | None:
        """The next frame if there is one at this moment."""
        if self._second_half is not None:
            frame, self._second_half = self._second_half, None
            return frame
        if not self._queue:
            return None
        item = self._queue.popleft()
        return item if isinstance(item, Goodbye) else self._frame(item)

    def _frame(self, item: "bytes | Event | _Waiting") -> bytes:
        match item:
            case bytes():
                self.queued_bytes -= len(item) + _FRAME_OVERHEAD_BYTES
                return item
            case Event():
                self.queued_bytes -= len(item.payload) + _FRAME_OVERHEAD_BYTES
                self._event_seq += 1
                return frames.event(item.name, item.payload, seq=self._event_seq, state_version=item.state_version)
            case _Waiting():
                self.queued_bytes -= item.size + _FRAME_OVERHEAD_BYTES
                if self._open_deltas.get(item.delta.run_id) is item:
                    del self._open_deltas[item.delta.run_id]
                agent, chat = item.payloads if item.payloads is not None else item.delta.to_payloads()
                self._event_seq += 2
                self._second_half = frames.event("chat", chat, seq=self._event_seq)
                return frames.event("agent", agent, seq=self._event_seq - 1)

    def _append(self, item: "bytes | Event | _Waiting", size: int) -> None:
        if len(self._queue) >= self.max_frames or self.queued_bytes + size > self.max_bytes:
            raise SlowConsumer(len(self._queue), self.queued_bytes)
        self._queue.append(item)
        self.queued_bytes += size + _FRAME_OVERHEAD_BYTES
        self._filled.set()
