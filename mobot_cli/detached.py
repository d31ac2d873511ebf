"""`mobot up --detach` and `mobot down`: the supervisor without a terminal.

The supervisor is started in a session of its own and tells over a pipe, when all is ready, what `mobot up` would have
shown. If it ends before that, the pipe ends without a word and its log says why.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from mobot_cli import instance, logfile, preflight
from mobot_cli.layout import Layout
from mobot_cli.screen import Screen

_POLL_S = 0.05
_STOP_PATIENCE_S = 60.0  # three stages of draining, each with its grace
_TAIL_LINES = 20


def start(layout: Layout, arguments: Sequence[str], screen: Screen) -> int:
    """Runs `mobot up <arguments>` in the background; returns when it is ready (0), or its exit code.

    Raises:
        CannotStart: the data directory, where its log belongs, cannot be written.
    """
    preflight.prepare(layout)
    log_file = layout.log_file("mobot")
    logfile.rotate(log_file)
    reader, writer = os.pipe()
    log = logfile.open_for_append(log_file)
    log_start = os.fstat(log).st_size
    command = [sys.executable, "-P", "-m", "mobot_cli", "up", *arguments, "--announce-fd", str(writer)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writer,), start_new_session=True
    )
    os.close(writer)
    os.close(log)
    try:
        with os.fdopen(reader) as announcement:
            said = announcement.read()
    except KeyboardInterrupt:  # the start was called off
        process.terminate()
        process.wait()
        raise
    if said:
        screen.say(said)
        process.returncode = 0  # it lives on; subprocess would warn that nobody waits for it
        return 0
    code = process.wait()
    screen.failure("mobot did not start:", logfile.last_lines(log_file, since=log_start, count=_TAIL_LINES))
    return code if code > 0 else 1


def stop(layout: Layout, screen: Screen) -> int:
    """Asks the running supervisor to stop and waits for it; 0 when nothing runs afterwards."""
    pid = instance.running_pid(layout)
    if pid is None:
        screen.say(f"mobot is not running on {layout.data_dir}\n")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_PATIENCE_S
    while instance.running_pid(layout) == pid:
        if time.monotonic() > deadline:
            screen.error(f"pid {pid} has not stopped within {_STOP_PATIENCE_S:g} s; `kill -9 {pid}` ends it at once")
            return 1
        time.sleep(_POLL_S)  # the kernel tells nobody when a lock becomes free
    screen.say(f"stopped (pid {pid})\n")
    return 0
