"""Who may call, and for whom."""

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from wire_world import FULL_NAME, SECRET

from chassis import errors, status
from chassis.identity import mint_token

_HEALTHY = health_pb2.HealthCheckResponse.SERVING


async def _refusal(call) -> errors.AppError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


@pytest.mark.parametrize("token", ["", "mb1.Ym90cy9tYWlu.c2lnbmVk", "mb1", "something else"])
async def test_a_call_without_a_valid_token_is_refused(world, token):
    refusal = await _refusal(world.stub(token=token).Echo(b""))
    assert isinstance(refusal, errors.Unauthenticated)
    assert refusal.reason == errors.UNAUTHENTICATED
    assert refusal.domain == "test.mobot"


async def test_a_token_of_another_deployment_is_refused(world):
    refusal = await _refusal(world.stub(token=mint_token("another secret", "bots/main")).Echo(b""))
    assert isinstance(refusal, errors.Unauthenticated)


async def test_a_stream_without_a_token_is_refused(world):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub(token="").Watch(b"").read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert world.servicer.started == 0


async def test_the_secret_itself_is_the_root_operator(world):
    await world.stub(token=SECRET).Echo(b"")
    seen = world.servicer.seen_caller
    assert (seen.principal, seen.root, seen.actor) == ("operators/root", True, "operators/root")


async def test_a_bot_s_token_proves_the_bot(world):
    await world.stub(token=mint_token(SECRET, "bots/main")).Echo(b"")
    seen = world.servicer.seen_caller
    assert (seen.principal, seen.root, seen.actor) == ("bots/main", False, "bots/main")


async def test_a_bot_cannot_act_for_another_bot(world):
    refusal = await _refusal(world.stub(token=mint_token(SECRET, "bots/main"), actor="bots/other").Echo(b""))
    assert isinstance(refusal, errors.PermissionDenied)
    assert refusal.reason == errors.CALLER_NOT_ALLOWED
    assert world.servicer.seen_caller is None


async def test_a_bot_may_name_itself(world):
    await world.stub(token=mint_token(SECRET, "bots/main"), actor="bots/main").Echo(b"")
    assert world.servicer.seen_caller.actor == "bots/main"


async def test_a_service_acts_for_whom_it_says(world):
    await world.stub(actor="bots/main").Echo(b"")
    seen = world.servicer.seen_caller
    assert (seen.principal, seen.root, seen.actor) == ("services/router", True, "bots/main")


async def test_one_call_may_name_another_actor(world):
    stub = world.stub(actor="bots/main")
    await stub.Echo(b"", metadata=(("mobot-actor", "bots/other"),))
    assert world.servicer.seen_caller.actor == "bots/other"
    await stub.Echo(b"")
    assert world.servicer.seen_caller.actor == "bots/main"


@pytest.mark.parametrize("service", ["", FULL_NAME])
async def test_health_is_answered_without_a_token(world, service):
    check = world.channel(token="").unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(health_pb2.HealthCheckRequest(service=service))).status == _HEALTHY


async def test_health_of_an_unknown_service_is_not_found(world):
    check = world.channel(token="").unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(health_pb2.HealthCheckRequest(service="mobot.nothing.v1.NothingService"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
