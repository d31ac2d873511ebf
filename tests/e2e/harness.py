"""`mobot up` as a user runs it: started in a process group of its own, watched, killed by pid, stopped with Ctrl-C.

Everything is synchronous, so that one running mobot can serve a whole module of tests.
"""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

SERVICES = ("registry", "session", "memory", "router")
DEFAULT_LAYOUT = ("core", "runner")
APART_LAYOUT = ("core", "gateway", "runner")
ISOLATED_LAYOUT = (*SERVICES, "gateway", "runner")
_FLAGS = {DEFAULT_LAYOUT: [], APART_LAYOUT: ["--gateway-apart"], ISOLATED_LAYOUT: ["--isolated"]}
START_PATIENCE_S = 45.0
STOP_PATIENCE_S = 30.0
_POLL_S = 0.02
_MODULES = {
    "core": "mobot_cli.core",
    "gateway": "gateway",
    "runner": "bot_runner",
    **{service: f"{service}_service" for service in SERVICES},
}

T = TypeVar("T")


def wait_for(find: Callable[[], T | None], what: str, timeout_s: float) -> T:
    """Polls until `find` returns something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s")
        time.sleep(_POLL_S)
    return found


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free loopback port for each name; held together until all are chosen, so that no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    try:
        return {name: each.getsockname()[1] for name, each in zip(names, held, strict=True)}
    finally:
        for each in held:
            each.close()


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without any mobot setting, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOBOT_")}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


@dataclass
class Mobot:
    """One data directory with its ports, and the `mobot up` that runs on it, if any."""

    directory: Path
    layout: tuple[str, ...] = DEFAULT_LAYOUT
    settings: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=lambda: free_ports(("gateway", *SERVICES)))
    process: subprocess.Popen[bytes] | None = None
    _starts: int = 0

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def environment(self) -> dict[str, str]:
        """What `mobot up`, and any other command that means this mobot, is started with."""
        home = self.directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        return {
            **clean_environment(home),
            "MOBOT_DATA_DIR": str(self.data_dir),
            "MOBOT_PORT": str(self.ports["gateway"]),
            **{f"MOBOT_{service.upper()}_PORT": str(self.ports[service]) for service in SERVICES},
            **self.settings,
        }

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.ports['gateway']}"

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.ports[service]}"

    def start(self, *, wait: bool = True) -> None:
        """Runs `mobot up`; returns when it has said what to open and the gateway calls itself ready."""
        assert self.process is None, "already started"
        self._starts += 1
        command = [sys.executable, "-m", "mobot_cli", "up", *_FLAGS[self.layout]]
        with self.out_file.open("wb") as out, self.err_file.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        if wait:
            self.wait_announced()
            self.wait_ready()

    @property
    def out_file(self) -> Path:
        return self.directory / f"up-{self._starts}.out"

    @property
    def err_file(self) -> Path:
        return self.directory / f"up-{self._starts}.err"

    def wait_announced(self) -> None:
        wait_for(lambda: self._alive() and b"mobot is up" in self.out_file.read_bytes(), "start", START_PATIENCE_S)

    def wait_ready(self) -> None:
        wait_for(lambda: self._alive() and self.http_status("/readyz") == 200, "/readyz", START_PATIENCE_S)

    def http_status(self, path: str) -> int | None:
        """The status of a GET, None when nobody answers."""
        return self.http_get(path)[0]

    def http_get(self, path: str) -> tuple[int | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["gateway"], timeout=40)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return None, b""
        finally:
            connection.close()

    def pid_of(self, name: str) -> int | None:
        """The pid of a child now, None while there is none."""
        assert self.process is not None
        for child in _children(self.process.pid):
            if _runs_module(child, _MODULES[name]):
                return child.pid
        return None

    def kill(self, name: str) -> None:
        """kill -9 of one child; returns when it is gone, while the supervisor is about to start it again."""
        pid = self.pid_of(name)
        assert pid is not None, f"{name} is not running"
        kill_and_reap([pid])

    def kill_if_there(self, name: str) -> None:
        """kill -9 of a child, if there is one at this moment."""
        pid = self.pid_of(name)
        if pid is not None:
            kill_and_reap([pid])

    def wait_restarted(self, name: str, old_pid: int) -> None:
        """Until the supervisor has called a new process of that name ready."""
        wait_for(lambda: self.pid_of(name) not in (None, old_pid), f"a new {name}", START_PATIENCE_S)
        said = f"{name} ready again".encode()
        wait_for(lambda: self._alive() and said in self.err_file.read_bytes(), f"{name} ready", START_PATIENCE_S)
        self.wait_ready()

    def kill_all(self) -> None:
        """kill -9 of everything, the supervisor included, with none left time to react to the death of another."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # else it starts again what dies a moment before it
        pids = [child.pid for child in _children(self.process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.process.kill()
        kill_and_reap(pids)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Ctrl-C; it must drain and exit 0, and leave no process behind."""
        assert self.process is not None
        children = _children(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(STOP_PATIENCE_S)
        said = self.err_file.read_text()
        self.process = None
        left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        kill_and_reap([child.pid for child in left])
        assert code == 0, said
        assert not left, f"left behind: {left}"

    def clean_up(self) -> None:
        """Ends whatever is left, for tests that failed half-way."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.kill_all()
        self.process = None

    def logs(self) -> str:
        """What all processes logged, for people who look at a failure."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in [self.err_file, *sorted((self.data_dir / "logs").glob("*.log"))]
            if path.exists()
        )

    def _alive(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"mobot up ended with {code}:\n{self.err_file.read_text()}"
        return True


@contextmanager
def running(
    directory: Path, *, layout: tuple[str, ...] = DEFAULT_LAYOUT, settings: Mapping[str, str] | None = None
) -> Iterator[Mobot]:
    """A started mobot that is stopped, or ended whatever happens, at the end."""
    mobot = Mobot(directory, layout=layout, settings=settings or {})
    try:
        mobot.start()
        yield mobot
        if mobot.process is not None:
            mobot.stop()
    finally:
        mobot.clean_up()


@dataclass(frozen=True)
class Finished:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    def json(self) -> object:
        return json.loads(self.out)


def run_command(arguments: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = 30) -> Finished:
    """Runs a command to its end."""
    done = subprocess.run(
        list(arguments),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        start_new_session=True,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_mobot(mobot: Mobot, *arguments: str, timeout_s: float = 30, **settings: str) -> Finished:
    """Runs one `mobot` command as a user of that mobot would."""
    command = [sys.executable, "-m", "mobot_cli", *arguments]
    return run_command(command, {**mobot.environment, **settings}, timeout_s=timeout_s)


def kill_and_reap(pids: Sequence[int]) -> None:
    """kill -9, then waits until the kernel has forgotten them (or they are zombies, which hold nothing)."""
    processes = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            process.kill()
        except psutil.NoSuchProcess:
            continue
        processes.append(process)
    wait_for(lambda: not any(map(_holds_resources, processes)), "death by SIGKILL", 60)


def _holds_resources(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _runs_module(process: psutil.Process, module: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return any(pair == ("-m", module) for pair in itertools.pairwise(command))
