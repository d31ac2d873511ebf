"""WatchMessages and WatchMailboxes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial

from chassis.errors import Draining, InvalidArgument
from chassis.identity import Caller
from chassis.paging import PageTokens, QueryValue
from chassis.resource_names import parse_bot
from mobot.router.v1 import router_service_pb2
from router_service.convert.filters import query_of
from router_service.convert.messages import to_proto_message, to_proto_stats
from router_service.delivery.changes import Changes, Watcher
from router_service.delivery.room import Room
from router_service.domain.errors import SlowConsumer, WatchTokenInvalid
from router_service.servicer.access import own_bot
from router_service.servicer.mailboxes import Mailboxes
from router_service.store import changes, messages
from router_service.store.messages import MessageQuery, Stats, StoredMessage
from router_service.store.router_store import RouterStore

_FRAME = 200
_CHECKPOINT_S = 15.0
_STATS_S = 1.0
_STATS_IDLE_S = 5.0
# Clocks of replicas differ, and an id is made some time before its message is accepted.
_MARGIN_US = 5_000_000
_ID_MARGIN_US = 120_000_000
_OLDEST_S = 30.0
_REMEMBERED = 20_000

Frame = router_service_pb2.WatchMessagesResponse


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, and the oldest message that had not ended then."""

    us: int
    first_id: str


