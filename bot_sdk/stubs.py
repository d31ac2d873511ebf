"""The four services as a worker calls them, and their failures as `chassis.errors`."""

from collections.abc import Awaitable
from typing import Protocol, TypeVar

import grpc.aio

from chassis import errors, status
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc

T = TypeVar("T")

TRANSIENT = (errors.Unavailable, errors.ResourceExhausted, errors.DeadlineExceeded, errors.Aborted)
"""Failures after which the same call may work a little later."""


class Dials(Protocol):
    """Gives the channel to a service by its short name; `chassis.channel.Dialer` is one."""

    def dial(self, service: str) -> grpc.aio.Channel: ...


class Stubs:
    """One stub for each service."""

    def __init__(self, dialer: Dials) -> None:
        self.registry = registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry"))
        self.session = session_service_pb2_grpc.SessionServiceStub(dialer.dial("session"))
        self.memory = memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory"))
        self.router = router_service_pb2_grpc.RouterServiceStub(dialer.dial("router"))


def acting_for(actor: str) -> tuple[tuple[str, str], ...]:
    """Call metadata that says for whom a call is made, for example "bots/main"."""
    return (("mobot-actor", actor),)


async def answer(call: Awaitable[T]) -> T:
    """The call's answer; its failure is raised as the `chassis.errors` class the service raised."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from error


async def failure_of(call: grpc.aio.Call) -> errors.AppError:
    """Why a stream has ended, for whoever finds it closed when writing."""
    error = grpc.aio.AioRpcError(
        await call.code(),
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*(await call.trailing_metadata() or ())),
        details=await call.details(),
    )
    return status.from_rpc_error(error)
