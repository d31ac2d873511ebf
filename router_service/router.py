"""One running router: its parts put together, started in the right order and stopped in the reverse one."""

import asyncio
import logging
from functools import partial

import grpc.aio

from chassis.clock import Clock
from chassis.delegation import Delegation
from chassis.paging import PageTokens
from chassis.write_transaction import CommitHook
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc
from router_service.bots import Bots, served_bots
from router_service.convert.drafts import DraftReader
from router_service.convert.letters import LetterWriter
from router_service.convert.spawns import SpawnReader
from router_service.delivery.bot_watch import BotWatch
from router_service.delivery.changes import Changes
from router_service.delivery.chores import Chores
from router_service.delivery.dispatcher import Dispatcher
from router_service.delivery.meters import MailMeters
from router_service.delivery.opener import Opener
from router_service.delivery.spawner import Spawner
from router_service.delivery.timers import Timers
from router_service.delivery.waiters import RunWaiters
from router_service.domain.retry import Backoff
from router_service.domain.spawning import SpawnLimits
from router_service.ids import MessageIds
from router_service.servicer.attaching import Attaching
from router_service.servicer.exchange import Exchange
from router_service.servicer.fan_calls import Fan
from router_service.servicer.guarding import Guard
from router_service.servicer.interventions import Interventions
from router_service.servicer.mailboxes import Mailboxes
from router_service.servicer.policies import Policies
from router_service.servicer.requests import Requests
from router_service.servicer.router_servicer import RouterServicer
from router_service.servicer.schedules import ContentChecks, Schedules
from router_service.servicer.sending import Sending
from router_service.servicer.spawning import Spawning
from router_service.servicer.topics import Topics
from router_service.servicer.waiting import Waiting
from router_service.servicer.watching import Watching
from router_service.settings import RouterSettings
from router_service.store.accepting import Rules
from router_service.store.router_store import RouterStore

_SINGLE_PROCESS_POLL_S = 5.0
_BOT_REFRESH_S = 5.0

_log = logging.getLogger(__name__)


