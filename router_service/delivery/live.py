"""A lease as this process holds it."""

from dataclasses import dataclass

from mobot.router.v1 import message_pb2
from router_service.domain.mail import Lease


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

    def hand_over(self) -> None:
        """The content was given to the worker and is not needed here any more."""
        draft, self.draft, self.delivered = self.draft, None, True
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

    def pop(self, message_id: str) -> message_pb2.MessageDraft | None:
        entry = self._drafts.pop(message_id, None)
        if entry is None:
            return None
        self._bytes -= entry[1]
        return entry[0]
