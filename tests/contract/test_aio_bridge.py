"""Servicers under fake time and odd metadata, through grpcio-testing's fake server and the bridge."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc_testing
import pytest
from aio_bridge import AioBridge

from chassis.channel import Dialer
from chassis.clock import FakeClock
from chassis.errors import AppError
from chassis.identity import caller, mint_token
from chassis.local_handlers import LocalHandlers
from chassis.server import Service
from chassis.settings import ChassisSettings
from chassis.status import DETAILS_KEY, from_rpc_error
from chassis.telemetry import Telemetry
from mobot.registry.v1 import bot_pb2, registry_service_pb2, registry_service_pb2_grpc
from mobot.session.v1 import event_pb2, part_pb2, session_service_pb2
from registry_service.__main__ import compose as compose_registry
from registry_service.settings import RegistrySettings
from session_service.__main__ import compose as compose_session
from session_service.settings import SessionSettings

SECRET = "a secret of the tests"
ROOT = (("authorization", f"Bearer {SECRET}"),)
REGISTRY = registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"]
SESSION = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
pb = registry_service_pb2


class Probe(registry_service_pb2_grpc.RegistryServiceServicer):
    """Notes what its handlers see."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.remaining: list[float | None] = []
        self.ended = threading.Event()

    async def GetBot(self, request, context):
        await asyncio.sleep(0)
        self.threads.append(threading.current_thread().name)
        self.remaining.append(context.time_remaining())
        return pb.GetBotResponse(bot=bot_pb2.Bot(name=request.name, owner=caller().actor))

    async def ListBots(self, request, context):
        raise ZeroDivisionError("a bug")

    async def WatchBots(self, request, context):
        try:
            yield pb.WatchBotsResponse(resume_token="1")
            await asyncio.Event().wait()
        finally:
            self.remaining.append(context.time_remaining())
            self.ended.set()

    async def Heartbeat(self, request_iterator, context):
        async for request in request_iterator:
            yield pb.HeartbeatResponse(credit=request.credit * 2)


async def _nothing() -> Any:
    return None


def probe_service(probe: Probe) -> Service:
    register = registry_service_pb2_grpc.add_RegistryServiceServicer_to_server
    return Service("registry", REGISTRY.full_name, probe, register, _nothing, _nothing, _nothing)


@contextmanager
def bridged(descriptor: Any, clock: FakeClock, compose: Callable[[], Any]) -> Iterator[AioBridge]:
    time = grpc_testing.strict_fake_time(clock.now().timestamp())
    with AioBridge(descriptor, time, secret=SECRET) as bridge:
        service = bridge.run(compose())
        bridge.host(service, clock)
        yield bridge
        bridge.run(service.end_watches())
        bridge.run(service.close())


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def probed(probe: Probe, clock: FakeClock) -> Iterator[AioBridge]:
    async def compose() -> Service:
        return probe_service(probe)

    with bridged(REGISTRY, clock, compose) as bridge:
        yield bridge


@pytest.fixture
def registry(tmp_path: Path, clock: FakeClock) -> Iterator[AioBridge]:
    async def compose() -> Service:
        return await compose_registry(
            RegistrySettings(),
            ChassisSettings(data_dir=tmp_path, token=SECRET),
            dialer=Dialer({}, token=SECRET, actor=None),
            clock=clock,
            telemetry=Telemetry.off(),
        )

    with bridged(REGISTRY, clock, compose) as bridge:
        yield bridge


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock) -> Iterator[AioBridge]:
    async def compose() -> Service:
        handlers = LocalHandlers("registry")
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(EveryBot(), handlers)
        dialer = Dialer({"registry": "local:"}, token=SECRET, actor="services/session")
        dialer.add_handlers(handlers)
        return await compose_session(
            SessionSettings(),
            ChassisSettings(data_dir=tmp_path, token=SECRET),
            dialer=dialer,
            clock=clock,
            telemetry=Telemetry.off(),
        )

    with bridged(SESSION, clock, compose) as bridge:
        yield bridge