class Router:
    """Made by `open`; `servicer` serves the contract."""

    def __init__(
        self,
        settings: RouterSettings,
        store: RouterStore,
        *,
        registry: grpc.aio.Channel,
        session: grpc.aio.Channel,
        clock: Clock,
        page_secret: bytes,
    ) -> None:
        lease_us = int(settings.lease_s * 1e6)
        new_id = MessageIds(clock)
        waiters = RunWaiters()
        self._store = store
        bots = registry_service_pb2_grpc.RegistryServiceStub(registry)
        self._bots = Bots(bots, ttl_s=settings.bot_cache_s)
        self._bot_watch = BotWatch(bots, self._bots)
        self.delegation = Delegation(partial(served_bots, bots))
        self._dispatcher = Dispatcher(
            store,
            self._bots,
            waiters,
            lease_us=lease_us,
            new_id=new_id,
            wake_timers=self._wake_timers,
            changes=Changes(store.watch, settings.watch_backlog),
        )
        self._opener = Opener(session_service_pb2_grpc.SessionServiceStub(session), store, self._dispatcher)
        self._dispatcher.connect(self._opener)
        self.timers = Timers(
            store,
            self._dispatcher,
            self._bots,
            waiters,
            lease_us=lease_us,
            poll_s=_SINGLE_PROCESS_POLL_S if store.single_process else settings.poll_interval_s,
            refresh_s=_BOT_REFRESH_S,
            retention_us=int(settings.retention_days * 86_400e6),
            oldest_id=_oldest_id,
        )
        reader = DraftReader(clock, new_id, max_attempts=settings.max_attempts)
        self._waiting = Waiting(store, waiters)
        exchange = Exchange(store, max_turns=settings.max_pair_turns)
        guard = Guard(store, self._bots, new_id, ttl_s=settings.bot_cache_s)
        self._sending = Sending(
            self._dispatcher, reader, self._bots, guard, self._waiting, exchange, window=settings.send_window
        )
        attaching = Attaching(
            store,
            self._dispatcher,
            reader,
            self._bots,
            guard,
            self.delegation,
            lease_us=lease_us,
            max_turns=settings.max_pair_turns,
        )
        tokens = PageTokens(page_secret)
        mailboxes = Mailboxes(store, self._dispatcher, self._waiting, guard, tokens)
        interventions = Interventions(store, self._dispatcher, reader, self._waiting, guard)
        self._watching = Watching(
            store,
            self._dispatcher.changes,
            mailboxes,
            self._dispatcher.room,
            tokens,
            oldest_id=_oldest_id,
            poll_s=None if store.single_process else settings.poll_interval_s,
        )
        fan = self._fan(settings, session, clock, reader, guard, new_id, tokens)
        self.servicer = RouterServicer(self._sending, attaching, mailboxes, interventions, fan)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        settings: RouterSettings,
        url: str,
        *,
        registry: grpc.aio.Channel,
        session: grpc.aio.Channel,
        clock: Clock,
        page_secret: bytes,
        migrate: bool,
        commit_hook: CommitHook | None = None,
        database_time: bool = False,
    ) -> "Router":
        """Opens the store and starts to work; `RouterStore.open` says what may be wrong with it."""
        backoff = Backoff(int(settings.backoff_initial_s * 1e6), int(settings.backoff_max_s * 1e6))
        rules = Rules(
            mailbox_limit=settings.mailbox_limit,
            backlog_limit=settings.bot_backlog_limit,
            cancel_grace_us=int(settings.cancel_grace_s * 1e6),
            backoff=backoff,
        )
        letters = LetterWriter(MessageIds(clock), max_attempts=settings.max_attempts)
        store = await RouterStore.open(
            url,
            rules=rules,
            clock=clock,
            letters=letters,
            migrate=migrate,
            commit_hook=commit_hook,
            database_time=database_time,
        )
        router = cls(settings, store, registry=registry, session=session, clock=clock, page_secret=page_secret)
        await router._start()
        return router

    @property
    def meters(self) -> MailMeters:
        """What is counted of the mail."""
        return self._dispatcher.meters

    async def ready(self) -> bool:
        """Whether mail can be taken now."""
        if any(task.done() for task in self._tasks):
            return False
        await self._store.ping()
        return True

    async def end_watches(self) -> None:
        """Ends all long streams and waits with DRAINING."""
        self._sending.drain()
        self._waiting.drain()
        self._dispatcher.changes.end()
        self._dispatcher.end_streams()

    async def close(self) -> None:
        await self.end_watches()
        self._opener.close()
        self.timers.close()
        self.chores.close()
        self._bot_watch.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bots.close()
        await self._store.close()

    async def _start(self) -> None:
        # Ends that the logs lack come first, so that they stand before the starts of what comes next.
        await self._opener.recover()
        self._tasks = [
            asyncio.create_task(work.run()) for work in (self._opener, self.timers, self.chores, self._bot_watch)
        ]
        for task in self._tasks:
            task.add_done_callback(_report)

    def _fan(
        self,
        settings: RouterSettings,
        session: grpc.aio.Channel,
        clock: Clock,
        reader: DraftReader,
        guard: Guard,
        new_id: MessageIds,
        tokens: PageTokens,
    ) -> Fan:
        """What makes mail of mail: children, schedules, topics; and the policy about it."""
        store, spawns = self._store, SpawnReader(clock, new_id, reader)
        spawner = Spawner(
            session_service_pb2_grpc.SessionServiceStub(session),
            store,
            spawns,
            SpawnLimits(settings.spawn_depth, settings.spawn_fan_out),
        )
        poll_s = _SINGLE_PROCESS_POLL_S if store.single_process else settings.poll_interval_s
        self.chores = Chores(store, spawner, reader, spawns, self._dispatcher.meters, poll_s=poll_s)
        requests = Requests(store, clock)
        spawning = Spawning(
            store, spawner, spawns, self._bots, guard, self._waiting, clock, stop_wait_s=settings.cancel_grace_s + 1
        )
        checks = ContentChecks(reader, spawns, self._bots, guard)
        schedules = Schedules(store, requests, checks, self.chores, self._dispatcher, spawning, new_id, tokens)
        topics = Topics(store, requests, reader, self._bots, tokens, limit=settings.topic_limit)
        return Fan(spawning, schedules, topics, Policies(store, requests, guard, tokens), self._watching)

    def _wake_timers(self, at_us: int) -> None:
        self.timers.wake(at_us)


def _oldest_id(us: int) -> str:
    """The least UUID of version 7 that is not older than `us` microseconds since 1970."""
    digits = f"{us // 1_000:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a part of the router stopped", exc_info=task.exception())
