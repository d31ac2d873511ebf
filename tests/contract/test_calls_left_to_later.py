"""A call that the contract has and the servicer does not: a clear answer, over a local channel and over TCP."""

import grpc
import pytest

from chassis.channel import Dialer
from chassis.errors import Unimplemented
from chassis.identity import Authenticator
from chassis.server import Service, ServiceHost
from chassis.status import from_rpc_error
from mobot.session.v1 import session_service_pb2, session_service_pb2_grpc

SECRET = "a secret of the tests"
METHODS = {
    "SearchEvents": session_service_pb2.SearchEventsRequest(query="x"),
    "ExportSession": session_service_pb2.ExportSessionRequest(name="bots/a/sessions/b"),
}


async def nothing() -> None:
    return None


async def always() -> bool:
    return True


@pytest.fixture(params=["local", "tcp"])
async def stub(request):
    service = Service(
        name="session",
        full_name="mobot.session.v1.SessionService",
        servicer=session_service_pb2_grpc.SessionServiceServicer(),
        register=session_service_pb2_grpc.add_SessionServiceServicer_to_server,
        ready=always,
        end_watches=nothing,
        close=nothing,
    )
    listen = ["127.0.0.1:0"] if request.param == "tcp" else []
    host = ServiceHost(service, authenticator=Authenticator(SECRET), listen=listen, grace_s=0.5)
    ports = await host.start()
    target = "local:" if request.param == "local" else f"127.0.0.1:{next(iter(ports.values()))}"
    dialer = Dialer({"session": target}, token=SECRET, actor=None)
    if request.param == "local":
        dialer.add_handlers(host.local_handlers)
    yield session_service_pb2_grpc.SessionServiceStub(dialer.dial("session"))
    await dialer.close()
    await host.drain()


@pytest.mark.parametrize("method", METHODS)
async def test_it_answers_unimplemented_and_names_the_method(stub, method):
    call = getattr(stub, method)(METHODS[method])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (call.read() if method == "ExportSession" else call)
    error = from_rpc_error(refused.value)
    assert isinstance(error, Unimplemented)
    assert error.reason == "METHOD_UNIMPLEMENTED"
    assert error.metadata["method"].endswith(method)
