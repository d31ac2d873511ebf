"""A process that writes to sessions and watches all of them, until it ends itself without warning around a commit.

Each line it prints is something it knows: "a SESSION SEQUENCE ID" for an acknowledged append, "w POSITION" for an event
that its watch has delivered.
"""

import asyncio
import itertools
import os
import random
import sys
from datetime import timedelta

from prometheus_client import CollectorRegistry
from session_stores import append, finished, message, name, open_store, started

from chassis.clock import SystemClock
from chassis.errors import AppError
from session_service.domain.rules import Rules
from session_service.feed.hub import Hub
from session_service.feed.subscription import WatchQuery
from session_service.feed.watch import Patience, Watch
from session_service.operations.metrics import SweepMetrics
from session_service.operations.sweeper import Sweeper
from session_service.store import changing

MOMENT = timedelta(microseconds=1)


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def main(url: str, moment: str, commits: int, resume: int) -> None:
    left = itertools.count(commits, -1)

    def hook(now: str) -> None:
        if now == moment and next(left) == 0:
            os._exit(9)

    chance = random.Random(commits)
    # Sessions are warned of at once and archived by the next sweep: the sweeps die as well.
    rules = Rules(idle_ttl=1, expiry_warning=0)
    store = await open_store(url, SystemClock(), commit_hook=hook, rules=rules)
    hub = Hub(store, queue_events=50, poll_interval_s=None)
    store.listen(hub)
    await hub.start()
    watch = Watch(hub, store, WatchQuery(), start=resume, snapshot=False, checkpoint_s=30, patience=Patience())
    run = f"{commits}{moment}{resume}"

    async def deliver() -> None:
        async for frame in watch:
            for event in frame.events:
                say(f"w {event.position}")

    async def write(session: str) -> None:
        for number in itertools.count():
            ids = [f"{run}-{number}-{which}" for which in range(chance.randint(1, 4))]
            events = [message(each) for each in ids]
            if chance.random() < 0.3:
                events += [started(ids[0]), finished(ids[0])]
            try:
                done = await store.append(append(session, *events))
            except AppError:  # archived by the sweeper
                await store.write(lambda tx: changing.unarchive_session(tx, name(session), "x"))
                continue
            for event, sequence in zip(events, done.sequences, strict=True):
                say(f"a {session} {sequence} {event.id}")

    async def change(session: str) -> None:
        while True:
            act = chance.choice((changing.reset_session, changing.archive_session))
            try:
                await store.write(lambda tx, act=act: act(tx, name(session), changing.NOTHING_EXPECTED, "", "x"))
                if act is changing.archive_session:
                    await store.write(lambda tx: changing.unarchive_session(tx, name(session), "x"))
            except AppError:
                await asyncio.sleep(0)  # not there yet

    sweeper = Sweeper(store, SweepMetrics(CollectorRegistry()), interval_s=0.005)
    sweeper.start()
    await asyncio.gather(deliver(), change("s0"), *(write(f"s{which}") for which in range(4)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
