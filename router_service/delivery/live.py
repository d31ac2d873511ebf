"""A lease as this process holds it."""

from dataclasses import dataclass, field

from mobot.router.v1 import message_pb2
from router_service.domain.mail import JoinedMessage, Lease
from router_service.store.steps import RunMemory


@dataclass(slots=True, eq=False)
class LiveLease:
    """`attachment` is the number of the stream that has it, 0 while its worker is away.

    `draft` is dropped once it was delivered; `envelope` is what an answer needs of it, without content, and None when
    that is not known (yet) or, with `plain`, when there is nothing to know: no reply is wanted. `opened` says that the
    session's log has the attempt, `delivered` that a worker may know of it. `stop_reason` is set when the run shall
    stop.
    """

    lease: Lease
    attachment: int
    draft: message_pb2.MessageDraft | None = None
    envelope: message_pb2.MessageDraft | None = None
    plain: bool = False
    opened: bool = False
    delivered: bool = False
    ended: bool = False
    sequence: int = 0
    stop_reason: str | None = None
    # The other messages of this turn, with their content until it is delivered.
    collected: list[tuple[JoinedMessage, message_pb2.MessageDraft]] = field(default_factory=list)
    # What their answers need, by message id: (run, content); None when only the rows know.
    joined: dict[str, tuple[str, message_pb2.MessageDraft]] | None = None
    # What was handed to the running turn and is not known to be taken in, by run.
    steered: dict[str, tuple[JoinedMessage, message_pb2.MessageDraft]] = field(default_factory=dict)
    memory: RunMemory | None = None

    def hand_over(self) -> None:
        """The content was given to the worker and is not needed here any more."""
        draft, self.draft, self.delivered = self.draft, None, True
        self.collected.clear()
        self.memory = None
        if draft is None:
            return
        if draft.reply_to or draft.hop_count:
            self.envelope = message_pb2.MessageDraft(
                session=draft.session,
                type=draft.type,
                reply_to=draft.reply_to,
                correlation_id=draft.correlation_id,
                hop_count=draft.hop_count,
                traceparent=draft.traceparent,
            )
        else:
            self.plain = True

    def take_in(self, joined: JoinedMessage, draft: message_pb2.MessageDraft) -> None:
        """The turn has taken the message in: it ends with the run."""
        if self.joined is not None:
            self.joined[joined.message_id] = (joined.run, draft)


class DraftCache:
    """Contents of messages that wait, so that they need not be read again; oldest out first. `limit` is in bytes."""

    def __init__(self, limit_bytes: int = 32 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._drafts: dict[str, tuple[message_pb2.MessageDraft, int]] = {}

    def put(self, message_id: str, draft: message_pb2.MessageDraft, size: int) -> None:
        self._drafts[message_id] = (draft, size)
        self._bytes += size
        while self._bytes > self._limit_bytes and self._drafts:
            self._bytes -= self._drafts.pop(next(iter(self._drafts)))[1]

    def get(self, message_id: str) -> message_pb2.MessageDraft | None:
        entry = self._drafts.get(message_id)
        return None if entry is None else entry[0]

    def pop(self, message_id: str) -> message_pb2.MessageDraft | None:
        entry = self._drafts.pop(message_id, None)
        if entry is None:
            return None
        self._bytes -= entry[1]
        return entry[0]
