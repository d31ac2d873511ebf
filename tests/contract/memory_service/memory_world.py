"""A memory service over a local channel or a real socket, that can be stopped and started again on the same data."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from pydantic import SecretStr

from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.errors import AppError
from chassis.identity import Authenticator, mint_token
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.status import from_rpc_error
from chassis.telemetry import Telemetry
from memory_service.__main__ import compose
from memory_service.settings import MemorySettings
from mobot.memory.v1 import block_pb2, memory_pb2, memory_service_pb2, memory_service_pb2_grpc

SECRET = "secret-of-the-tests"
pb = memory_service_pb2


@dataclass
class World:
    """`stub` speaks as root; `acting` as anyone else. Methods without a stub do.

    `make_another` makes an empty database of the same engine and returns its URL.
    """

    transport: str
    directory: Path
    clock: FakeClock
    options: dict[str, Any] = field(default_factory=dict)
    host: ServiceHost | None = None
    dialers: list[Dialer] = field(default_factory=list)
    make_another: Callable[[], str] = str

    @property
    def on_sqlite(self) -> bool:
        return str(self.options["database_url"]).startswith("sqlite:")

    async def start(self) -> None:
        chassis = ChassisSettings(data_dir=self.directory, token=SecretStr(SECRET))
        settings = MemorySettings(**{"port": 0, "sweep_interval_s": 3600, "embedder": "none", **self.options})
        service = await compose(
            settings,
            chassis,
            dialer=Dialer({}, token=SECRET, actor=None),
            clock=self.clock,
            telemetry=Telemetry.off(),
        )
        listen = ["127.0.0.1:0"] if self.transport == "tcp" else []
        self.host = ServiceHost(
            service, authenticator=Authenticator(SECRET), listen=listen, grace_s=0.3, clock=self.clock
        )
        ports = await self.host.start()
        self.target = "local:" if self.transport == "local" else f"127.0.0.1:{ports['127.0.0.1:0']}"
        self.stub = self.acting(None)

    async def stop(self) -> None:
        for dialer in self.dialers:
            await dialer.close()
        self.dialers.clear()
        if self.host is not None:
            await self.host.drain()
            self.host = None

    async def restart(self, **options: Any) -> None:
        await self.stop()
        self.options.update(options)
        await self.start()

    async def start_empty(self) -> None:
        """Another service on empty data, at the same time."""
        # Where no loop runs: a database of PostgreSQL is made by a loop of its own.
        await self.restart(database_url=await asyncio.to_thread(self.make_another))

    def acting(self, actor: str | None, *, root: bool = True) -> "memory_service_pb2_grpc.MemoryServiceAsyncStub":
        """A stub whose calls are made for `actor`; without `root` with a token of the actor's own."""
        token = SECRET if root else mint_token(SECRET, actor or "operators/nobody")
        dialer = Dialer({"memory": self.target}, token=token, actor=actor if root else None)
        assert self.host is not None
        dialer.add_handlers(self.host.local_handlers)
        self.dialers.append(dialer)
        return memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory"))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    async def put(self, text: str, *, bot: str = "main", **fields: Any) -> memory_pb2.Memory:
        """The memory as stored. `fields` are those of a draft, or else of its memory."""
        response = await self.stub.PutMemory(put_request(text, bot=bot, **fields))
        return response.result.memory

    async def get(self, name: str) -> memory_pb2.Memory:
        return (await self.stub.GetMemory(pb.GetMemoryRequest(name=name))).memory

    async def update(self, memory: memory_pb2.Memory, *paths: str, **fields: Any) -> memory_pb2.Memory:
        request = pb.UpdateMemoryRequest(memory=memory, **fields)
        if paths:
            request.update_mask.CopyFrom(FieldMask(paths=paths))
        return (await self.stub.UpdateMemory(request)).memory

    async def delete(self, name: str, **fields: Any) -> memory_pb2.Memory:
        return (await self.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name, **fields))).memory

    async def undelete(self, name: str, **fields: Any) -> memory_pb2.Memory:
        return (await self.stub.UndeleteMemory(pb.UndeleteMemoryRequest(name=name, **fields))).memory

    async def restore(self, name: str, version: int, **fields: Any) -> memory_pb2.Memory:
        request = pb.RestoreMemoryVersionRequest(name=f"{name}/versions/{version}", **fields)
        return (await self.stub.RestoreMemoryVersion(request)).memory

    async def versions(self, name: str, **fields: Any) -> list[memory_pb2.MemoryVersion]:
        response = await self.stub.ListMemoryVersions(pb.ListMemoryVersionsRequest(parent=name, **fields))
        return list(response.versions)

    async def listed(self, *, bot: str = "main", **fields: Any) -> list[str]:
        """The texts of the first page."""
        response = await self.stub.ListMemories(pb.ListMemoriesRequest(parent=f"bots/{bot}", **fields))
        return [memory.text for memory in response.memories]

    async def selected(self, **conditions: Any) -> set[str]:
        """The texts that a filter selects."""
        return set(await self.listed(filter=memory_pb2.MemoryFilter(**conditions)))

    async def search(
        self, query: str, *, bot: str = "main", **fields: Any
    ) -> memory_service_pb2.SearchMemoriesResponse:
        return await self.stub.SearchMemories(pb.SearchMemoriesRequest(parent=f"bots/{bot}", query=query, **fields))

    async def found(self, query: str, *, bot: str = "main", **fields: Any) -> list[str]:
        """The texts of the hits, the best first."""
        return [hit.memory.text for hit in (await self.search(query, bot=bot, **fields)).hits]

    async def stats(self, name: str = "bots/main") -> memory_service_pb2.MemoryStats:
        return (await self.stub.GetMemoryStats(pb.GetMemoryStatsRequest(name=name))).stats

    async def put_block(
        self, block_id: str, *, bot: str = "main", paths: tuple[str, ...] = (), **fields: Any
    ) -> block_pb2.Block:
        options = {name: fields.pop(name) for name in ("must_be_new", "request_id") if name in fields}
        block = block_pb2.Block(name=f"bots/{bot}/blocks/{block_id}", **fields)
        request = pb.PutBlockRequest(block=block, **options)
        if paths:
            request.update_mask.CopyFrom(FieldMask(paths=paths))
        return (await self.stub.PutBlock(request)).block


def draft(text: str, **fields: Any) -> memory_pb2.MemoryDraft:
    """`fields` are those of a draft, or else of its memory."""
    own = {name: fields.pop(name) for name in ("memory_id", "ttl", "dedupe", "near_duplicate_limit") if name in fields}
    return memory_pb2.MemoryDraft(memory=memory_pb2.Memory(text=text, **fields), **own)


def put_request(text: str, *, bot: str = "main", request_id: str = "", **fields: Any) -> pb.PutMemoryRequest:
    return pb.PutMemoryRequest(parent=f"bots/{bot}", draft=draft(text, **fields), request_id=request_id)


def struct(**values: Any) -> Struct:
    document = Struct()
    document.update(values)
    return document


async def refused(call: Awaitable[Any]) -> AppError:
    """The error that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def refusal(call: Awaitable[Any]) -> tuple[str, str]:
    """The code and the reason of that error."""
    error = await refused(call)
    return error.code, error.reason