class Watching:
    """Streams what changes. `poll_s` is how often to look at what other replicas did, None where there are none."""

    def __init__(
        self,
        store: RouterStore,
        hub: Changes,
        mailboxes: Mailboxes,
        room: Room,
        tokens: PageTokens,
        *,
        oldest_id: Callable[[int], str],
        poll_s: float | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._hub = hub
        self._mailboxes = mailboxes
        self._room = room
        self._tokens = tokens
        self._oldest_id = oldest_id
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._oldest = ""
        self._oldest_until_s = -1.0

    async def messages(
        self, request: router_service_pb2.WatchMessagesRequest, caller: Caller
    ) -> AsyncGenerator[Frame, None]:
        """Frames, each with the token that goes on after it.

        Raises:
            InvalidArgument: WATCH_TOKEN_INVALID.
            ResourceExhausted: SLOW_CONSUMER.
            Unavailable: DRAINING.
        """
        query = await self._mailboxes.visible(query_of(request.filter, caller), caller)
        bound = _bound(request.filter, query)
        since = self._decode(bound, request.resume_token) if request.resume_token else None
        watcher, seen = self._hub.add(), _Seen()
        try:
            # What was being written when nobody watched yet is done after this.
            await self._store.settle()
            mark = await self.mark()
            if since is None:
                yield Frame(checkpoint=True, resume_token=self._encode(bound, mark))
            else:
                missed = await self._missed(query, since)
                if missed is None:
                    yield Frame(reset=True, resume_token=self._encode(bound, mark))
                else:
                    async for frame in self._frames(missed, seen, since, mark, bound):
                        yield frame
            async for frame in self._live(query, bound, watcher, seen, mark):
                yield frame
        finally:
            self._hub.remove(watcher)

    async def mailboxes(
        self, request: router_service_pb2.WatchMailboxesRequest, caller: Caller
    ) -> AsyncGenerator[router_service_pb2.WatchMailboxesResponse, None]:
        """Sums of bots: all of them first, then those that changed."""
        for number, bot in enumerate(request.bots):
            parse_bot(bot, field=f"bots[{number}]")
        own = own_bot(caller)
        wanted = set(request.bots)
        if own:
            wanted = {own} if not wanted or own in wanted else {""}
        known: dict[str, tuple[Stats, int]] = {}
        first = True
        watcher = self._hub.add()
        try:
            while True:
                began_s = self._monotonic()
                found = await self._store.read(partial(messages.mailbox_stats, session="", bot=own))
                response = router_service_pb2.WatchMailboxesResponse()
                for stats in found:
                    now = (stats, self._room.worker_count(stats.bot))
                    if (not wanted or stats.bot in wanted) and known.get(stats.bot) != now:
                        known[stats.bot] = now
                        response.mailboxes.append(to_proto_stats(stats, workers=now[1]))
                if response.mailboxes or first:
                    first = False
                    yield response
                self._check_ended()
                await watcher.wait(_STATS_IDLE_S if self._poll_s is None else _STATS_S)
                self._check_ended()
                await asyncio.sleep(max(0.0, began_s + _STATS_S - self._monotonic()))
        finally:
            self._hub.remove(watcher)

    async def mark(self) -> Mark:
        """This moment."""
        now_us = self._store.now_us()
        if self._monotonic() >= self._oldest_until_s:
            # An older one is as good: it only makes a look back longer.
            self._oldest = await self._store.read(changes.oldest_unfinished)
            self._oldest_until_s = self._monotonic() + _OLDEST_S
        recent = self._oldest_id(now_us - _ID_MARGIN_US)
        return Mark(now_us, min(self._oldest, recent) if self._oldest else recent)

    async def as_of(self, filter_: router_service_pb2.MessageFilter, query: MessageQuery) -> str:
        """The token of a watch that begins with a list that is read after this."""
        return self._encode(_bound(filter_, query), await self.mark())

    async def _live(
        self, query: MessageQuery, bound: dict[str, QueryValue], watcher: Watcher, seen: "_Seen", mark: Mark
    ) -> AsyncGenerator[Frame, None]:
        quiet_from_s = self._monotonic()
        while True:
            ids = await watcher.wait(_CHECKPOINT_S if self._poll_s is None else self._poll_s)
            self._check_ended()
            if watcher.overflowed:
                raise SlowConsumer(self._hub.limit)
            since, mark = mark, await self.mark()
            found: list[StoredMessage] | None = None
            if self._poll_s is not None:
                found = await self._missed(query, since)
            if found is None and ids:
                found = await self._store.read(partial(changes.messages, query=query, ids=ids))
            async for frame in self._frames(found or (), seen, since, mark, bound):
                quiet_from_s = self._monotonic()
                yield frame
            if self._monotonic() - quiet_from_s >= _CHECKPOINT_S:
                quiet_from_s = self._monotonic()
                yield Frame(checkpoint=True, resume_token=self._encode(bound, mark))

    async def _frames(
        self,
        found: "list[StoredMessage] | tuple[()]",
        seen: "_Seen",
        since: Mark,
        mark: Mark,
        bound: dict[str, QueryValue],
    ) -> AsyncGenerator[Frame, None]:
        """What of `found` is new to the watcher. A token in the middle goes back to before all of it."""
        new = [stored for stored in found if seen.is_new(stored)]
        for start in range(0, len(new), _FRAME):
            last = start + _FRAME >= len(new)
            yield Frame(
                messages=[to_proto_message(stored) for stored in new[start : start + _FRAME]],
                resume_token=self._encode(bound, mark if last else since),
            )

    async def _missed(self, query: MessageQuery, since: Mark) -> list[StoredMessage] | None:
        """What changed since; None when that is too much."""
        found = await self._store.read(
            partial(
                changes.changes_since,
                query=query,
                since_us=since.us - _MARGIN_US,
                first_id=since.first_id,
                limit=self._hub.limit + 1,
            )
        )
        return None if len(found) > self._hub.limit else found

    def _check_ended(self) -> None:
        if self._hub.ended:
            raise Draining

    def _encode(self, bound: dict[str, QueryValue], mark: Mark) -> str:
        return self._tokens.encode(bound, (mark.us, mark.first_id))

    def _decode(self, bound: dict[str, QueryValue], token: str) -> Mark:
        try:
            us, first_id = self._tokens.decode(bound, token)
        except InvalidArgument as error:  # a token of a watch is no page's, and says so
            raise WatchTokenInvalid from error
        return Mark(int(us), str(first_id))


class _Seen:
    """How messages looked when they were last shown, so that the same look is not shown again."""

    def __init__(self) -> None:
        self._looks: OrderedDict[str, tuple[object, ...]] = OrderedDict()

    def is_new(self, stored: StoredMessage) -> bool:
        row = stored.row
        look = (
            row["state"],
            row["attempts"],
            row["epoch"],
            row["next_attempt_time"],
            row["error_reason"],
            row["error_message"],
            row["cancel_time"],
            row["reply_message"],
        )
        if self._looks.get(row["id"]) == look:
            return False
        self._looks[row["id"]] = look
        self._looks.move_to_end(row["id"])
        if len(self._looks) > _REMEMBERED:
            self._looks.popitem(last=False)
        return True


def _bound(given: router_service_pb2.MessageFilter, query: MessageQuery) -> dict[str, QueryValue]:
    return {
        "watch": "messages",
        "filter": given.SerializeToString(deterministic=True).hex(),
        "visible_to": query.visible_to,
    }
