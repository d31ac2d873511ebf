"""What must hold before any process is started: a directory that can be written, ports that are free."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobot_cli.layout import Layout

# As the settings classes read them (pydantic), which the supervisor does not load.
_ON = frozenset({"1", "true", "t", "yes", "y", "on"})
_OFF = frozenset({"", "0", "false", "f", "no", "n", "off"})


class CannotStart(Exception):
    """The settings cannot work as they are; the message says which one and what to do. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP address some process will listen on, and the setting it comes from. Port 0 means any free one."""

    process: str
    host: str
    port: int
    variable: str

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listener(process: str, host: str, variable: str, default: int, environment: Mapping[str, str]) -> Listener:
    """Reads a port setting.

    Raises:
        CannotStart: it is not a port number.
    """
    text = environment.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise CannotStart(f"{variable}={text}: a port is a number from 0 to 65535 (0 means any free one)")
    return Listener(process, host, int(text), variable)


def flag(variable: str, environment: Mapping[str, str]) -> bool:
    """Reads a setting that is on or off; absent and empty are off.

    Raises:
        CannotStart: it is neither.
    """
    text = environment.get(variable, "").strip().lower()
    if text not in _ON | _OFF:
        raise CannotStart(f"{variable}={environment[variable]}: this is either true or false")
    return text in _ON


def settle_ports(listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Proves that every port can be listened on, and chooses one for every 0.

    Chosen here and not by the process that listens, so that a restarted process is found at the port it had.

    Raises:
        CannotStart: two settings name the same port, or a port cannot be listened on.
    """
    taken: dict[tuple[str, int], str] = {}
    settled: list[Listener] = []
    with contextlib.ExitStack() as held:  # until all are chosen, so that no two are the same
        for each in listeners:
            other = taken.setdefault((each.host, each.port), each.variable) if each.port else each.variable
            if other != each.variable:
                raise CannotStart(f"{other} and {each.variable} are both {each.port}: each needs a port of its own")
            settled.append(replace(each, port=held.enter_context(_listening(each)).getsockname()[1]))
    return tuple(settled)


def _listening(each: Listener) -> socket.socket:
    probe = socket.socket(socket.AF_INET6 if ":" in each.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As the servers do: a connection that is only being closed does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((each.host, each.port))
        probe.listen(1)
    except OSError as error:
        probe.close()
        what = {
            errno.EADDRINUSE: "is in use by another program",
            errno.EACCES: "may not be used by this user",
        }.get(error.errno or 0, f"cannot be used: {error.strerror}")
        way_out = f"Stop whatever uses it, or set {each.variable} to another port (0 means any free one)."
        if each.variable == "MOBOT_PORT":
            way_out = "Stop whatever uses it, or choose another port: mobot up --port <port> (or MOBOT_PORT)."
        raise CannotStart(f"port {each.port} on {each.host}, wanted by {each.process}, {what}. {way_out}") from error
    return probe


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
