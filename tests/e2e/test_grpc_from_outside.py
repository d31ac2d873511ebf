"""The four services as another program meets them: generated stubs over loopback TCP, in both layouts."""

import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from harness import SERVICES, Mobot
from session_log import authorization

from mobot.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from mobot.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from mobot.router.v1 import message_pb2, router_service_pb2, router_service_pb2_grpc
from mobot.session.v1 import part_pb2, session_service_pb2, session_service_pb2_grpc

pytestmark = pytest.mark.e2e

TIMEOUT_S = 10
CALLS: dict[str, tuple[type, str, Any]] = {
    "registry": (
        registry_service_pb2_grpc.RegistryServiceStub,
        "ListBots",
        registry_service_pb2.ListBotsRequest(),
    ),
    "session": (
        session_service_pb2_grpc.SessionServiceStub,
        "ListSessions",
        session_service_pb2.ListSessionsRequest(),
    ),
    "memory": (
        memory_service_pb2_grpc.MemoryServiceStub,
        "ListMemories",
        memory_service_pb2.ListMemoriesRequest(parent="bots/main"),
    ),
    "router": (
        router_service_pb2_grpc.RouterServiceStub,
        "ListMessages",
        router_service_pb2.ListMessagesRequest(),
    ),
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def channel(mobot: Mobot, service: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mobot.address(service)) as opened:
        yield opened


def full_name(service: str) -> str:
    return f"mobot.{service}.v1.{service.capitalize()}Service"


def call(channel: grpc.Channel, service: str, metadata: list[tuple[str, str]]) -> object:
    stub, method, request = CALLS[service]
    return getattr(stub(channel), method)(request, metadata=metadata, timeout=TIMEOUT_S)


def test_a_generated_stub_with_the_token_is_answered(mobot: Mobot, service: str, channel: grpc.Channel) -> None:
    assert call(channel, service, authorization(mobot)) is not None


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Basic Zm9vOmJhcg==")],
        [("authorization", "Bearer mb1.Ym90cy9tYWlu.AAAA")],
    ],
    ids=["none", "wrong", "another scheme", "forged"],
)
def test_without_a_valid_token_nobody_is_served(
    service: str, channel: grpc.Channel, metadata: list[tuple[str, str]]
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, service, metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "Traceback" not in refused.value.details()


def test_health_needs_no_token(service: str, channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service=full_name(service))
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def reflect(channel: grpc.Channel, metadata: list[tuple[str, str]]) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=TIMEOUT_S)
    return [listed.name for listed in answer.list_services_response.service]


def test_reflection_lists_the_service_to_those_with_the_token(
    mobot: Mobot, service: str, channel: grpc.Channel
) -> None:
    assert full_name(service) in reflect(channel, authorization(mobot))


def test_reflection_tells_nothing_to_others(service: str, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        reflect(channel, [])
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_message_is_sent_worked_on_and_read_over_grpc_alone(mobot: Mobot) -> None:
    session, run = f"bots/main/sessions/grpc-{uuid.uuid4()}", str(uuid.uuid4())
    metadata = authorization(mobot)
    with (
        grpc.insecure_channel(mobot.address("router")) as to_router,
        grpc.insecure_channel(mobot.address("session")) as to_sessions,
    ):
        router = router_service_pb2_grpc.RouterServiceStub(to_router)
        draft = message_pb2.MessageDraft(
            session=session, parts=[part_pb2.Part(text="over gRPC")], idempotency_key=run, user_input=True
        )
        request = router_service_pb2.SendMessageRequest(message=draft)
        receipt = router.SendMessage(request, metadata=metadata, timeout=TIMEOUT_S).receipt
        assert (receipt.run, receipt.duplicate) == (run, False)

        wait = router_service_pb2.WaitRunRequest(run=run)
        wait.timeout.FromSeconds(TIMEOUT_S)
        waited = router.WaitRun(wait, metadata=metadata, timeout=2 * TIMEOUT_S)
        assert waited.done
        assert waited.message.state == message_pb2.MESSAGE_STATE_SUCCEEDED

        again = router.SendMessage(request, metadata=metadata, timeout=TIMEOUT_S).receipt
        assert (again.run, again.duplicate) == (run, True)

        draft.parts[0].text = "something else"
        conflicting = router_service_pb2.SendMessageRequest(message=draft)
        with pytest.raises(grpc.RpcError) as refused:
            router.SendMessage(conflicting, metadata=metadata, timeout=TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

        sessions = session_service_pb2_grpc.SessionServiceStub(to_sessions)
        listed = sessions.ListEvents(
            session_service_pb2.ListEventsRequest(
                parent=session, filter=session_service_pb2.EventFilter(kinds=["message"])
            ),
            metadata=metadata,
            timeout=TIMEOUT_S,
        )
        assert [event.message.parts[0].text for event in listed.events] == [
            "over gRPC",
            "Mo here. You said: over gRPC",
        ]
