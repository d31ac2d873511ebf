"""A small child for the supervisor's tests: holds its lifeline, journals what happens to it, and misbehaves.

Run as `python fake_process.py <name>`, or through a module `<name>.py` that calls `main("<name>")`. FAKE_JOURNAL is the
file of the journal; FAKE_<NAME> is what it does: `serve` (default), `crash`, `crash-once`, `settings` (exit code 2),
`mute` (never ready), `stubborn` (ignores SIGTERM), `slow` (takes 0.3 s to drain).
"""

import os
import signal
import sys
import time

from chassis import lifeline


def journal(event: str, name: str) -> None:
    with open(os.environ["FAKE_JOURNAL"], "a") as file:
        file.write(f"{event} {name} {os.getpid()}\n")


def main(name: str) -> None:
    behaviour = os.environ.get(f"FAKE_{name.upper()}", "serve")
    line = lifeline.hold(grace_s=1.0)
    with open(os.environ["FAKE_JOURNAL"]) as file:
        first_time = f"started {name} " not in file.read()
    stopping = []

    def stop(number, frame):
        journal("stopping", name)
        if behaviour != "stubborn":
            stopping.append(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, lambda number, frame: journal("interrupted", name))
    journal("started", name)
    if behaviour == "crash" or (behaviour == "crash-once" and first_time):
        sys.stderr.write('{"time": "t", "level": "ERROR", "event": "cannot go on", "code": "E42"}\n')
        sys.exit(1)
    if behaviour == "settings":
        sys.stderr.write("mobot: MOBOT_COLOUR: no mobot process reads this variable\n")
        sys.exit(2)
    if behaviour != "mute":
        line.ready()
    while not stopping:
        time.sleep(0.01)
    if behaviour == "slow":
        time.sleep(0.3)
    journal("stopped", name)


if __name__ == "__main__":
    main(sys.argv[1])
