"""Binding a server to an address, with an error that a person can act upon when that fails."""

import errno
import os
import socket
import stat
from pathlib import Path

import grpc
import grpc.aio

from chassis import errors


class PortInUse(errors.FailedPrecondition):
    """Another process listens on the address."""

    reason = "PORT_IN_USE"


def bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None, setting: str) -> int:
    """Listens on "host:port" or "unix:/path" and returns the port (0 for a Unix socket).

    A Unix socket is for this user alone. `setting` is the variable to change, for the error's text.

    Raises:
        PortInUse: another process listens there.
        FailedPrecondition: the address cannot be listened on.
    """
    path = unix_path(address)
    # gRPC removes a socket file that is in its way, also that of a live server, which would then wait for ever.
    if path is not None and _is_answered(path):
        raise _in_use(address, setting)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if credentials is None or path is not None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except (RuntimeError, OSError) as error:
        raise _why(address, path, setting) from error
    if path is None:
        return port
    path.chmod(0o600)
    return 0


def unix_path(address: str) -> Path | None:
    """The path of "unix:/path", "unix:path" or "unix:///path"; None for any other address."""
    if not address.startswith("unix:"):
        return None
    path = address.removeprefix("unix:")
    return Path(path.removeprefix("//"))


def _is_answered(path: Path) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _in_use(address: str, setting: str) -> PortInUse:
    return PortInUse(
        f"{address} is in use by another process: stop it, or set {setting} to another address",
        metadata={"address": address, "setting": setting},
    )


def _why(address: str, path: Path | None, setting: str) -> errors.FailedPrecondition:
    """gRPC says only that binding failed; trying it by hand says why."""
    try:
        if path is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.bind(str(path))
        else:
            host, _, port = address.rpartition(":")
            family, kind, _, _, endpoint = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(endpoint)
                probe.listen()
    except OSError as error:
        if path is None and error.errno == errno.EADDRINUSE:
            return _in_use(address, setting)
        why = error.strerror or str(error)
    except ValueError:
        why = "not host:port or unix:/path"
    else:
        why = "gRPC refused it"
    return errors.FailedPrecondition(
        f"cannot listen on {address} ({why}): set {setting} to another address",
        metadata={"address": address, "setting": setting, "cause": why},
    )
