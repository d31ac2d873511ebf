"""A child's line to the process that supervises it: it says "ready" up the line, and stops when the line breaks.

The supervisor gives each child one end of a socket pair and names its descriptor in the environment variable
`SUPERVISOR_FD` (no `MOBOT_` prefix: it is a fact about this process, not a setting). Two things travel on it:

- up: the line `ready` when the child serves, with the TCP ports it listens on: `ready registry=50051`;
- down: nothing, ever. End of file means that the supervisor is gone, even by `kill -9`: the kernel closes its end.

At end of file the child sends itself SIGTERM, so that it drains as it would for an operator, and is ended hard after
`grace_s`. A process that nobody supervises has no such variable: then `ready` does nothing and nothing is watched.

Use it as the first thing in `main`, before the slow imports:

    line = lifeline.hold()
    ...
    await serve(hosts, on_ready=line.ready)
"""

import os
import signal
import socket
import threading
from collections.abc import Mapping, MutableMapping

ENVIRONMENT_VARIABLE = "SUPERVISOR_FD"
READY = "ready"
EXIT_ABANDONED = 70
"""Exit code of a child that outlived its supervisor by more than its grace."""


class Lifeline:
    """One end of the line; `line` is None in a process that nobody supervises."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line

    def ready(self, ports: Mapping[str, int] | None = None) -> None:
        """Tells the supervisor that this process serves; `ports` by name, for those who listen on any."""
        if self._line is None:
            return
        words = [READY, *(f"{name}={port}" for name, port in (ports or {}).items())]
        try:
            self._line.sendall(" ".join(words).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # the supervisor is gone: the watching thread has seen it too and is stopping this process

    def watch(self, grace_s: float) -> None:
        """Starts the thread that ends this process when the supervisor is gone.

        A thread, because it must also end a process whose event loop hangs or has not started yet.
        """
        if self._line is not None:
            threading.Thread(target=_end_with, args=(self._line, grace_s), name="lifeline", daemon=True).start()


def hold(*, grace_s: float = 10.0, environment: MutableMapping[str, str] = os.environ) -> Lifeline:
    """Takes this process's end of the line out of the environment and watches it.

    The variable is removed and the descriptor closed on exec, so that a grandchild cannot mistake it for its own.
    `grace_s` is how long draining may take after the supervisor is gone.
    """
    descriptor = environment.pop(ENVIRONMENT_VARIABLE, "")
    if not descriptor.isdigit():
        return Lifeline(None)
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)
    lifeline = Lifeline(line)
    lifeline.watch(grace_s)
    return lifeline


def _end_with(line: socket.socket, grace_s: float) -> None:
    try:
        while line.recv(64):
            pass
    except OSError:
        pass  # a broken line and an ended one mean the same
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace_s)
    os._exit(EXIT_ABANDONED)
