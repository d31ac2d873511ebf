import os
import signal
import socket
import subprocess
import sys

import pytest

from chassis import lifeline

CHILD = """
import os, signal, sys, threading
from chassis import lifeline
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
line = lifeline.hold(grace_s=0.2)
assert lifeline.ENVIRONMENT_VARIABLE not in os.environ
line.ready({"registry": 5, "router": 6})
threading.Event().wait()
"""


@pytest.fixture
def started():
    """Starts a child on a lifeline; gives the child and the supervisor's end."""
    children = []

    def start(*arguments):
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, *arguments],
                env={**os.environ, lifeline.ENVIRONMENT_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
            )
        children.append((child, ours))
        return child, ours

    yield start
    for child, ours in children:
        ours.close()
        child.kill()
        child.wait()


def test_a_child_says_that_it_is_ready(started):
    _, line = started()
    assert line.recv(100) == b"ready registry=5 router=6\n"


def test_a_child_is_terminated_when_its_supervisor_is_gone(started):
    child, line = started()
    line.recv(100)
    line.close()
    assert child.wait(10) == -signal.SIGTERM


def test_a_child_that_does_not_drain_is_ended_after_its_grace(started):
    child, line = started("deaf")
    line.recv(100)
    line.close()
    assert child.wait(10) == lifeline.EXIT_ABANDONED


@pytest.mark.parametrize("environment", [{}, {"SUPERVISOR_FD": ""}, {"SUPERVISOR_FD": "x"}])
def test_a_process_that_nobody_supervises_goes_its_way(environment):
    lifeline.hold(environment=environment).ready()


def test_a_child_whose_supervisor_is_gone_may_still_say_that_it_is_ready():
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        lifeline.Lifeline(theirs).ready()