class EveryBot(registry_service_pb2_grpc.RegistryServiceServicer):
    async def GetBot(self, request, context):
        return pb.GetBotResponse(bot=bot_pb2.Bot(name=request.name))


def response_of(call: Any) -> Any:
    response, _, code, details = call.termination()
    assert code is grpc.StatusCode.OK, details
    return response


def error_of(call: Any) -> AppError:
    """What a client would make of how the call ended."""
    *_, trailing, code, details = call.termination()
    assert code is not grpc.StatusCode.OK
    metadata = grpc.aio.Metadata(*((key, value) for key, value in trailing if key == DETAILS_KEY))
    return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details))


# The bridge itself.


def test_an_async_handler_really_runs_and_on_the_loops_own_thread(probed, probe):
    response = response_of(probed.unary("GetBot", pb.GetBotRequest(name="bots/main"), ROOT))
    assert (response.bot.name, response.bot.owner) == ("bots/main", "operators/root")
    assert probe.threads == ["aio-bridge"]


def test_an_async_generator_answers_in_order_until_the_client_has_enough(probed, probe):
    call = probed.server_stream("WatchBots", pb.WatchBotsRequest(), ROOT)
    assert call.take_response().resume_token == "1"
    call.cancel()
    assert probe.ended.wait(timeout=40)


def test_requests_reach_an_async_handler_as_they_are_sent(probed):
    call = probed.both_streams("Heartbeat", ROOT)
    for credit in (1, 2, 3):
        call.send_request(pb.HeartbeatRequest(credit=credit))
        assert call.take_response().credit == credit * 2
    call.requests_closed()
    assert call.termination()[1] is grpc.StatusCode.OK


def test_a_bug_in_a_handler_is_an_internal_error_without_its_words(probed):
    error = error_of(probed.unary("ListBots", pb.ListBotsRequest(), ROOT))
    assert (error.code, error.reason, error.message) == ("INTERNAL", "INTERNAL_ERROR", "internal error")


# Fake time.


def test_a_handler_sees_the_clients_deadline_in_the_fake_time(probed, probe):
    request = pb.GetBotRequest(name="bots/main")
    response_of(probed.unary("GetBot", request, ROOT, timeout_s=86_400))
    response_of(probed.unary("GetBot", request, ROOT))
    assert probe.remaining == [86_400, None]


def test_a_watch_ends_in_the_instant_of_its_deadline_and_lets_go(probed, probe):
    call = probed.server_stream("WatchBots", pb.WatchBotsRequest(), ROOT, timeout_s=3_600)
    call.take_response()
    probed.time.sleep_for(3_599)
    assert not probe.ended.is_set()
    probed.time.sleep_for(1)
    assert call.termination()[1] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert probe.ended.wait(timeout=40)
    assert probe.remaining == [0.0]


def test_a_watch_of_the_registry_gives_its_snapshot_and_ends_with_its_deadline(registry):
    bot = bot_pb2.Bot(brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain()))
    response_of(registry.unary("CreateBot", pb.CreateBotRequest(bot_id="main", bot=bot), ROOT))
    call = registry.server_stream("WatchBots", pb.WatchBotsRequest(), ROOT, timeout_s=60)
    names: list[str] = []
    while True:
        frame = call.take_response()
        names += [change.bot.name for change in frame.changes]
        if frame.phase == pb.WATCH_PHASE_SNAPSHOT_END:
            break
    assert names == ["bots/main"]
    registry.time.sleep_for(60)
    assert call.termination()[1] is grpc.StatusCode.DEADLINE_EXCEEDED


def test_times_in_a_bot_are_those_of_the_services_clock(registry, clock):
    bot = bot_pb2.Bot(brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain()))
    made = response_of(registry.unary("CreateBot", pb.CreateBotRequest(bot_id="main", bot=bot), ROOT)).bot
    clock.advance(timedelta(days=400))
    made.description = "later"
    updated = response_of(registry.unary("UpdateBot", pb.UpdateBotRequest(bot=made), ROOT)).bot
    assert updated.update_time.seconds - updated.create_time.seconds == 400 * 86_400


