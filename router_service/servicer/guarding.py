"""Decisions by the policy, and their record."""

import time
from collections.abc import Callable

from chassis.identity import Caller
from router_service.bots import Bots
from router_service.domain.errors import MessageNotFound, PolicyDenied
from router_service.domain.policy import Action, Decision, Party, decide
from router_service.servicer.access import own_bot
from router_service.store import policies
from router_service.store.policies import Entry, StoredPolicy
from router_service.store.router_store import RouterStore


class Guard:
    """Asked about what bots do; people and services may do what they like. A policy that another replica changed is
    known here after `ttl_s` seconds."""

    def __init__(
        self,
        store: RouterStore,
        bots: Bots,
        new_id: Callable[[], str],
        *,
        ttl_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bots = bots
        self._new_id = new_id
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._policy = StoredPolicy()
        self._fresh_until_s = -1.0

    async def require(self, caller: Caller, action: Action, target: str) -> None:
        """Refuses, on record, what the policy does not allow. `target` is a session or a bot.

        Raises:
            PermissionDenied: POLICY_DENIED.
        """
        bot = own_bot(caller)
        if not bot or target == bot or target.startswith(f"{bot}/"):
            return
        decision = await self._decide(bot, target, action)
        if not decision.allowed:
            await self.record(caller, action, target, allowed=False, detail=decision.detail)
            raise PolicyDenied(bot, target, action, decision.detail)

    async def require_read(self, caller: Caller, target: str, what: str) -> None:
        """Refuses to show what is not the calling bot's own nor open to it, as if it did not exist."""
        if not await self.may_read(caller, target):
            raise MessageNotFound(what)

    async def may_read(self, caller: Caller, target: str) -> bool:
        """Whether the caller sees mail of a session or bot. A bot's look at another one is on record."""
        bot = own_bot(caller)
        if not bot or target == bot or target.startswith(f"{bot}/"):
            return True
        decision = await self._decide(bot, target, Action.READ)
        await self.record(caller, Action.READ, target, allowed=decision.allowed, detail=decision.detail)
        return decision.allowed

    async def record(
        self, caller: Caller, action: str, target: str, *, allowed: bool = True, detail: str = "", message: str = ""
    ) -> None:
        entry = self.entry(caller, action, target, allowed=allowed, detail=detail, message=message)
        await self._store.write(lambda conn: policies.record(conn, entry))

    def entry(
        self, caller: Caller, action: str, target: str, *, allowed: bool = True, detail: str = "", message: str = ""
    ) -> Entry:
        """A record for a transaction of the caller's own."""
        now_us = self._store.now_us()
        return Entry(self._new_id(), now_us, caller.actor, str(action), target, allowed, detail, message)

    def changed(self, policy: StoredPolicy) -> None:
        """The policy was set here."""
        if policy.version >= self._policy.version:
            self._policy, self._fresh_until_s = policy, self._monotonic() + self._ttl_s

    async def _decide(self, bot: str, target: str, action: Action) -> Decision:
        target_bot = target.partition("/sessions/")[0]
        if self._monotonic() >= self._fresh_until_s:
            self.changed(await self._store.read(policies.read_policy))
        await self._bots.refresh((bot, target_bot))
        return decide(self._policy.rules, self._party(bot), self._party(target_bot), action)

    def _party(self, bot: str) -> Party:
        info = self._bots.last(bot)
        return Party(bot, info.owner, info.labels)
