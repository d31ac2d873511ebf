"""What other replicas did to the turns that workers of this one are busy with: cancellations, lost leases, steering.

A replica knows only its own streams. What another one commits about a lease is found here by looking.
"""

from functools import partial

from router_service.delivery.dispatcher import Dispatcher
from router_service.delivery.live import LiveLease
from router_service.store import reads
from router_service.store.router_store import RouterStore

_MAX_LEASES = 5_000


class Relay:
    """`look` is called every now and then where several processes share a database."""

    def __init__(self, store: RouterStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        # Leases that were not ours at the last look. Our own commit may not have been told yet: one look says little.
        self._doubtful: set[int] = set()
        self._handed: set[tuple[str, str]] = set()

    async def look(self) -> None:
        held = self._dispatcher.held_leases()[:_MAX_LEASES]
        if not held:
            self._doubtful.clear()
            self._handed.clear()
            return
        sessions = [live.lease.session for live in held]
        states = await self._store.read(partial(reads.lease_states, sessions=sessions))
        doubtful: set[int] = set()
        for live in held:
            run, epoch, cancelled = states.get(live.lease.session, ("", 0, False))
            if live.ended:
                continue
            if (run, epoch) == (live.lease.run, live.lease.epoch):
                if cancelled and live.stop_reason is None:
                    self._dispatcher.stop(live, "cancelled")
            elif id(live) in self._doubtful:
                self._dispatcher.lost(live)
            else:
                doubtful.add(id(live))
        self._doubtful = doubtful
        await self._steer([live for live in held if not live.ended])

    async def _steer(self, held: list[LiveLease]) -> None:
        of_run = {live.lease.run: live for live in held}
        offered = await self._store.read(partial(reads.offered_messages, runs=list(of_run)))
        handed = {(run, joined.run) for run, joined in offered}
        for run, joined in offered:
            live = of_run[run]
            known = joined.run in live.steered or (live.joined is not None and joined.message_id in live.joined)
            if not (live.ended or known or (run, joined.run) in self._handed):
                self._dispatcher.opener.steer_run(live, joined, None)
        self._handed = handed
