"""Who has room for work: attached workers, their bots, and the sessions that wait for them.

All of this is a hint. What is true is in the mailboxes' rows; a hint that is wrong costs a look, never a message.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from router_service.bots import Bots
from router_service.delivery.attachments import Attachment

_MAX_READY = 10_000


class BotQueue:
    """One bot: the streams that serve it, and its sessions whose heads can be leased, longest waiting first."""

    __slots__ = ("attachments", "bot", "in_flight", "overflow", "ready")

    def __init__(self, bot: str) -> None:
        self.bot = bot
        self.attachments: deque[Attachment] = deque()
        self.ready: dict[str, None] = {}
        self.in_flight = 0
        # More sessions are ready than are remembered here.
        self.overflow = False


class Room:
    """The streams of this process and what is set aside on them."""

    def __init__(self, bots: Bots) -> None:
        self._bots = bots
        self._queues: dict[str, BotQueue] = {}
        # Bots with ready sessions, in the order in which they shall be served next.
        self._hungry: dict[str, None] = {}
        self.attachments: dict[int, Attachment] = {}

    def add(self, attachment: Attachment) -> None:
        self.attachments[attachment.number] = attachment
        for bot in attachment.bots:
            self._queue(bot).attachments.append(attachment)

    def remove(self, attachment: Attachment) -> None:
        if self.attachments.pop(attachment.number, None) is None:
            return
        for bot in attachment.bots:
            queue = self._queues[bot]
            queue.attachments.remove(attachment)
            if not queue.attachments:
                # Sleeping bots cost nothing: what is ready is read again when a worker comes.
                queue.ready.clear()
                self._hungry.pop(bot, None)
                if not queue.in_flight:
                    del self._queues[bot]

    def change_bots(self, attachment: Attachment, bots: frozenset[str]) -> None:
        self.remove(attachment)
        attachment.bots = bots
        self.add(attachment)

    def served_bots(self) -> list[str]:
        """Bots with a stream in this process."""
        return [bot for bot, queue in self._queues.items() if queue.attachments]

    def worker_count(self, bot: str) -> int:
        queue = self._queues.get(bot)
        return len(queue.attachments) if queue is not None else 0

    def in_flight(self, bot: str) -> int:
        queue = self._queues.get(bot)
        return queue.in_flight if queue is not None else 0

    def take(self, bot: str) -> Attachment | None:
        """Sets room for one run of the bot aside; None if there is none, or others wait for it already."""
        queue = self._queues.get(bot)
        if queue is None or queue.ready or not self._allowed(queue):
            return None
        return self._reserve(queue)

    def occupy(self, attachment: Attachment | None, bot: str) -> None:
        """Counts a run that is there whether there is room or not."""
        self._queue(bot).in_flight += 1
        if attachment is not None:
            attachment.in_flight += 1

    def free(self, number: int, bot: str) -> None:
        """Gives the room of one run back."""
        queue = self._queues.get(bot)
        if queue is not None:
            queue.in_flight -= 1
            if not queue.in_flight and not queue.attachments:
                del self._queues[bot]
        attachment = self.attachments.get(number)
        if attachment is not None:
            attachment.in_flight -= 1

    def follow(self, attachment: Attachment, bot: str) -> tuple[str | None, str] | None:
        """Who shall have the room of a run of `bot` that is just ending: (session, bot) that waits longest, (None, bot)
        for the next message of the same session, or None for nobody. The room is set aside."""
        if attachment.closed or attachment.draining or attachment.in_flight > attachment.window:
            return None
        for hungry in self._hungry:
            queue = self._queues[hungry]
            if hungry in attachment.bots and queue.ready and self._allowed(queue, leaving=hungry == bot):
                self.occupy(attachment, hungry)
                return self._next_session(queue), hungry
        same = self._queues.get(bot)
        if same is None or bot not in attachment.bots or not self._allowed(same, leaving=True):
            return None
        self.occupy(attachment, bot)
        return None, bot

    def mark_ready(self, session: str, bot: str) -> None:
        queue = self._queues.get(bot)
        if queue is None or not queue.attachments:
            return
        if len(queue.ready) >= _MAX_READY:
            queue.overflow = True
            return
        queue.ready[session] = None
        self._hungry[bot] = None

    def unmark(self, session: str, bot: str) -> None:
        queue = self._queues.get(bot)
        if queue is not None and queue.ready.pop(session, self) is None and not queue.ready:
            self._hungry.pop(bot, None)

    def pairs(self) -> Iterator[tuple[str, str, Attachment]]:
        """(session, bot, stream) for as long as sessions wait and there is room for them; the room is set aside."""
        if not self._hungry or all(attachment.free <= 0 for attachment in self.attachments.values()):
            return
        for bot in list(self._hungry):
            queue = self._queues[bot]
            while queue.ready and self._allowed(queue):
                attachment = self._reserve(queue)
                if attachment is None:
                    break
                yield self._next_session(queue), bot, attachment

    def overflowed(self) -> Iterable[str]:
        """Bots that have more ready sessions than were remembered, and have worked those off."""
        for bot, queue in self._queues.items():
            if queue.overflow and not queue.ready:
                queue.overflow = False
                yield bot

    def _queue(self, bot: str) -> BotQueue:
        queue = self._queues.get(bot)
        if queue is None:
            queue = self._queues[bot] = BotQueue(bot)
        return queue

    def _allowed(self, queue: BotQueue, *, leaving: bool = False) -> bool:
        info = self._bots.last(queue.bot)
        return info.works and queue.in_flight - leaving < info.concurrency

    def _reserve(self, queue: BotQueue) -> Attachment | None:
        for _ in range(len(queue.attachments)):
            attachment = queue.attachments[0]
            queue.attachments.rotate(-1)
            if attachment.free > 0:
                attachment.in_flight += 1
                queue.in_flight += 1
                return attachment
        return None

    def _next_session(self, queue: BotQueue) -> str:
        session = next(iter(queue.ready))
        del queue.ready[session]
        # To the end of the line of bots, so that one with many sessions does not keep others waiting.
        self._hungry.pop(queue.bot, None)
        if queue.ready:
            self._hungry[queue.bot] = None
        return session
