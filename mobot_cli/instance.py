"""One mobot per data directory, guarded by two file locks, which the kernel releases however a process ends.

`mobot.pid` is locked by the supervisor alone: a second `mobot up` finds it locked and reads the pid of the first.
`children.lock` is inherited by every child: after `kill -9` of a supervisor it stays locked until the last child has
drained, so a new start cannot put a second core on the same databases.
"""

import asyncio
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobot_cli.layout import Layout

_POLL_S = 0.05
_GLANCE_S = 0.2  # longer than `running_pid` holds its shared lock


class AlreadyRunning(Exception):
    """Another supervisor serves this data directory."""

    def __init__(self, layout: Layout, pid: int | None) -> None:
        super().__init__(
            f"mobot is already running on {layout.data_dir} (pid {pid or 'unknown'}). Stop it with "
            f"`kill {pid or '<pid>'}`, or start another one elsewhere: mobot up --data-dir <dir> --port <port>"
        )
        self.pid = pid


class ChildrenRemain(Exception):
    """Processes of a supervisor that was killed are still there."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(
            f"processes of an earlier `mobot up` on {layout.data_dir} are still running; "
            f"`fuser {layout.children_lock}` lists them"
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """The held locks, as file descriptors. `children_lock` is handed down to every child."""

    pid_lock: int
    children_lock: int

    def release(self) -> None:
        os.close(self.pid_lock)
        os.close(self.children_lock)


def running_pid(layout: Layout) -> int | None:
    """The pid of the supervisor that serves this data directory now, if any."""
    try:
        descriptor = os.open(layout.pid_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(descriptor, fcntl.LOCK_SH) else _read_pid(descriptor)
    finally:
        os.close(descriptor)


def addresses(layout: Layout) -> Mapping[str, str]:
    """The TCP addresses of the running mobot by process ("gateway" -> "127.0.0.1:18789"); empty when none runs."""
    if running_pid(layout) is None or not layout.addresses_file.exists():
        return {}
    found: dict[str, str] = json.loads(layout.addresses_file.read_text())
    return found


def say_addresses(layout: Layout, found: Mapping[str, str]) -> None:
    """Leaves the addresses where `addresses` finds them; whoever reads meanwhile sees the old ones or the new."""
    draft = layout.addresses_file.with_suffix(".new")
    draft.write_text(json.dumps(dict(found)))
    draft.replace(layout.addresses_file)


def clear(layout: Layout) -> None:
    """Takes away what only a running mobot needs, and the place of its sockets where they lie outside of its data."""
    layout.addresses_file.unlink(missing_ok=True)
    if not layout.run_dir.is_relative_to(layout.data_dir):
        shutil.rmtree(layout.run_dir, ignore_errors=True)


async def claim(layout: Layout, *, patience_s: float) -> Instance:
    """Takes both locks; waits up to `patience_s` for the children of a killed supervisor to drain.

    Raises:
        AlreadyRunning: another supervisor has this data directory.
        ChildrenRemain: the children of an earlier one did not end in time.
    """
    pid_lock = _open(layout.pid_file)
    if not await _lock_within(_GLANCE_S, pid_lock):
        pid = _read_pid(pid_lock)
        os.close(pid_lock)
        raise AlreadyRunning(layout, pid)
    os.ftruncate(pid_lock, 0)
    os.pwrite(pid_lock, f"{os.getpid()}\n".encode(), 0)
    children_lock = _open(layout.children_lock)
    if not await _lock_within(patience_s, children_lock):
        os.close(pid_lock)
        os.close(children_lock)
        raise ChildrenRemain(layout)
    return Instance(pid_lock, children_lock)


async def _lock_within(patience_s: float, descriptor: int) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)  # the kernel tells nobody when a lock becomes free
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None
