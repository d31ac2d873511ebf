"""A server whose HTTP/2 runs in Rust, outside the interpreter's lock: for plain TCP, with `mobot[fast]`, where chosen.

It takes the same servicers and interceptors as grpc.aio's and costs a tenth of its CPU for a unary call. Calls with
streaming requests it hands to a grpc.aio server behind it. TLS it does not speak; for Unix sockets, whose callers
mostly stream, it would be a detour. A server stream whose reader is behind holds one of the loop's threads until the
reader goes on.
"""

import importlib
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import grpc.aio

from chassis.errors import FailedPrecondition

GrpcFront = Literal["auto", "native", "aio"]
"""Who serves plain TCP: the native server, grpc.aio, or the native one where it is installed."""
_SETTLED_S = 60.0


def native_server(
    front: GrpcFront, *, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
) -> grpc.aio.Server | None:
    """A native server for one address; None where grpc.aio shall serve it.

    Raises:
        FailedPrecondition: `front` is "native" and it is not installed.
    """
    if front == "aio":
        return None
    try:
        native = importlib.import_module("pygrpc_native.aio")
    except ImportError as error:
        if front == "auto":
            return None
        raise FailedPrecondition(
            "MOBOT_GRPC_FRONT is native, which needs `pip install mobot[fast]`: install it, or set auto or aio",
            metadata={"setting": "MOBOT_GRPC_FRONT"},
        ) from error
    _sweep()
    return cast(grpc.aio.Server, native.server(interceptors=interceptors, options=options))


def _sweep() -> None:
    """Removes the places of native servers that were killed: a server takes its own away only when it is stopped."""
    for path in Path(tempfile.gettempdir()).glob("pygrpc-native-*/fallback.sock"):
        try:
            if time.time() - path.stat().st_mtime < _SETTLED_S:
                continue  # its server may be about to listen
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
        except ConnectionRefusedError:
            shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:
            continue  # gone meanwhile, or somebody else's
