"""The core process with four small services in the place of the real ones."""

import os
import signal
import socket
import subprocess
import sys

import grpc
import pytest

from chassis import lifeline
from chassis.channel import Dialer

SETTINGS = """
from pathlib import Path
from pydantic_settings import SettingsConfigDict
from chassis.settings import ListenSettings

class {Name}Settings(ListenSettings):
    model_config = SettingsConfigDict(env_prefix="MOBOT_{NAME}_")
    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None
"""

# `Ask` answers with the caller; of the session service, with what the registry service answers to it.
MAIN = """
import os, threading
import grpc
from chassis.errors import FailedPrecondition
from chassis.identity import caller
from chassis.server import Service

FULL_NAME = "test.{name}.Service"

async def compose(settings, chassis, *, dialer, clock, telemetry):
    if os.environ.get("FAKE_BROKEN") == "{name}":
        raise FailedPrecondition("the data belongs to a newer version")
    stop = threading.Event()
    threading.Thread(target=stop.wait).start()  # as a store's writer: keeps the process alive until it is closed
    registry = dialer.dial("registry").unary_unary("/test.registry.Service/Ask")

    async def ask(request, context):
        return await registry(b"") if "{name}" == "session" else caller().principal.encode()

    async def nothing():
        pass

    async def close():
        with open(os.environ["FAKE_JOURNAL"], "a") as file:
            file.write("closed {name} 0\\n")
        stop.set()

    async def ready():
        return True

    handlers = {{"Ask": grpc.unary_unary_rpc_method_handler(ask)}}
    return Service(
        name="{name}", full_name=FULL_NAME, servicer=None, ready=ready, end_watches=nothing, close=close,
        register=lambda _, server: server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(FULL_NAME, handlers),)
        ),
    )
"""


@pytest.fixture
def core(tmp_path, journal):
    """Starts the core on its lifeline; gives the process, the supervisor's end, and what it wrote."""
    for name in ("registry", "session", "memory", "router"):
        package = tmp_path / "packages" / f"{name}_service"
        package.mkdir(parents=True)
        names = {"name": name, "Name": name.capitalize(), "NAME": name.upper()}
        (package / "__init__.py").touch()
        (package / "settings.py").write_text(SETTINGS.format(**names))
        (package / "__main__.py").write_text(MAIN.format(**names))
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    started = []

    def start(**environment):
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mobot_cli.core"],
                env={
                    **os.environ,
                    "PYTHONPATH": str(tmp_path / "packages"),
                    "MOBOT_DATA_DIR": str(tmp_path / "data"),
                    "MOBOT_TOKEN": "t0ken",
                    lifeline.ENVIRONMENT_VARIABLE: str(theirs.fileno()),
                    **environment,
                },
                pass_fds=(theirs.fileno(),),
                stderr=subprocess.PIPE,
                text=True,
            )
        started.append(process)
        return process, ours

    yield start
    ours.close()
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


async def test_services_answer_on_their_sockets_and_call_each_other_by_name(core, tmp_path, journal):
    process, line = core()
    assert line.recv(100) == b"ready\n"
    targets = {
        "session": f"unix:{tmp_path}/data/run/session.sock",
        "registry": f"unix:{tmp_path}/data/run/registry.sock",
    }
    dialer = Dialer(targets, token="t0ken", actor=None)
    try:
        ask = dialer.dial("session").unary_unary("/test.session.Service/Ask")
        assert await ask(b"") == b"services/session"
        ask = dialer.dial("registry").unary_unary("/test.registry.Service/Ask")
        assert await ask(b"") == b"operators/root"
    finally:
        await dialer.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert journal.events() == ["closed router", "closed memory", "closed session", "closed registry"]


def test_data_of_a_newer_version_ends_it_with_two_and_closes_what_was_open(core, journal):
    process, _ = core(FAKE_BROKEN="memory")
    assert process.wait(20) == 2
    assert process.stderr.read() == "mobot: the data belongs to a newer version\n"
    assert journal.events() == ["closed session", "closed registry"]


def test_a_port_in_use_ends_it_with_two_and_is_named(core, journal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process, _ = core(MOBOT_SESSION_PORT=str(port))
        assert process.wait(20) == 2
    assert f"127.0.0.1:{port} is in use by another process: stop it, or set MOBOT_SESSION_PORT" in process.stderr.read()
    assert sorted(journal.events()) == ["closed memory", "closed registry", "closed router", "closed session"]


def test_an_unknown_variable_ends_it_with_two(core):
    process, _ = core(MOBOT_COLOUR="red")
    assert process.wait(20) == 2
    assert "MOBOT_COLOUR: no mobot process reads this variable" in process.stderr.read()


async def test_without_a_token_nobody_is_served(core, tmp_path):
    _, line = core()
    assert line.recv(100) == b"ready\n"
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/data/run/memory.sock") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/test.memory.Service/Ask")(b"")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
