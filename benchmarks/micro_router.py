"""What the router costs by itself: sends over a stream, deliveries and completions over another, each fsync'd.

Everything runs in one process, on local channels, with a session service that acknowledges and stores nothing; so the
numbers are the router's own. `python benchmarks/micro_router.py [--profile] [--sessions N] [--messages N]` prints one
JSON line.
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

import grpc.aio

from chassis.channel import LOCAL, Dialer
from chassis.clock import SystemClock
from chassis.identity import Authenticator, mint_token
from chassis.server import Service, ServiceHost
from chassis.telemetry import Telemetry
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc
from router_service.router import Router
from router_service.settings import RouterSettings

SECRET = "benchmark"
BODY = "x" * 150


# ruff: noqa: ARG002 - gRPC gives every method a context


class Registry(registry_service_pb2_grpc.RegistryServiceServicer):
    async def GetBot(self, request, context):
        answer = registry_service_pb2.GetBotResponse()
        answer.bot.name = request.name
        answer.bot.concurrency = 1_000
        return answer


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Acknowledges; `calls` and `appends` say how well the router batched."""

    def __init__(self):
        self.calls = self.appends = 0

    async def BatchAppendEvents(self, request, context):
        self.calls += 1
        self.appends += len(request.appends)
        response = session_service_pb2.BatchAppendEventsResponse()
        for append in request.appends:
            outcome = response.outcomes.add()
            outcome.sequences.extend(range(1, len(append.events) + 1))
        return response


async def host(name, servicer, register, dialer):
    async def nothing():
        return None

    async def ready():
        return True

    service = Service(name, f"mobot.{name}.v1", servicer, register, ready, nothing, nothing)
    made = ServiceHost(service, authenticator=Authenticator(SECRET), listen=(), telemetry=Telemetry.off())
    dialer.add_handlers(made.local_handlers)


async def attach(stub, bots, credit, complete, seen):
    call = stub.Attach()
    hello = router_service_pb2.AttachRequest()
    hello.hello.worker, hello.hello.credit = "workers/bench", credit
    hello.hello.bots.extend(bots)
    await call.write(hello)
    await call.read()

    async def work():
        while (frame := await call.read()) is not grpc.aio.EOF:
            if not frame.deliveries:
                continue
            answer = router_service_pb2.AttachRequest()
            for delivery in frame.deliveries:
                completion = answer.completions.add()
                completion.run, completion.epoch = delivery.message.run, delivery.epoch
            seen(frame.deliveries)
            if complete:
                await call.write(answer)

    return call, asyncio.create_task(work())


async def stream(stub, messages, sessions, frame, window, bots, keyed):
    """Sends `messages` over one stream; returns seconds until all are completed."""
    left = messages
    done = asyncio.Event()

    def seen(deliveries):
        nonlocal left
        left -= len(deliveries)
        if left <= 0:
            done.set()

    names = [f"bots/{bots[n % len(bots)]}/sessions/s{n}" for n in range(sessions)]
    call, task = await attach(stub, [f"bots/{bot}" for bot in bots], 2_000, True, seen)
    sending = stub.Send()
    await sending.write(router_service_pb2.SendRequest())
    await sending.read()
    sent = answered = 0
    room = asyncio.Event()

    async def outcomes():
        nonlocal answered
        while answered < messages:
            response = await sending.read()
            for outcome in response.outcomes:
                assert outcome.HasField("receipt"), outcome
            answered += len(response.outcomes)
            room.set()

    reading = asyncio.create_task(outcomes())
    started = time.perf_counter()
    while sent < messages:
        while sent - answered > window - frame:
            room.clear()
            await room.wait()
        request = router_service_pb2.SendRequest(first_number=sent + 1)
        for _ in range(min(frame, messages - sent)):
            draft = request.messages.add()
            draft.session = names[sent % sessions]
            draft.parts.add().text = BODY
            if keyed:
                draft.idempotency_key = f"{started}-{sent}"
            sent += 1
        await sending.write(request)
    await reading
    accepted = time.perf_counter() - started
    await done.wait()
    elapsed = time.perf_counter() - started
    sending.cancel()
    call.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return accepted, elapsed


