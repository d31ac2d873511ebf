"""What must hold before any process is started: a directory that can be written, ports that are free."""

import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobot_cli.layout import Layout


class CannotStart(Exception):
    """The settings cannot work as they are; the message says which one and what to do. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP address some process will listen on, and the setting it comes from. Port 0 means any free one."""

    process: str
    host: str
    port: int
    variable: str


def listener(process: str, host: str, variable: str, default: int, environment: Mapping[str, str]) -> Listener:
    """Reads a port setting.

    Raises:
        CannotStart: it is not a port number.
    """
    text = environment.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise CannotStart(f"{variable}={text}: a port is a number from 0 to 65535 (0 means any free one)")
    return Listener(process, host, int(text), variable)


def check_ports(listeners: Sequence[Listener]) -> None:
    """Raises:
    CannotStart: two settings name the same port, or a port cannot be listened on.
    """
    taken: dict[tuple[str, int], str] = {}
    for each in listeners:
        if each.port == 0:
            continue
        other = taken.setdefault((each.host, each.port), each.variable)
        if other != each.variable:
            raise CannotStart(f"{other} and {each.variable} are both {each.port}: each process needs a port of its own")
        _check_port(each)


def _check_port(each: Listener) -> None:
    way_out = f"Stop whatever uses it, or set {each.variable} to another port (0 means any free one)."
    if each.variable == "MOBOT_PORT":
        way_out = "Stop whatever uses it, or choose another port: mobot up --port <port> (or MOBOT_PORT)."
    family = socket.AF_INET6 if ":" in each.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection that is only being closed does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((each.host, each.port))
            probe.listen(1)
        except OSError as error:
            what = {
                errno.EADDRINUSE: "is in use by another program",
                errno.EACCES: "may not be used by this user",
            }.get(error.errno or 0, f"cannot be used: {error.strerror}")
            raise CannotStart(
                f"port {each.port} on {each.host}, wanted by {each.process}, {what}. {way_out}"
            ) from error


def prepare(layout: Layout) -> None:
    """Makes the data directory and its folders, for this user alone.

    Raises:
        CannotStart: one of them cannot be made or written.
    """
    for directory in (layout.data_dir, layout.log_dir, layout.run_dir):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _prove_writable(directory)
        except OSError as error:
            raise CannotStart(
                f"data directory {layout.data_dir} cannot be used: {directory}: {error.strerror}. Choose one that this "
                f"user may write: mobot up --data-dir <dir> (or MOBOT_DATA_DIR)."
            ) from error
    if not layout.run_dir.is_relative_to(layout.data_dir):
        _prove_private(layout.run_dir)


def _prove_writable(directory: Path) -> None:
    # Permission bits do not tell about read-only or full file systems; a file does.
    probe = directory / f".probe-{os.getpid()}"
    probe.write_bytes(b"?")
    probe.unlink()


def _prove_private(directory: Path) -> None:
    """The temp directory is everybody's: somebody else's directory of the expected name would receive our traffic."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CannotStart(
            f"{directory} must hold the sockets (the data directory's own path is too long for them), but is not a "
            f"directory of this user alone (0700). Remove it, or choose a data directory with a shorter path."
        )
