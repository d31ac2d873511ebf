"""A plugin of every test run: the run fails when it leaves a temporary file, a process or a listening socket behind.

Whatever the run and its processes make in the system's temporary directory goes into one directory of the run's own,
named in TMPDIR; so what is left can be seen, whose it is can be told, and it is gone when the run is over. What comes
from `tmp_path` lies elsewhere, and pytest looks after it.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

_PREFIX = "mobot-tests-"
_ROOM_BYTES = 6 << 30
# What a native gRPC server that a test killed could not take with it; the next start does (chassis.native_server).
_OF_THE_KILLED = "pygrpc-native-"


class Tidiness:
    def __init__(self, scratch: Path, *, patience_s: float) -> None:
        self._scratch = scratch
        self._patience_s = patience_s
        self._first_seen: dict[str, str] = {}
        self._left: list[str] = []

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        for name in os.listdir(self._scratch):
            self._first_seen.setdefault(name, nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._left += [f"process {described}" for described in self._surviving_processes()]
        self._left += [f"listening socket {address}" for address in _listening()]
        for name in sorted(os.listdir(self._scratch)):
            if name.startswith(_OF_THE_KILLED):
                continue
            since = self._first_seen.get(name, "something outside of the tests")
            self._left.append(f"{self._scratch / name}, first seen after {since}")
        if self._left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section("LEFT BEHIND, so this run has failed", red=True)
            for line in self._left:
                terminalreporter.line(line)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _surviving_processes(self) -> list[str]:
        """Those that this run started, also when whoever started them has gone; they are ended."""
        ours = {process: _describe(process) for process in psutil.process_iter() if self._is_ours(process)}
        _, surviving = psutil.wait_procs(ours, timeout=self._patience_s)
        for process in surviving:
            process.kill()
        return [ours[process] for process in surviving]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.pid != os.getpid() and process.environ().get("TMPDIR") == str(self._scratch)
        except psutil.Error:
            return False  # it has ended meanwhile, or is somebody else's


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)


def _listening() -> list[str]:
    connections = psutil.Process().net_connections(kind="inet")
    return [f"{each.laddr.ip}:{each.laddr.port}" for each in connections if each.status == psutil.CONN_LISTEN]


def pytest_addoption(parser: pytest.Parser) -> None:
    explained = "seconds that processes have to end after the last test"
    parser.addoption("--tidiness-patience", type=float, default=30.0, metavar="S", help=explained)


def pytest_configure(config: pytest.Config) -> None:
    place = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _place())
    _sweep(Path(place))
    scratch = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)
    os.chmod(scratch, 0o755)  # the database server runs as another user
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    tidiness = Tidiness(Path(scratch), patience_s=config.getoption("--tidiness-patience"))
    config.pluginmanager.register(tidiness, "mobot-tidiness")


def _sweep(place: Path) -> None:
    """Removes what runs that were killed could not."""
    for left in place.glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _place() -> str:
    """Memory where there is room: every store of a test waits for the disk at each commit, for nothing.

    What a test kills loses no more there than on a disk: only the machine's own end would tell the two apart.
    """
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= _ROOM_BYTES:
        return str(memory)
    return tempfile.gettempdir()
