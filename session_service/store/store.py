"""The store as the rest of the service sees it: appends, writes with their ledger, reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, select

from chassis import idempotency
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import AppError
from chassis.idempotency import RequestKey
from session_service.domain.errors import SessionNotFound
from session_service.domain.event import Append, Appended, StoredEvent
from session_service.domain.rules import DEFAULT_RULES, Rules
from session_service.domain.session import Session
from session_service.models import LEDGER, LOG_HEAD
from session_service.store import grouping, listing, log, resolving
from session_service.store.appending import append_all
from session_service.store.filtering import SessionFilter, is_plain
from session_service.store.session_cache import SessionCache
from session_service.store.transaction import Encode, HeadCache, Transaction, Written, from_micros

T = TypeVar("T")

# Request ids are kept for days; how punctually they are forgotten matters little.
_SWEEP_INTERVAL_US = 3_600_000_000
# Rows that a call of many callers may read on the loop: a thread and back takes longer.
_AT_A_GLANCE = 200


class Listener(Protocol):
    """Who wants to know of commits."""

    @property
    def wants_sessions(self) -> bool:
        """Whether sessions are to be read back with their events. Asked where the writer runs."""

    def committed(self, events: Sequence[StoredEvent], sessions: Sequence[Session]) -> None:
        """On the loop, once per commit, before any submitter continues."""


@dataclass(frozen=True, slots=True)
class Claim(RequestKey):
    """A request with an id, and how its answer is remembered."""

    encode: Callable[[Any], bytes]


class Replayed(bytes):
    """The remembered answer of a request that was made before."""


@dataclass(frozen=True, slots=True)
class _Write:
    act: Callable[[Transaction], Any]
    claim: Claim | None


class Store:
    """Owns the service's database."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        encode: Encode,
        new_uid: Callable[[], str],
        rules: Rules = DEFAULT_RULES,
    ) -> None:
        """`encode` makes the payloads of the service's own events; `new_uid` names transcripts."""
        self.clock = clock
        self.rules = rules
        self.encode = encode
        self.new_uid = new_uid
        self.engine_name = database.engine_name
        self._database = database
        self._writer = database.writer
        self.heads = HeadCache()
        self._cache = SessionCache()
        self._kind = self._writer.kind("session", self._handle, after_commit=self._announce, brief=True)
        self._bulk_kind = self._writer.kind("session bulk", self._handle, after_commit=self._announce)
        self._listener: Listener | None = None
        self._ring: Callable[[int], None] | None = None
        self._swept = 0

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    def follow(self, ring: Callable[[int], None]) -> None:
        """`ring` is told the newest position after each commit, on the loop; 0 when no event was added."""
        self._ring = ring

    @property
    def queued(self) -> int:
        """Writes that wait for their commit."""
        return self._writer.queued

    async def ping(self) -> None:
        await self._database.ping()

    async def close(self) -> None:
        await self._database.close()

    # Writes.

    async def append(self, append: Append) -> Appended:
        """Appends to one session; returns after the commit. Raises what refused it."""
        written: Written[Appended] = await self._writer.submit(self._kind, append)
        return written.value

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | AppError]:
        """Appends in one commit, in order; a result or a refusal for each."""
        results = await self._writer.submit_many(self._kind, appends, at_once=True)
        return [result if isinstance(result, AppError) else result.value for result in results]

    async def write(self, act: Callable[[Transaction], T], claim: Claim | None = None) -> T | Replayed:
        """Runs one change; returns its value after the commit, or the answer remembered for the claim.

        `act` may run more than once and must decide before it writes: what it refuses leaves no trace.
        """
        written: Written[T | Replayed] = await self._writer.submit(self._kind, _Write(act, claim))
        return written.value

    async def write_bulk(self, act: Callable[[Transaction], T], claim: Claim | None = None) -> T | Replayed:
        """As `write`, for a change of thousands of rows, which must not run on the loop."""
        written: Written[T | Replayed] = await self._writer.submit(self._bulk_kind, _Write(act, claim))
        return written.value

    async def write_unclaimed(self, act: Callable[[Transaction], T]) -> T:
        """As `write_bulk`, for what carries an identity of its own."""
        written: Written[T] = await self._writer.submit(self._bulk_kind, _Write(act, None))
        return written.value

    async def derive(self, act: Callable[[Connection], T]) -> T:
        """Runs a write to what is made from the log, and to nothing else."""
        return await self._writer.run(act)

    async def write_each(self, acts: Sequence[Callable[[Transaction], T]]) -> list[T | AppError]:
        """Runs changes in one commit, in order; a value or a refusal for each."""
        results = await self._writer.submit_many(self._kind, [_Write(act, None) for act in acts])
        return [result if isinstance(result, AppError) else result.value for result in results]

    def _handle(self, conn: Connection, items: Sequence[Append | _Write]) -> Sequence[Written[Any] | AppError]:
        tx = Transaction(conn, self)
        if tx.now - self._swept > _SWEEP_INTERVAL_US:
            self._swept = tx.now
            idempotency.sweep(conn, LEDGER, from_micros(tx.now))
        with_sessions = self._listener is not None and self._listener.wants_sessions
        results: list[Written[Any] | AppError] = []
        at = 0
        while at < len(items):
            item = items[at]
            if isinstance(item, _Write):
                results.append(_act(tx, item))
                tx.flush()
                at += 1
                continue
            appends: list[Append] = []
            while at < len(items) and isinstance(following := items[at], Append):
                appends.append(following)
                at += 1
            results.extend(append_all(tx, appends, with_sessions=with_sessions))
        tx.finish()
        return results

    def _announce(self, results: Sequence[Written[Any]]) -> None:
        events = [event for result in results for event in result.events]
        if self._ring is not None:
            self._ring(events[-1].position if events else 0)
        if events and self._listener is not None:
            self._listener.committed(events, [session for result in results for session in result.sessions])

    # Reads.

    async def read(self, function: Callable[[Connection], T]) -> T:
        return await self._database.read(function)

    async def secret(self) -> bytes:
        """Signs the tokens of this store."""
        return await self.read(lambda conn: bytes(conn.execute(select(LOG_HEAD.c.secret)).scalar_one()))

    async def get_session(self, name: str) -> Session:
        """Raises SessionNotFound."""
        found = await self._database.glance(lambda conn: self._cache.find(conn, name))
        if found is None:
            raise SessionNotFound(name)
        return found

    async def find_sessions(self, names: Sequence[str]) -> dict[str, Session]:
        read = self._database.glance if len(names) <= _AT_A_GLANCE else self._database.read
        return await read(lambda conn: listing.find_sessions(conn, names, self._cache))

    async def find_ends(self, names: Sequence[str]) -> dict[str, log.End]:
        """Where the logs of these sessions end, by resource name; missing sessions are left out."""
        read = self._database.glance if len(names) <= _AT_A_GLANCE else self._database.read
        return await read(lambda conn: log.find_ends(conn, names))

    async def sessions(self, keys: Sequence[int]) -> list[Session]:
        return await self.read(lambda conn: listing.sessions_by_key(conn, keys))

    async def all_sessions(self, bots: Sequence[str] | None, after: int, limit: int) -> list[Session]:
        return await self.read(lambda conn: listing.all_sessions(conn, bots, after, limit))

    async def resolve(self, bots: Sequence[str] | None, kind: str, reference: str) -> Session:
        return await self.read(lambda conn: resolving.resolve(conn, bots, kind, reference))

    async def list_sessions(
        self,
        which: SessionFilter,
        order: listing.SessionOrder,
        *,
        size: int,
        after: tuple[int, str] | None = None,
        offset: int = 0,
        count: bool = False,
    ) -> listing.Page:
        # What is in the order of an index, and no more than a screen or two of it.
        brief = size + offset <= _AT_A_GLANCE and is_plain(which)
        read = self._database.glance if brief else self._database.read
        return await read(
            partial(
                listing.list_sessions,
                which=which,
                order=order,
                size=size,
                after=after,
                offset=offset,
                count=count,
                cache=self._cache,
            )
        )

    async def list_events(
        self,
        name: str,
        which: log.EventFilter,
        *,
        descending: bool = False,
        after: int | None = None,
        size: int,
        max_bytes: int,
        count: bool = False,
    ) -> log.EventPage:
        read = self._database.glance if size <= _AT_A_GLANCE and not count else self._database.read
        return await read(
            partial(
                log.list_events,
                name=name,
                which=which,
                descending=descending,
                after=after,
                size=size,
                max_bytes=max_bytes,
                count=count,
                cache=self._cache,
            )
        )

    async def get_event(self, name: str, *, sequence: int = 0, event_id: str = "") -> StoredEvent:
        return await self.read(partial(log.get_event, name=name, sequence=sequence, event_id=event_id))

    async def turn_context(self, name: str, run: str, *, max_events: int, max_bytes: int) -> log.TurnContext:
        return await self.read(
            partial(log.turn_context, name=name, run=run, max_events=max_events, max_bytes=max_bytes)
        )

    async def log_range(self) -> log.LogRange:
        return await self.read(log.log_range)

    async def position_of(self, session: int, sequence: int) -> int:
        return await self.read(lambda conn: log.position_of(conn, session, sequence))

    async def read_log(
        self,
        after: int,
        *,
        limit: int,
        sessions: Sequence[int] | None = None,
        bots: Sequence[str] | None = None,
        kinds: Sequence[int] = (),
    ) -> log.LogSlice:
        if sessions is not None and len(sessions) == 1:
            one = sessions[0]
            return await self.read(lambda conn: log.read_session_log(conn, one, after, limit=limit, kinds=kinds))
        return await self.read(
            partial(log.read_log, after=after, limit=limit, sessions=sessions, bots=bots, kinds=kinds)
        )

    async def list_groups(self) -> grouping.GroupPage:
        return await self.read(grouping.list_groups)


def _act(tx: Transaction, write: _Write) -> Written[Any] | AppError:
    claim = write.claim
    first, first_changed = len(tx.events), len(tx.changed)
    try:
        if claim is not None:
            remembered = idempotency.find(tx.conn, LEDGER, claim)
            if remembered is not None:
                return Written(Replayed(remembered))
        value = write.act(tx)
    except AppError as refusal:
        return refusal
    if claim is not None:
        idempotency.remember(tx.conn, LEDGER, claim, response=claim.encode(value), now=from_micros(tx.now))
    return Written(value, tx.events[first:], tx.changed[first_changed:])