# Odd metadata.


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", SECRET),),
        (("authorization", f"Basic {SECRET}"),),
        (("authorization", f"Bearer {SECRET} "),),
        (("authorization", "Bearer mb1.."),),
        (("authorization", f"Bearer {mint_token('another secret', 'operators/root')}"),),
        (("Authorization-Bin", SECRET.encode()),),
        (*ROOT, ("authorization", "Bearer the last one counts")),
    ],
    ids=["none", "empty", "bare", "basic", "space", "unsigned", "other-deployment", "binary", "twice"],
)
def test_a_call_without_a_good_token_is_refused_before_the_servicer(probed, probe, metadata):
    error = error_of(probed.unary("GetBot", pb.GetBotRequest(name="bots/main"), metadata))
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert probe.threads == []


@pytest.mark.parametrize(
    "extra",
    [
        ("traceparent", "not a trace"),
        ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
        ("x-anything-bin", b"\x00\xff"),
        ("mobot-unknown", "x" * 4_000),
    ],
)
def test_metadata_that_means_nothing_is_left_alone(probed, extra):
    assert response_of(probed.unary("GetBot", pb.GetBotRequest(name="bots/main"), (*ROOT, extra)))


def test_only_root_speaks_for_others(probed):
    request = pb.GetBotRequest(name="bots/main")
    response = response_of(probed.unary("GetBot", request, (*ROOT, ("mobot-actor", "bots/scout"))))
    assert response.bot.owner == "bots/scout"
    token = mint_token(SECRET, "bots/main")
    metadata = (("authorization", f"Bearer {token}"), ("mobot-actor", "bots/scout"))
    assert error_of(probed.unary("GetBot", request, metadata)).code == "PERMISSION_DENIED"


# Real servicers, told in codes and reasons.


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        ("GetBot", pb.GetBotRequest(name="bots/nobody"), "NOT_FOUND", "BOT_NOT_FOUND"),
        ("GetBot", pb.GetBotRequest(name="bots/../x"), "INVALID_ARGUMENT", "RESOURCE_NAME_INVALID"),
        ("ListBots", pb.ListBotsRequest(page_size=-1), "INVALID_ARGUMENT", "FIELD_INVALID"),
        ("ListBots", pb.ListBotsRequest(page_token="forged"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
    ],
)
def test_the_registry_refuses_with_a_code_and_a_reason(registry, method, request_, code, reason):
    error = error_of(registry.unary(method, request_, ROOT))
    assert (error.code, error.reason, error.domain) == (code, reason, "registry.mobot")


def test_a_page_token_leads_on_through_all_bots(registry):
    bot = bot_pb2.Bot(brain=bot_pb2.Brain(echo=bot_pb2.EchoBrain()))
    for number in range(5):
        response_of(registry.unary("CreateBot", pb.CreateBotRequest(bot_id=f"bot-{number}", bot=bot), ROOT))
    names: list[str] = []
    token = ""
    while True:
        page = response_of(registry.unary("ListBots", pb.ListBotsRequest(page_size=2, page_token=token), ROOT))
        names += [found.name for found in page.bots]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"bots/bot-{number}" for number in range(5)]


def test_a_bot_reads_its_own_log_and_finds_no_other(session):
    name = "bots/main/sessions/diary"
    message = event_pb2.MessageAppended(role=event_pb2.ROLE_USER, parts=[part_pb2.Part(text="hello")])
    append = session_service_pb2.SessionAppend(
        session=name,
        events=[event_pb2.Event(id="m1", message=message)],
        ensure=session_service_pb2.EnsureSession(created_via="mail"),
    )
    response_of(session.unary("AppendEvents", session_service_pb2.AppendEventsRequest(append=append), ROOT))
    request = session_service_pb2.ListEventsRequest(parent=name)
    listed = response_of(session.unary("ListEvents", request, (*ROOT, ("mobot-actor", "bots/main"))))
    assert [event.id for event in listed.events if event.HasField("message")] == ["m1"]
    assert [event.sequence for event in listed.events] == list(range(1, len(listed.events) + 1))
    error = error_of(session.unary("ListEvents", request, (*ROOT, ("mobot-actor", "bots/scout"))))
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
