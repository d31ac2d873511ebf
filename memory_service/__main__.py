"""The memory as a process, and its composition for whoever hosts it together with others."""

from chassis import lifeline

if __name__ == "__main__":
    _line = lifeline.hold()  # before the slow imports: a child whose supervisor is gone must not linger

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from chassis.channel import Dialer
from chassis.clock import Clock, Uuid7Ids
from chassis.database import Database
from chassis.delegation import Delegation
from chassis.errors import AppError
from chassis.server import Service
from chassis.service_process import run_service
from chassis.settings import ChassisSettings, root_token, run_main
from chassis.telemetry import Telemetry
from memory_service.convert.exports import ResumeTokens
from memory_service.convert.requests import Pages
from memory_service.domain.operation import OperationKind
from memory_service.operations.erasing import EraseWorker
from memory_service.operations.runner import OperationMetrics, OperationRunner, OperationWorker
from memory_service.recall.recall import Recall
from memory_service.servicer.memory_servicer import MemoryServicer
from memory_service.settings import MemorySettings
from memory_service.store.erase_store import EraseStore
from memory_service.store.grant_store import GrantStore
from memory_service.store.operation_store import OperationStore
from memory_service.store.portability_store import PortabilityStore
from memory_service.store.store import Limits, MemoryStore
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc, worker_pb2

NAME = "memory"
FULL_NAME = "mobot.memory.v1.MemoryService"

_log = logging.getLogger("mobot.memory")


async def compose(
    settings: MemorySettings,
    chassis: ChassisSettings,
    *,
    dialer: Dialer,
    clock: Clock,
    telemetry: Telemetry,
) -> Service:
    """The memory, open and ready to be hosted.

    Raises:
        FailedPrecondition: the data belongs to another version, or the database cannot be used.
        Unavailable: the database server is not reachable.
    """
    url = settings.database_url or f"sqlite:///{chassis.data_dir / 'memory.sqlite3'}"
    secret = root_token(chassis).encode()
    database = await Database.open(
        url, migrations="memory_service.migrations", migrate=chassis.migrate_on_start, clock=clock
    )
    limits = Limits(settings.max_memories, timedelta(days=settings.retention_days))
    new_id = Uuid7Ids(clock)
    store = MemoryStore(database, clock=clock, new_id=new_id, limits=limits)
    recall = Recall(settings, store.transactions, telemetry)
    await recall.start()
    workers: dict[OperationKind, OperationWorker] = {
        OperationKind.ERASE: EraseWorker(store.transactions),
        OperationKind.REINDEX: recall.reindexing,
    }
    undo = {kind: worker.undo for kind, worker in workers.items()}
    operations = OperationStore(store.transactions, undo=undo)
    grants = GrantStore(store.transactions)
    metrics = OperationMetrics(telemetry.registry)
    runner = OperationRunner(operations, workers, owner=new_id(), clock=clock, on_ended=metrics.note_end)
    runner.start()
    servicer = MemoryServicer(
        store=store,
        grants=grants,
        operations=operations,
        erasures=EraseStore(store.transactions, undo=undo),
        recall=recall,
        ring=runner.ring,
        portability=PortabilityStore(store.transactions, max_memories=settings.max_memories),
        resume_tokens=ResumeTokens(secret),
        retention=limits.retention,
        pages=Pages(secret),
        clock=clock,
        new_id=new_id,
    )
    upkeep = _Upkeep(store, operations, grants, timedelta(seconds=settings.compact_interval_s))
    sweeper = asyncio.create_task(upkeep.run(settings.sweep_interval_s), name="memory-sweeper")

    async def ready() -> bool:
        try:
            await store.ping()
        except AppError:
            return False
        return True

    async def served(worker: str) -> Collection[str] | None:
        registry = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
        found = (await registry.GetWorker(registry_service_pb2.GetWorkerRequest(name=worker))).worker
        return None if found.state == worker_pb2.WORKER_STATE_OFFLINE else found.bots

    async def end_watches() -> None:
        servicer.end_streams()

    async def close() -> None:
        await runner.close()
        await recall.close()
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await store.close()

    return Service(
        name=NAME,
        full_name=FULL_NAME,
        servicer=servicer,
        register=memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
        ready=ready,
        end_watches=end_watches,
        close=close,
        delegation=Delegation(served),
        workers_may=(),  # a worker has no memories
    )


@dataclass(frozen=True, slots=True)
class _Upkeep:
    store: MemoryStore
    operations: OperationStore
    grants: GrantStore
    compact_interval: timedelta

    async def run(self, interval_s: float) -> None:
        """For as long as the service runs. A sweep that fails is made up for by the next one."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self._sweep()
            except AppError as error:
                _log.warning("sweep failed", extra={"reason": error.reason, "code": error.code})

    async def _sweep(self) -> None:
        purged = await self.store.sweep()
        if purged:
            _log.info("swept", extra={"purged": purged})
        await self.operations.forget_ended()
        await self.grants.forget_old()
        if await self.store.compact(self.compact_interval):
            _log.info("compacted")


def main() -> None:
    """Runs the memory until it is told to stop."""
    line = _line if __name__ == "__main__" else lifeline.hold()
    run_main(lambda: asyncio.run(run_service(NAME, MemorySettings, compose, line)))


if __name__ == "__main__":
    main()
