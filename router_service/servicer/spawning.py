"""SpawnSession, and cancelling what was spawned."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy import Connection

from chassis import idempotency
from chassis.clock import Clock
from chassis.idempotency import RequestKey
from chassis.identity import Caller
from mobot.router.v1 import message_pb2, router_service_pb2
from router_service.bots import Bots
from router_service.convert.spawns import SpawnReader
from router_service.delivery.spawner import Spawner
from router_service.domain.policy import Action
from router_service.domain.spawning import NewSpawn
from router_service.servicer.access import own_bot
from router_service.servicer.guarding import Guard
from router_service.servicer.waiting import Waiting
from router_service.store import messages, spawns
from router_service.store.items import Cancel
from router_service.store.router_store import RouterStore
from router_service.store.spawns import StoredSpawn
from router_service.store.ticket import Ticket

_CASCADE = "CancelRunCascade"

CancelCall = Callable[[router_service_pb2.CancelRunRequest, Caller], Awaitable[router_service_pb2.CancelRunResponse]]


class Spawning:
    """Children: made and stopped. `stop_wait_s` is how long a cascade waits before it says what did not stop."""

    def __init__(
        self,
        store: RouterStore,
        spawner: Spawner,
        reader: SpawnReader,
        bots: Bots,
        guard: Guard,
        waiting: Waiting,
        clock: Clock,
        *,
        stop_wait_s: float,
    ) -> None:
        self._store = store
        self._spawner = spawner
        self._reader = reader
        self._bots = bots
        self._guard = guard
        self._waiting = waiting
        self._clock = clock
        self._stop_wait_s = stop_wait_s

    async def spawn(
        self, request: router_service_pb2.SpawnSessionRequest, caller: Caller
    ) -> router_service_pb2.SpawnSessionResponse:
        new = self._reader.read(request.spawn, caller, own_bot=own_bot(caller), key=request.request_id)
        return await self.make(new, caller)

    async def make(self, new: NewSpawn, caller: Caller) -> router_service_pb2.SpawnSessionResponse:
        """The answer for a checked wish."""
        await self._bots.require(new.session.partition("/sessions/")[0])
        await self._guard.require(caller, Action.SPAWN, new.session)
        stored = await self._spawner.spawn(new, self._guard.entry(caller, Action.SPAWN, new.session, detail=new.run))
        response = router_service_pb2.SpawnSessionResponse(created=stored.created)
        await self._fill(response.receipt, stored)
        return response

    async def cancel(
        self, request: router_service_pb2.CancelRunRequest, caller: Caller, call: CancelCall
    ) -> router_service_pb2.CancelRunResponse:
        """CancelRun with what was spawned by the target: `call` cancels the target itself."""
        if not request.cascade:
            return await call(request, caller)
        key = RequestKey(caller.actor, _CASCADE, request.request_id, idempotency.fingerprint(request))
        known = await self._store.read(partial(idempotency.find, table=self._store.ledger, key=key))
        if known is not None:
            return router_service_pb2.CancelRunResponse.FromString(known)
        response = await call(request, caller)
        seen: set[str] = set()
        # Again until nothing new is found: what is cancelled can spawn no more, but may just have done so.
        while below := await self._below(request, seen):
            response.cancelled_runs.extend(await self._cancel(below, request.reason or "its parent was cancelled"))
        response.unstopped_runs.extend(await self._unstopped(list(response.cancelled_runs)))
        now, table = self._clock.now(), self._store.ledger

        def keep(conn: Connection) -> bytes:
            """What is on record: a repetition that came at the same time may have been quicker."""
            answered = idempotency.find(conn, table, key)
            if answered is None:
                answered = response.SerializeToString()
                idempotency.remember(conn, table, key, response=answered, now=now)
            return answered

        return router_service_pb2.CancelRunResponse.FromString(await self._store.write(keep))

    async def _below(self, request: router_service_pb2.CancelRunRequest, seen: set[str]) -> list[tuple[str, str, str]]:
        """(message id, run, session) of children at work that are not in `seen`, which they are added to."""
        found = await self._store.write(partial(spawns.descendants, run=request.run, session=request.session))
        new = [each for each in found if each[0] not in seen]
        seen.update(message for message, _, _ in new)
        return new

    async def _cancel(self, below: list[tuple[str, str, str]], reason: str) -> list[str]:
        """Runs among these that there was something to cancel of."""
        ticket = Ticket(len(below))
        items = [
            Cancel(session=session, message_id=message, reason=reason, ticket=ticket) for message, _, session in below
        ]
        for item in items:
            self._store.mail.post(item)
        await ticket.wait()
        return [run for (_, run, _), item in zip(below, items, strict=True) if item.done]

    async def _unstopped(self, runs: list[str]) -> list[str]:
        events = [self._waiting.watch(run) for run in runs]
        try:
            ends = await asyncio.gather(
                *(
                    self._waiting.until_ended(run, event, self._stop_wait_s)
                    for run, event in zip(runs, events, strict=True)
                )
            )
        finally:
            for run, event in zip(runs, events, strict=True):
                self._waiting.unwatch(run, event)
        return [run for run, end in zip(runs, ends, strict=True) if end is None]

    async def _fill(self, receipt: message_pb2.Receipt, stored: StoredSpawn) -> None:
        open_spawn = stored.open
        receipt.message = f"messages/{open_spawn.message_id}"
        receipt.run = open_spawn.run
        receipt.session = open_spawn.session
        receipt.duplicate = stored.duplicate
        found = await self._store.read(partial(messages.find_message, message_id=open_spawn.message_id))
        if found is not None:
            receipt.state = found.row["state"]
            receipt.queue_position = found.queue_position