async def one_by_one(stub, count):
    """Median seconds from a unary send to its receipt and to its delivery, with one in flight."""
    arrived = asyncio.Event()
    call, task = await attach(stub, ["bots/main"], 10, True, lambda _: arrived.set())
    to_receipt, to_delivery = [], []
    for number in range(count):
        arrived.clear()
        draft = message_pb2.MessageDraft(session=f"bots/main/sessions/l{number % 64}")
        draft.parts.add().text = BODY
        started = time.perf_counter()
        sending = asyncio.ensure_future(stub.SendMessage(router_service_pb2.SendMessageRequest(message=draft)))
        await arrived.wait()
        to_delivery.append(time.perf_counter() - started)
        await sending
        to_receipt.append(time.perf_counter() - started)
        await asyncio.sleep(0.002)
    call.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sorted(to_receipt)[count // 2], sorted(to_delivery)[count // 2]


async def main(options):
    with tempfile.TemporaryDirectory(prefix="mobot-bench-", dir=options.directory) as directory:
        dialer = Dialer({"registry": LOCAL, "session": LOCAL, "router": LOCAL}, token=SECRET, actor=None)
        sessions = Sessions()
        await host("registry", Registry(), registry_service_pb2_grpc.add_RegistryServiceServicer_to_server, dialer)
        await host("session", sessions, session_service_pb2_grpc.add_SessionServiceServicer_to_server, dialer)
        dialer = Dialer(
            {"registry": LOCAL, "session": LOCAL, "router": LOCAL},
            token=mint_token(SECRET, "services/router"),
            actor=None,
        )
        await host("registry", Registry(), registry_service_pb2_grpc.add_RegistryServiceServicer_to_server, dialer)
        await host("session", sessions, session_service_pb2_grpc.add_SessionServiceServicer_to_server, dialer)
        router = await Router.open(
            RouterSettings(),
            options.url or f"sqlite:///{Path(directory) / 'router.sqlite3'}",
            registry=dialer.dial("registry"),
            session=dialer.dial("session"),
            clock=SystemClock(),
            page_secret=b"benchmark",
            migrate=True,
        )
        await host("router", router.servicer, router_service_pb2_grpc.add_RouterServiceServicer_to_server, dialer)
        stub = router_service_pb2_grpc.RouterServiceStub(dialer.dial("router"))
        bots = [f"b{number}" for number in range(8)]
        await stream(stub, 2_000, options.sessions, 32, options.window, bots, options.keyed)
        sessions.calls = sessions.appends = 0
        profile = cProfile.Profile() if options.profile else None
        if profile:
            profile.enable()
        cpu = time.process_time()
        accepted, elapsed = await stream(
            stub, options.messages, options.sessions, 32, options.window, bots, options.keyed
        )
        cpu = time.process_time() - cpu
        if profile:
            profile.disable()
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)
        receipt, delivery = await one_by_one(stub, 200)
        print(
            json.dumps(
                {
                    "name": "micro_router",
                    "messages_per_s": round(options.messages / elapsed),
                    "accepted_per_s": round(options.messages / accepted),
                    "cpu_us": round(cpu / options.messages * 1e6, 1),
                    "appends_per_call": round(sessions.appends / max(1, sessions.calls), 1),
                    "send_to_receipt_p50_us": round(receipt * 1e6),
                    "send_to_delivery_p50_us": round(delivery * 1e6),
                    "sessions": options.sessions,
                    "n": options.messages,
                }
            )
        )
        await dialer.close()
        await router.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--sessions", type=int, default=256)
    parser.add_argument("--window", type=int, default=1_024)
    parser.add_argument("--url", default="")
    parser.add_argument("--directory", default=None)
    parser.add_argument("--keyed", action="store_true")
    parser.add_argument("--profile", action="store_true")
    asyncio.run(main(parser.parse_args()))
