"""A memory service in this process, reached over a local channel, for the memory benchmarks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry
from memory_service.__main__ import compose
from memory_service.settings import MemorySettings
from mobot.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc, operation_pb2

pb = memory_service_pb2
SECRET = "benchmark"
_AT_ONCE = 1_000
_LOOK_S = 0.05


class MemoryUnderTest:
    def __init__(self, stub: "memory_service_pb2_grpc.MemoryServiceAsyncStub") -> None:
        self.stub = stub

    async def shape(self, bot: str, shape: pb.RetrievalShape.ValueType) -> None:
        """Sets what the memories of a bot are like."""
        response = await self.stub.ReindexNamespace(pb.ReindexNamespaceRequest(name=f"bots/{bot}", shape=shape))
        operation = response.operation
        while operation.state in (operation_pb2.OPERATION_STATE_PENDING, operation_pb2.OPERATION_STATE_RUNNING):
            await asyncio.sleep(_LOOK_S)
            found = await self.stub.GetOperation(pb.GetOperationRequest(name=operation.name))
            operation = found.operation
        if operation.state != operation_pb2.OPERATION_STATE_SUCCEEDED:
            raise RuntimeError(f"{operation.name} failed: {operation.error.message}")

    async def put(self, bot: str, memories: Sequence[memory_pb2.Memory]) -> list[str]:
        """The names of the memories, in order; the same text twice is two memories."""
        names: list[str] = []
        for start in range(0, len(memories), _AT_ONCE):
            drafts = [
                memory_pb2.MemoryDraft(memory=memory, dedupe=memory_pb2.DEDUPE_MODE_ALLOW)
                for memory in memories[start : start + _AT_ONCE]
            ]
            response = await self.stub.BatchPutMemories(
                pb.BatchPutMemoriesRequest(parent=f"bots/{bot}", drafts=drafts, atomic=True)
            )
            names.extend(result.memory.name for result in response.results)
        return names

    async def embedded(self) -> None:
        """Returns when every memory has a vector."""
        while await self.backlog():  # noqa: ASYNC110 - another service is looked at
            await asyncio.sleep(_LOOK_S)

    async def backlog(self) -> int:
        response = await self.stub.GetMemoryStats(pb.GetMemoryStatsRequest(name="bots/-"))
        return response.stats.vector_backlog_count

    async def search(self, bot: str, query: str, size: int, **fields: Any) -> list[str]:
        """The names of the hits, the best first."""
        request = pb.SearchMemoriesRequest(parent=f"bots/{bot}", query=query, page_size=size, **fields)
        return [hit.memory.name for hit in (await self.stub.SearchMemories(request)).hits]


@contextlib.asynccontextmanager
async def memory_service(directory: Path, **settings: Any) -> AsyncIterator[MemoryUnderTest]:
    chassis = ChassisSettings(data_dir=directory, token=SecretStr(SECRET))
    dialer = Dialer({"memory": "local:"}, token=SECRET, actor=None)
    service = await compose(
        MemorySettings(**settings), chassis, dialer=dialer, clock=SystemClock(), telemetry=Telemetry.off()
    )
    host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=[])
    await host.start()
    try:
        dialer.add_handlers(host.local_handlers)
        yield MemoryUnderTest(memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory")))
    finally:
        await dialer.close()
        await host.drain()
