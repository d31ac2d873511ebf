"""The four services as a command dials them, and every failure as one readable line."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
import typer

from chassis.channel import Dialer
from chassis.errors import DRAINING, AppError, Unavailable
from chassis.settings import SettingsError, load, root_token
from chassis.status import from_rpc_error
from mobot.memory.v1 import memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2_grpc
from mobot.router.v1 import router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2_grpc
from mobot_cli.settings import CliSettings

EXIT_FAILED = 1
METHOD_UNIMPLEMENTED = "METHOD_UNIMPLEMENTED"
EXIT_WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Services:
    """Stubs of the services, dialled when first called."""

    settings: CliSettings
    registry: "registry_service_pb2_grpc.RegistryServiceAsyncStub"
    session: "session_service_pb2_grpc.SessionServiceAsyncStub"
    memory: "memory_service_pb2_grpc.MemoryServiceAsyncStub"
    router: "router_service_pb2_grpc.RouterServiceAsyncStub"


@asynccontextmanager
async def dialled(settings: CliSettings) -> AsyncIterator[Services]:
    dialer = Dialer(settings.targets(), token=root_token(settings, create=False), actor="operators/root")
    try:
        yield Services(
            settings,
            registry_service_pb2_grpc.RegistryServiceStub(dialer.dial("registry")),
            session_service_pb2_grpc.SessionServiceStub(dialer.dial("session")),
            memory_service_pb2_grpc.MemoryServiceStub(dialer.dial("memory")),
            router_service_pb2_grpc.RouterServiceStub(dialer.dial("router")),
        )
    finally:
        await dialer.close()


def run(command: Callable[[Services], Awaitable[None]]) -> None:
    """Runs a command against the services.

    Raises:
        typer.Exit: 1 when a service refused or does not answer, 2 when the settings are wrong; the cause was printed.
    """

    async def inside() -> None:
        async with dialled(load(CliSettings)) as services:
            await command(services)

    try:
        asyncio.run(inside())
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"mobot: {problem}\n")
        raise typer.Exit(EXIT_WRONG_SETTINGS) from None
    except grpc.aio.AioRpcError as error:
        raise _failed(from_rpc_error(error)) from None
    except AppError as error:
        raise _failed(error) from None
    except UnicodeEncodeError as error:
        if error.encoding != "utf-8":
            raise
        sys.stderr.write("mobot: an argument is not UTF-8\n")
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # The reader of a pipe had enough (`mobot history | head`); leave without a complaint at exit either.
        sys.stderr.close()
        raise typer.Exit(0) from None


_WAYS_OUT: Final = {
    "BOT_NOT_FOUND": "`mobot bots` lists the bots, `mobot bots create` makes one.",
    "SESSION_NOT_FOUND": "`mobot sessions` lists the sessions.",
    "MEMORY_NOT_FOUND": "`mobot memory list BOT` lists a bot's memories.",
}
"""What a person does next, by reason."""


# gRPC's words for it: "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:50052: Failed to ..."
_NOBODY_THERE: Final = re.compile(
    r"(?:failed to connect to all addresses|connections to all backends failing); last error: \w+: (?:ipv[46]:)?(\S+): "
)


def readable(error: AppError) -> str:
    """What went wrong, for people."""
    nobody = _NOBODY_THERE.match(error.message) if isinstance(error, Unavailable) else None
    if nobody:
        return f"nothing answers at {nobody[1]}"
    if error.reason == METHOD_UNIMPLEMENTED:
        call = error.metadata.get("method", "this").rpartition("/")[2]
        return f"the mobot that runs here does not serve {call} yet; a newer version may"
    return error.message


def _failed(error: AppError) -> typer.Exit:
    sys.stderr.write(f"mobot: {readable(error)}\n")
    for violation in error.violations:
        if violation.description not in error.message:
            sys.stderr.write(f"  {violation.field}: {violation.description}\n")
    if isinstance(error, Unavailable) and error.reason in ("", DRAINING):
        sys.stderr.write("Is mobot running? `mobot up` starts it, `mobot doctor` says what is wrong.\n")
    elif error.reason:
        sys.stderr.write(f"  reason: {error.reason}\n")
        if error.retry_after_s:
            sys.stderr.write(f"Try again in {error.retry_after_s:g} s.\n")
        if error.reason in _WAYS_OUT:
            sys.stderr.write(f"{_WAYS_OUT[error.reason]}\n")
    return typer.Exit(EXIT_FAILED)
