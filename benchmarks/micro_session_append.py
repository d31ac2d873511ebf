"""Appends to the session service through a local channel, on SQLite with every commit flushed to disk.

Prints one JSON line for each batch size and number of callers: events per second and CPU microseconds per event.

    python benchmarks/micro_session_append.py [--batches 64,256] [--seconds 3] [--watch] [--profile]
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path

from chassis.channel import Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator
from chassis.local_channel import LocalChannel
from chassis.outgoing import Outgoing
from chassis.server import ServiceHost
from chassis.settings import ChassisSettings
from chassis.telemetry import Telemetry
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2, session_service_pb2_grpc
from session_service.__main__ import compose
from session_service.settings import SessionSettings

SECRET = "benchmark"
SESSIONS = 64
TEXT = "The quick brown fox jumps over the lazy dog and does it again and again until the reader has had enough of it."


def turn(run: str) -> list[event_pb2.Event]:
    """A whole turn: what was asked, the attempt, the answer, the end."""
    body = event_pb2.MessageAppended
    return [
        event_pb2.Event(id=f"message/{run}", run=run, message=body(role=1, parts=[part_pb2.Part(text=TEXT)])),
        event_pb2.Event(id=f"run/{run}/started/1", run=run, run_started=event_pb2.RunStarted(attempt=1, epoch=1)),
        event_pb2.Event(id=f"run/{run}/reply", run=run, message=body(role=2, parts=[part_pb2.Part(text=TEXT)])),
        event_pb2.Event(id=f"run/{run}/finished", run=run, run_finished=event_pb2.RunFinished(outcome=1, attempts=1)),
    ]


def batch(number: str, size: int, per_session: int) -> session_service_pb2.BatchAppendEventsRequest:
    """`size` events, `per_session` (1 to 4) of a turn for each of SESSIONS sessions."""
    return session_service_pb2.BatchAppendEventsRequest(
        appends=[
            session_service_pb2.SessionAppend(
                session=f"bots/main/sessions/s{index % SESSIONS}",
                events=turn(f"{number}-{index}")[:per_session],
                epoch=1,
                ensure=session_service_pb2.EnsureSession(created_via="mail"),
            )
            for index in range(size // per_session)
        ]
    )


async def measure(stub, size: int, seconds: float, callers: int, per_session: int) -> dict[str, object]:
    count = 0
    failures = 0
    deadline = time.perf_counter() + seconds
    start, cpu = time.perf_counter(), time.process_time()
    number = time.perf_counter_ns()

    async def appending(caller: int) -> None:
        nonlocal count, failures, number
        while time.perf_counter() < deadline:
            number += 1
            request = batch(f"{size}-{callers}-{caller}-{number}", size, per_session)
            response = await stub.BatchAppendEvents(request)
            count += size
            failures += sum(outcome.HasField("refusal") for outcome in response.outcomes)

    await asyncio.gather(*(appending(caller) for caller in range(callers)))
    elapsed = time.perf_counter() - start
    return {
        "name": f"session_append_batch_{size}_callers_{callers}",
        "events_per_s": round(count / elapsed),
        "cpu_us_per_event": round((time.process_time() - cpu) / count * 1e6, 1),
        "refused": failures,
        "n": count,
    }


async def watching(stub, seen: list[int]) -> None:
    async for frame in stub.WatchEvents(session_service_pb2.WatchEventsRequest()):
        seen[0] += len(frame.events)


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        chassis = ChassisSettings(data_dir=Path(directory), token=SECRET)
        dialer = Dialer({"registry": "local:"}, token=SECRET, actor="services/session")
        service = await compose(
            SessionSettings(), chassis, dialer=dialer, clock=SystemClock(), telemetry=Telemetry.off()
        )
        host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=[])
        await host.start()
        stub = session_service_pb2_grpc.SessionServiceStub(
            LocalChannel(host.local_handlers, Outgoing(SECRET, "services/router"))
        )
        seen = [0]
        watcher = asyncio.create_task(watching(stub, seen)) if arguments.watch else None
        for size in map(int, arguments.batches.split(",")):
            await measure(stub, size, 0.5, 1, arguments.per_session)
            for callers in map(int, arguments.callers.split(",")):
                profile = cProfile.Profile() if arguments.profile else None
                if profile is not None:
                    profile.enable()
                row = await measure(stub, size, arguments.seconds, callers, arguments.per_session)
                if profile is not None:
                    profile.disable()
                    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)
                if watcher is not None:
                    row["watched"] = seen[0]
                print(json.dumps(row), flush=True)
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await host.drain()
        await dialer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="64,256")
    parser.add_argument("--callers", default="1,4")
    parser.add_argument("--per-session", type=int, default=4, choices=(1, 4), help="events for each session of a batch")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--profile", action="store_true")
    asyncio.run(main(parser.parse_args()))
