"""The text of one run as it is streamed: what has come, what was sent, and what a delta has to say next."""

from dataclasses import dataclass

from gateway.outbox import StreamDelta
from mobot.session.v1 import event_pb2


@dataclass(slots=True)
class RunText:
    """Text of the present step. `sent_chars` of `text` were sent; `committed` is the step's message in the log."""

    step: int = 0
    text: str = ""
    sent_chars: int = 0
    committed: str = ""
    must_replace: bool = False

    def begin_again(self) -> None:
        """What was streamed so far belongs to a step or an attempt that is over."""
        self.must_replace = self.must_replace or self.sent_chars > 0
        self.text = ""
        self.sent_chars = 0

    def complete(self, text: str) -> None:
        """The step's message was committed: whatever of it was not streamed is still to be sent."""
        self.committed = text
        if text and not text.startswith(self.text):
            self.must_replace = True
            self.sent_chars = 0
        if text:
            self.text = text

    def add(self, delta: event_pb2.Delta) -> bool:
        """Takes one delta of the present step. False when it brings nothing that could be sent."""
        if delta.replace:
            return self._replace(delta.text)
        if not self.text and self.committed[delta.offset :].startswith(delta.text):
            # Deltas and commits come on different ways: this one was overtaken by the message it belongs to.
            return False
        if delta.offset > len(self.text):
            # Pieces in between were dropped because somebody was slow; a snapshot follows.
            return False
        fresh = delta.text[len(self.text) - delta.offset :]
        self.text += fresh
        return bool(fresh)

    def take(self, run: str, head: dict[str, object], now_ms: int) -> StreamDelta:
        """The unsent text as one delta; it counts as sent."""
        delta = StreamDelta(
            run_id=run,
            agent_head=head,
            chat_head=head,
            new_text=self.text[self.sent_chars :],
            text=self.text,
            timestamp_ms=now_ms,
            replace=self.must_replace,
        )
        self.sent_chars = len(self.text)
        self.must_replace = False
        return delta

    @property
    def has_unsent(self) -> bool:
        return self.sent_chars < len(self.text) or (self.must_replace and bool(self.text))

    def _replace(self, text: str) -> bool:
        if not text.startswith(self.text[: self.sent_chars]):
            self.must_replace = self.must_replace or self.sent_chars > 0
            self.sent_chars = 0
        self.text = text
        return self.has_unsent
