"""How the ledger calls services that are being killed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

from ledger.model import Refused, Unanswered

T = TypeVar("T")

READ_S = 60.0
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    }
)

# What is killed comes back in a fraction of a second, so a client that doubles its pauses would only wait.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def accepted(call: Awaitable[T]) -> T:
    """The answer to a call that changes something.

    Raises:
        Unanswered: whether it was done is not known; it is to be sent again.
        Refused: it was not done.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in _TRANSIENT:
            raise Unanswered(f"{error.code().name} {error.details()}") from error
        raise Refused(f"{error.code().name} {error.details()}") from error


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeats a read until it is answered, as a patient client does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READ_S
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TRANSIENT or loop.time() > deadline:
                raise
        await asyncio.sleep(0.1)  # a client's pause between two tries
