"""`mobot up`: starts everything, keeps it running, and says what to do next."""

import argparse
import asyncio
import functools
import os
import random
import resource
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobot_cli import detached, instance, logfile, preflight, processes
from mobot_cli.child import Child
from mobot_cli.layout import SERVICES, Layout, layout_of
from mobot_cli.preflight import Listener
from mobot_cli.restart_policy import RestartPolicy
from mobot_cli.screen import Screen
from mobot_cli.supervisor import EXIT_SETTINGS, Supervisor

_EARLIER_CHILDREN_PATIENCE_S = 20.0  # more than the grace that chassis/lifeline.py gives them
_DEMO_TIMEOUT_S = 20.0
_MANY_FILES = 65_536


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The flags of `mobot up`; None leaves a setting to the environment."""

    data_dir: Path | None = None
    port: int | None = None
    isolated: bool = False
    gateway_apart: bool = False
    demo: bool = True
    detach: bool = False
    announce_fd: int | None = None
    """Where to write what a person should know, instead of standard output, when all is ready."""


def main(arguments: Sequence[str]) -> int:
    """Reads the flags and runs; argparse, because the supervisor must stay small (mobot_cli/__main__.py)."""
    parser = argparse.ArgumentParser(
        prog="mobot up",
        description="Start everything, keep it running, and say what to open. Ctrl-C stops it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where databases, token and logs are kept (default: $MOBOT_DATA_DIR, else ~/.mobot)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        help="the gateway's port, 0 for any free one (default: $MOBOT_PORT, else 18789)",
    )
    parser.add_argument("--isolated", action="store_true", help="run one process for each service and the gateway")
    parser.add_argument(
        "--gateway-apart",
        action="store_true",
        help="run the gateway in a process of its own, not in the core (also: MOBOT_GATEWAY_APART=true)",
    )
    parser.add_argument(
        "--no-demo", dest="demo", action="store_false", help="do not make the demo bots on the very first start"
    )
    parser.add_argument("--detach", action="store_true", help="return when all is ready; `mobot down` stops it")
    parser.add_argument("--announce-fd", type=int, help=argparse.SUPPRESS)
    options = UpOptions(**vars(parser.parse_args(arguments)))
    return up(options, arguments)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)


def up(options: UpOptions, arguments: Sequence[str]) -> int:
    """Runs until Ctrl-C, SIGTERM, or a failure; returns the exit code.

    0 after a stop that was asked for, 1 when a process could not be kept alive or mobot is already running on the data
    directory, 2 when the settings cannot work (a port in use, a directory that cannot be written).
    """
    screen = Screen(sys.stderr, sys.stdout)
    layout = layout_of(options.data_dir, os.environ)
    try:
        if options.detach:
            return detached.start(layout, [each for each in arguments if each != "--detach"], screen)
        return asyncio.run(_run(layout, options, screen))
    except preflight.CannotStart as problem:
        screen.error(str(problem))
        return EXIT_SETTINGS
    except (instance.AlreadyRunning, instance.ChildrenRemain) as problem:
        screen.error(str(problem))
        return 1
    except KeyboardInterrupt:  # before the supervisor took over the signal: nothing was started yet
        return 130


def _allow_many_files() -> None:
    """Raises the limit of open files for the children to inherit: the usual 1,024 is less than the gateway needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(_MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(layout: Layout, options: UpOptions, screen: Screen) -> int:
    _allow_many_files()
    wanted = processes.listeners(port=options.port, environment=os.environ)
    preflight.prepare(layout)
    held = await instance.claim(layout, patience_s=_EARLIER_CHILDREN_PATIENCE_S)
    try:
        ports = preflight.settle_ports(wanted)
        instance.say_addresses(layout, {each.process: each.address for each in ports})
        children = processes.children(
            layout,
            ports,
            isolated=options.isolated,
            gateway_apart=options.gateway_apart or preflight.flag("MOBOT_GATEWAY_APART", os.environ),
            environment=os.environ,
        )
        for child in children:
            logfile.rotate(child.log_file)
        screen.progress(f"starting {', '.join(child.name for child in children)}; data in {layout.data_dir}")
        supervisor = Supervisor(
            children,
            policy=RestartPolicy(),
            screen=screen,
            chance=random.Random(),
            inherited=(held.children_lock,),
        )
        return await supervisor.run(functools.partial(_when_ready, layout, options, ports, screen))
    finally:
        instance.clear(layout)
        held.release()


async def _when_ready(layout: Layout, options: UpOptions, ports: Sequence[Listener], screen: Screen) -> None:
    took_s = screen.elapsed_s()
    if not layout.demo_marker.exists():
        if options.demo:
            await _make_demo_bots(layout, screen)
        else:
            layout.demo_marker.touch()
    if options.announce_fd is not None:
        with os.fdopen(options.announce_fd, "w") as announcement:
            screen = Screen(sys.stderr, announcement)
            screen.table(f"mobot is up ({took_s:.1f} s)", _what_next(layout, options, ports))
    else:
        screen.table(f"mobot is up ({took_s:.1f} s)", _what_next(layout, options, ports))


async def _make_demo_bots(layout: Layout, screen: Screen) -> None:
    """Runs mobot_cli/demo.py once, as a process of its own because it needs grpc and the supervisor must stay small."""
    child = await Child.start(processes.demo(layout, os.environ))
    try:
        async with asyncio.timeout(_DEMO_TIMEOUT_S):
            code = await child.ended()
    except TimeoutError:
        code = None
    finally:
        await child.kill()
        child.close()
    if code != 0:
        screen.warning("the demo bots could not be made; the next start tries again", child.last_lines(3))


def _own_command() -> str:
    """How to type this very program where the person is: by name when the shell finds it so, else by its path."""
    program = Path(sys.executable).with_name("mobot")
    found = shutil.which("mobot")
    if not program.exists() or (found is not None and Path(found).resolve() == program.resolve()):
        return "mobot"
    return shlex.quote(str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program))


def _what_next(layout: Layout, options: UpOptions, ports: Sequence[Listener]) -> list[tuple[str, str]]:
    (at,) = (each.address for each in ports if each.process == "gateway")
    given = os.environ.get("MOBOT_TOKEN")
    token, kept_in = (given, "MOBOT_TOKEN") if given else (layout.token_file.read_text().strip(), layout.token_file)
    services = [f"{each.process} {each.address}" for each in ports if each.process in SERVICES]
    # What was said by flag here must be said to the next command too; what the environment says it knows by itself.
    elsewhere = f"MOBOT_DATA_DIR={shlex.quote(str(layout.data_dir))} " if options.data_dir is not None else ""
    command = _own_command()
    return [
        ("Open", f"http://{at}/#token={token}"),
        ("OpenClaw", f"openclaw tui --url ws://{at} --token {token}"),
        ("gRPC", ", ".join(services)),
        ("", f"authorization: Bearer <token>; the token is in {kept_in}"),
        ("Try", f'{elsewhere}{command} send main "hello"'),
        ("", f"{elsewhere}{command} sessions"),
        ("Logs", str(layout.log_dir)),
        ("Stop", "Ctrl-C" if options.announce_fd is None else f"{elsewhere}{command} down"),
    ]
