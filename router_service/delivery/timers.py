"""Timers: one task that sleeps until the next due time in the tables, whatever it is for.

Delays, retries, expiries, the grace of cancelled runs and leases without a stream stand in the messages' due times;
streams in the attachments' end times. Nothing is polled row by row.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from chassis.errors import AppError
from chassis.waiting import within
from router_service.bots import Bots
from router_service.delivery.dispatcher import Dispatcher
from router_service.delivery.relay import Relay
from router_service.delivery.waiters import RunWaiters
from router_service.store import reads
from router_service.store.items import Due, LoseLease
from router_service.store.router_store import RouterStore
from router_service.store.ticket import Ticket

_PAGE = 500
_RETRY_S = 1.0
_SWEEP_S = 60.0
_SWEEP_PAGE = 500
_SET_BACK_US = 1_000_000  # less than that is no use to hurry for

_log = logging.getLogger(__name__)


class Timers:
    """`tick` does all that is due and returns the seconds until it should be called again."""

    def __init__(
        self,
        store: RouterStore,
        dispatcher: Dispatcher,
        bots: Bots,
        waiters: RunWaiters,
        *,
        lease_us: int,
        poll_s: float,
        refresh_s: float,
        retention_us: int,
        oldest_id: Callable[[int], str],
    ) -> None:
        """`oldest_id` gives the id below which all ids are of before a time in microseconds."""
        self._store = store
        self._dispatcher = dispatcher
        self._bots = bots
        self._waiters = waiters
        self._lease_us = lease_us
        self._poll_s = poll_s
        self._refresh_s = refresh_s
        self._retention_us = retention_us
        self._oldest_id = oldest_id
        self._relay = Relay(store, dispatcher)
        self._bell = asyncio.Event()
        self._closing = False
        self._next_us = 0
        self._renewed_us = 0
        self._refreshed_us = 0
        self._swept_us = 0
        self._seen_us = 0
        # Workers of before the start get a lease's length to come back in.
        self._reap_from_us = store.now_us() + lease_us

    def wake(self, at_us: int) -> None:
        """Something is due at `at_us`, perhaps earlier than all that is known."""
        if not self._next_us or at_us < self._next_us:
            self._bell.set()

    async def run(self) -> None:
        while not self._closing:
            try:
                wait_s = await self.tick()
            except AppError as error:
                _log.warning("timers cannot run", extra={"reason": error.reason or error.code})
                wait_s = _RETRY_S
            await within(wait_s, self._bell.wait())
            self._bell.clear()

    def close(self) -> None:
        self._closing = True
        self._bell.set()

    async def tick(self) -> float:
        # Whatever becomes due while we look must ring: what was read by then does not know of it.
        self._next_us = 0
        await self._store.keep_time()
        now_us = self._store.now_us()
        await self._follow_clock(now_us)
        await self._renew(now_us)
        next_us = min(filter(None, (await self._run_due(now_us), await self._reap(now_us))), default=0)
        await self._look_around(now_us)
        self._next_us = next_us
        wait_s = self._poll_s
        if next_us:
            wait_s = min(wait_s, max(0.0, (next_us - self._store.now_us()) / 1e6))
        return wait_s

    async def _follow_clock(self, now_us: int) -> None:
        """What waits for a time that we have set would wait longer by as much as the clock was set back."""
        seen_us, self._seen_us = self._seen_us, now_us
        if not seen_us:  # nobody has seen how far the clock went while no router ran, but the rows tell
            waiting = await self._store.read(partial(reads.set_by_a_clock_ahead, now_us=now_us + _SET_BACK_US))
            if waiting:
                _log.warning("the clock was set back before the start", extra={"hurried": len(waiting)})
        elif seen_us - now_us >= _SET_BACK_US:
            self._reap_from_us = min(self._reap_from_us, now_us + self._lease_us)
            waiting = await self._store.read(reads.waiting_for_us)
            _log.warning("the clock was set back", extra={"seconds": (seen_us - now_us) / 1e6, "hurried": len(waiting)})
        else:
            return
        for start in range(0, len(waiting), _PAGE):
            await self._post_due(waiting[start : start + _PAGE], hurry=True)

    async def _renew(self, now_us: int) -> None:
        if abs(now_us - self._renewed_us) < self._lease_us // 3:  # a clock may be set back
            return
        self._renewed_us = now_us
        attachments = [each for each in self._dispatcher.current_attachments() if each.recorded]
        if attachments:
            names = [(attachment.worker, attachment.id) for attachment in attachments]
            replaced = await self._store.renew(names, now_us + self._lease_us)
            newest = {attachment.worker: attachment.id for attachment in self._dispatcher.current_attachments()}
            # A stream that was attached while we wrote is not the one that was replaced.
            self._dispatcher.replaced(w for w, a in names if w in replaced and newest.get(w) == a)

    async def _run_due(self, now_us: int) -> int:
        while True:
            due, next_us = await self._store.read(lambda conn: reads.due_messages(conn, now_us, _PAGE))
            if not due:
                return next_us
            await self._post_due(due)
            if len(due) < _PAGE:
                return next_us

    async def _post_due(self, due: Sequence[tuple[str, str]], *, hurry: bool = False) -> None:
        ticket = Ticket(len(due))
        for message_id, session in due:
            offer = self._dispatcher.offer(session, session[: session.index("/sessions/")])
            item = Due(session=session, message_id=message_id, hurry=hurry, offer=offer, ticket=ticket)
            self._store.mail.post(item)
        await ticket.wait()

    async def _reap(self, now_us: int) -> int:
        if now_us < self._reap_from_us:
            return self._reap_from_us
        workers, next_us = await self._store.read(lambda conn: reads.expired_workers(conn, now_us, self._lease_us))
        attached = {attachment.worker for attachment in self._dispatcher.current_attachments()}
        for worker in workers:
            if worker in attached:
                continue
            leases = await self._store.read(partial(reads.leases_of, workers=(worker,)))
            lost = [lease for lease, _ in leases if lease.pulled_until_us <= now_us]
            ticket = Ticket(len(lost))
            for lease in lost:
                self._store.mail.post(LoseLease(session=lease.session, worker=worker, epoch=lease.epoch, ticket=ticket))
            await ticket.wait()
            await self._store.detach(worker)
        return next_us

    async def _look_around(self, now_us: int) -> None:
        """What no due time tells: other replicas' mail and ends, bots that may work again, old messages."""
        if abs(now_us - self._refreshed_us) >= self._refresh_s * 1e6:
            self._refreshed_us = now_us
            await self._bots.refresh(self._dispatcher.room.served_bots())
            await self._dispatcher.look_for_mail()
        elif not self._store.single_process or any(self._dispatcher.room.overflowed()):
            await self._dispatcher.look_for_mail()
        if not self._store.single_process:
            runs = list(self._waiters.runs())
            for run in await self._store.read(lambda conn: reads.find_ended(conn, runs)) if runs else ():
                self._waiters.notify(run)
            await self._relay.look()
        if abs(now_us - self._swept_us) >= _SWEEP_S * 1e6:
            self._swept_us = now_us
            await self._store.sweep(self._oldest_id(now_us - self._retention_us), _SWEEP_PAGE)
