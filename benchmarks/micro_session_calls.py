"""One caller's calls to the session service through a local channel, with 10,000 sessions stored.

Prints one JSON line for each call: its median and CPU time, the statements it runs, and the turns it takes in threads.

    python benchmarks/micro_session_calls.py [--calls get,update] [--seconds 2] [--database URL] [--profile]
"""

import argparse
import asyncio
import cProfile
import itertools
import json
import pstats
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator
from chassis.local_channel import LocalChannel
from chassis.outgoing import Outgoing
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry
from mobot.session.v1 import event_pb2, part_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc
from session_service.__main__ import compose
from session_service.settings import SessionSettings

pb = session_service_pb2
SECRET = "benchmark"
SESSIONS = 10_000
# The sessions whose histories are read hold a page and more.
LONG = 100
EVENTS = 60
TEXT = "A sentence of some length, so that a message is no shorter than those that people and bots write each other."


def name_of(number: int) -> str:
    return f"bots/main/sessions/bench:{number}"


def _message(number: int) -> event_pb2.Event:
    said = event_pb2.MessageAppended(role=1 + number % 2, parts=[part_pb2.Part(text=TEXT)])
    return event_pb2.Event(id=f"m{number}", message=said)


async def fill(stub) -> None:
    for first in range(0, SESSIONS, 250):
        appends = [
            pb.SessionAppend(
                session=name_of(number),
                events=[_message(event) for event in range(EVENTS if number < LONG else 2)],
                ensure=pb.EnsureSession(created_via="operator"),
            )
            for number in range(first, first + 250)
        ]
        answer = await stub.BatchAppendEvents(pb.BatchAppendEventsRequest(appends=appends))
        assert not any(outcome.HasField("refusal") for outcome in answer.outcomes)
    question = pb.SearchEventsRequest(query="sentence", page_size=1)
    while (await stub.SearchEvents(question)).backlog_count:  # noqa: ASYNC110 - the service makes the index when it can
        await asyncio.sleep(0.2)  # the poll interval of a client, not a synchronisation


def calls(stub) -> dict[str, Callable[[], Awaitable[object]]]:
    view = pb.SessionView(derived_title=True, last_message_preview=True)
    states = [session_pb2.SESSION_STATE_ACTIVE]
    # As the gateway asks for `sessions.list`.
    clients = pb.SessionFilter(exclude_ids=["global", "unknown"], states=states)
    numbers = itertools.count()

    def any_name(below: int = SESSIONS) -> str:
        return name_of(random.randrange(below))

    def update() -> Awaitable[object]:
        session = session_pb2.Session(name=any_name(), unread=bool(next(numbers) % 2))
        request = pb.UpdateSessionRequest(session=session, allow_missing=False, request_id=f"r{next(numbers)}")
        request.update_mask.paths.append("unread")
        return stub.UpdateSession(request)

    def listed(size: int, with_texts: bool = False) -> Awaitable[object]:
        return stub.ListSessions(
            pb.ListSessionsRequest(filter=clients, page_size=size, view=view if with_texts else None, count_total=True)
        )

    return {
        "get": lambda: stub.GetSession(pb.GetSessionRequest(name=any_name())),
        "update": update,
        "events_50": lambda: stub.ListEvents(
            pb.ListEventsRequest(parent=any_name(LONG), descending=True, page_size=50)
        ),
        "events_2": lambda: stub.ListEvents(pb.ListEventsRequest(parent=any_name(), descending=True, page_size=50)),
        "list_100": lambda: listed(100),
        "list_50": lambda: listed(50),
        "list_ui_50": lambda: listed(50, with_texts=True),
    }


async def measure(name: str, call: Callable[[], Awaitable[object]], seconds: float) -> dict[str, object]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    cpu = time.process_time()
    while (start := time.perf_counter()) < end:
        await call()
        times.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return {
        "name": f"session_{name}",
        "p50_us": round(median(times) * 1e6, 1),
        "cpu_us": round(cpu / len(times) * 1e6, 1),
        "n": len(times),
    }


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        chassis = ChassisSettings(data_dir=Path(directory), token=SECRET)
        dialer = Dialer({"registry": "local:"}, token=SECRET, actor="services/session")
        service = await compose(
            SessionSettings(database_url=arguments.database),
            chassis,
            dialer=dialer,
            clock=SystemClock(),
            telemetry=Telemetry.off(),
        )
        host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=[])
        await host.start()
        channel = LocalChannel(host.local_handlers, Outgoing(SECRET, "services/router"))
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        await fill(stub)
        for name, call in calls(stub).items():
            if arguments.calls and name not in arguments.calls.split(","):
                continue
            await measure(name, call, 0.3)
            profile = cProfile.Profile() if arguments.profile else None
            if profile is not None:
                profile.enable()
            row = await measure(name, call, arguments.seconds)
            if profile is not None:
                profile.disable()
                pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(35)
            print(json.dumps(row), flush=True)
        await host.drain()
        await dialer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", default="", help="names of calls; all by default")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--database", help="URL; a SQLite file by default")
    parser.add_argument("--profile", action="store_true")
    asyncio.run(main(parser.parse_args()))
