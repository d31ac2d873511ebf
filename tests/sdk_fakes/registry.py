"""A registry in memory: bots, worker leases, heartbeats and a watch."""

import asyncio
from collections.abc import AsyncIterator

from chassis import errors
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc, worker_pb2


class FakeRegistry(registry_service_pb2_grpc.RegistryServiceServicer):
    def __init__(self) -> None:
        self.bots: dict[str, bot_pb2.Bot] = {}
        self.registrations: list[registry_service_pb2.RegisterWorkerRequest] = []
        self.reports: list[worker_pb2.WorkerReport] = []
        self.lost_leases: set[str] = set()
        self.unavailable_calls = 0
        self.order_drain = False
        self.watch_requests: list[registry_service_pb2.WatchBotsRequest] = []
        self.changed = asyncio.Condition()
        self._watches: list[asyncio.Queue[registry_service_pb2.RegistryChange]] = []
        self._cut = asyncio.Event()

    def add_bot(self, bot: str, **fields) -> bot_pb2.Bot:
        made = bot_pb2.Bot(
            name=f"bots/{bot}", enabled=True, lifecycle=bot_pb2.BOT_LIFECYCLE_ACTIVE, display_name=bot.title()
        )
        made.MergeFrom(bot_pb2.Bot(**fields))
        if made.brain.WhichOneof("settings") is None:
            made.brain.worker.SetInParent()
        self.put_bot(made)
        return made

    def put_bot(self, bot: bot_pb2.Bot) -> None:
        self.bots[bot.name] = bot
        self._tell(registry_service_pb2.RegistryChange(bot=bot))

    def remove_bot(self, name: str) -> None:
        del self.bots[name]
        self._tell(registry_service_pb2.RegistryChange(removed_bot=name))

    def cut(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    async def wait_until(self, predicate, timeout_s: float = 40) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(predicate)

    def _tell(self, change: registry_service_pb2.RegistryChange) -> None:
        for watch in self._watches:
            watch.put_nowait(change)

    async def CreateBot(self, request, context):
        name = f"bots/{request.bot_id}"
        if name in self.bots:
            raise errors.AlreadyExists("it exists", reason="BOT_ALREADY_EXISTS")
        request.bot.name = name
        request.bot.enabled = True
        self.put_bot(request.bot)
        return registry_service_pb2.CreateBotResponse(bot=request.bot)

    async def ListBots(self, request, context):
        return registry_service_pb2.ListBotsResponse(bots=self.bots.values(), total_count=len(self.bots))

    async def RegisterWorker(self, request, context):
        if self.unavailable_calls:
            self.unavailable_calls -= 1
            raise errors.Unavailable("starting", reason=errors.DRAINING)
        for bot in request.worker.bots:
            if bot not in self.bots:
                raise errors.NotFound(f"there is no {bot}", reason="BOT_NOT_FOUND", metadata={"bot": bot})
        self.registrations.append(request)
        response = registry_service_pb2.RegisterWorkerResponse(
            lease_id=f"lease-{len(self.registrations)}", bots=[self.bots[bot] for bot in request.worker.bots]
        )
        response.worker.name = f"workers/{request.worker_id}"
        response.lease_duration.FromSeconds(15)
        response.heartbeat_interval.FromMilliseconds(500)
        await self._notify()
        return response

    async def Heartbeat(self, request_iterator: AsyncIterator, context):
        cut = self._cut
        async for frame in request_iterator:
            if cut.is_set():
                raise errors.Unavailable("cut", reason=errors.DRAINING)
            acks = []
            for report in frame.reports:
                self.reports.append(report)
                outcome = worker_pb2.REPORT_OUTCOME_RENEWED
                if report.lease_id in self.lost_leases:
                    outcome = worker_pb2.REPORT_OUTCOME_LEASE_LOST
                elif report.leaving:
                    outcome = worker_pb2.REPORT_OUTCOME_LEFT
                acks.append(
                    worker_pb2.ReportAck(
                        worker=report.worker, sequence=report.sequence, outcome=outcome, drain=self.order_drain
                    )
                )
            await self._notify()
            yield registry_service_pb2.HeartbeatResponse(acks=acks)

    async def WatchBots(self, request, context):
        self.watch_requests.append(request)
        changes: asyncio.Queue[registry_service_pb2.RegistryChange] = asyncio.Queue()
        self._watches.append(changes)
        cut = self._cut
        try:
            yield registry_service_pb2.WatchBotsResponse(
                changes=[registry_service_pb2.RegistryChange(bot=bot) for bot in self.bots.values()],
                resume_token="1",
                phase=registry_service_pb2.WATCH_PHASE_SNAPSHOT_END,
            )
            while True:
                waiting = [asyncio.ensure_future(changes.get()), asyncio.ensure_future(cut.wait())]
                done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in pending:
                    future.cancel()
                if waiting[1] in done:
                    raise errors.Unavailable("cut", reason=errors.DRAINING)
                yield registry_service_pb2.WatchBotsResponse(
                    changes=[waiting[0].result()], resume_token="2", phase=registry_service_pb2.WATCH_PHASE_CHANGES
                )
        finally:
            self._watches.remove(changes)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()
