"""The real OpenClaw gateway as a peer: installed from npm into a cache, with a home of its own and a loopback model.

Sessions are put into its store before it starts by its own importer of the older format: creating ten thousand through
its protocol takes twenty minutes.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from websockets.exceptions import WebSocketException

from benchmarks.processes import end, free_port, launch, running, say
from benchmarks.web_client import RequestRefused, WebClient

VERSION = "2026.9.6"
NODE_PACKAGE = "node@24"
TOKEN = "peer-token-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class OpenClaw:
    """A running gateway; `cold_start_s` is from its start to the first accepted `connect`."""

    pid: int
    url: str
    cold_start_s: float


@dataclass(frozen=True, slots=True)
class Installation:
    node: Path
    program: Path


def cache() -> Path:
    """Where what comes from npm is kept, once for each user."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mobot"


def install() -> Installation:
    """Node and the package from npm, once; kept in the user's cache."""
    program = cache() / f"openclaw-{VERSION}" / "package" / "node_modules" / "openclaw" / "openclaw.mjs"
    node = install_node()
    if not program.exists():
        # The post-install only warns about the Node that npm runs on.
        _install(program.parents[2], f"openclaw@{VERSION}", "--ignore-scripts")
    return Installation(node, program)


def install_node() -> Path:
    """The Node that the package wants, from npm, once; kept in the user's cache."""
    node = cache() / f"openclaw-{VERSION}" / "node" / "node_modules" / "node" / "bin" / "node"
    if not node.exists():
        _install(node.parents[3], NODE_PACKAGE)  # its own post-install puts the binary in place
    return node


def _install(folder: Path, package: str, *options: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("the peer needs npm; on Debian: apt-get install npm")
    say(f"installing {package} from npm (once)")
    folder.mkdir(parents=True, exist_ok=True)
    quietly = ["--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(
        [npm, "install", "--prefix", str(folder), *quietly, *options, package], check=True, stdout=subprocess.DEVNULL
    )


def write_home(home: Path, *, port: int, model_port: int, sessions: int) -> None:
    """The peer's home: its settings, and a store of `sessions` sessions in the older format."""
    state = home / ".openclaw"
    store = state / "agents" / "main" / "sessions"
    store.mkdir(parents=True)
    model = {
        "id": "fake-1",
        "name": "Fake",
        "contextWindow": 100_000,
        "maxTokens": 4096,
        "input": ["text"],
        "reasoning": False,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }
    provider = {
        "baseUrl": f"http://127.0.0.1:{model_port}/v1",
        "apiKey": "none",
        "api": "openai-completions",
        "models": [model],
    }
    configuration = {
        "gateway": {"mode": "local", "port": port, "bind": "loopback", "auth": {"mode": "token", "token": TOKEN}},
        "models": {"mode": "replace", "providers": {"fake": provider}},
        "agents": {"defaults": {"model": {"primary": "fake/fake-1"}}},
    }
    (state / "openclaw.json").write_text(json.dumps(configuration))
    now = int(time.time() * 1000)
    entries = {}
    for number in range(sessions):
        session = str(uuid.uuid4())
        transcript = store / f"{session}.jsonl"
        opening = {
            "type": "session",
            "version": 3,
            "id": session,
            "timestamp": "2026-11-21T00:00:00.000Z",
            "cwd": str(home),
        }
        transcript.write_text(json.dumps(opening) + "\n")
        entries[f"agent:main:bench:{number}"] = {
            "sessionId": session,
            "updatedAt": now - number * 1000,
            "systemSent": True,
            "abortedLastRun": False,
            "chatType": "direct",
            "sessionFile": str(transcript),
            "label": f"Bench {number}",
            "compactionCount": 0,
        }
    if entries:
        (store / "sessions.json").write_text(json.dumps(entries))


def environment(installation: Installation, home: Path) -> dict[str, str]:
    """What the peer's programs are started with."""
    return {
        **os.environ,
        "HOME": str(home),
        "OPENCLAW_STATE_DIR": str(home / ".openclaw"),
        "PATH": f"{installation.node.parent}:{os.environ['PATH']}",
    }


@contextlib.asynccontextmanager
async def openclaw_up(directory: Path, *, sessions: int) -> AsyncIterator[OpenClaw]:
    """A gateway with `sessions` sessions in its store."""
    installation = install()
    port, model_port = free_port(), free_port()
    home = directory / "home"
    write_home(home, port=port, model_port=model_port, sessions=sessions)
    env = environment(installation, home)
    command = [str(installation.node), str(installation.program)]
    log = directory / "openclaw.log"
    if sessions:
        say(f"putting {sessions} sessions into the peer's store")
        with log.open("ab") as sink:
            importing = await launch(
                *command, "doctor", "--fix", "--non-interactive", env=env, stdout=sink, stderr=sink
            )
            if await importing.wait() != 0:
                raise RuntimeError(f"the peer's importer failed; see {log}")
    model = [sys.executable, "-m", "benchmarks.fake_model", str(model_port)]
    async with running(model, log=directory / "model.log"):
        with log.open("ab") as sink:
            start = time.perf_counter()
            process = await launch(*command, "gateway", "--port", str(port), env=env, stdout=sink, stderr=sink)
        try:
            url = f"ws://127.0.0.1:{port}/"
            async with asyncio.timeout(120):
                await _first_connect(url)
            yield OpenClaw(process.pid, url, time.perf_counter() - start)
        finally:
            await end(process)


async def _first_connect(url: str) -> None:
    while True:
        # While it starts, it refuses the socket, closes it, or answers UNAVAILABLE.
        with contextlib.suppress(OSError, RequestRefused, WebSocketException, TimeoutError):
            async with WebClient(url, TOKEN):
                return
        await asyncio.sleep(0.05)  # the poll interval of a client, not a synchronisation
